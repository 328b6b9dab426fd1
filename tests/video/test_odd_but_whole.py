"""Files that look damaged and are whole: clips cut without encoding, and streams that outlast the picture."""

import math
from pathlib import Path

import av
import pytest
from make_videos import EVERY, X264, X264_OPEN, numbered_frame, numbers, with_bytes, write_video

from dynfocus.errors import VideoError
from dynfocus.records.rows import VideoSegment
from dynfocus.video import read_clip

SUBTITLES = "1\n00:00:00,000 --> 00:00:01,000\nearly\n\n2\n00:00:07,000 --> 00:00:09,000\nlate\n\n"


def add_subtitles(path: Path, source: Path) -> Path:
    """Copy a video beside subtitles that end at 9 s."""
    texts = path.with_suffix(".srt")
    texts.write_text(SUBTITLES)
    with av.open(str(source)) as pictures, av.open(str(texts)) as words, av.open(str(path), "w") as container:
        inputs = [(pictures, pictures.streams.video[0]), (words, words.streams.subtitles[0])]
        outputs = [container.add_stream_from_template(stream) for _, stream in inputs]
        for (one, stream), output in zip(inputs, outputs, strict=True):
            for packet in one.demux(stream):
                if packet.dts is not None:
                    packet.stream = output
                    container.mux(packet)
    return path


def add_longer_video(path: Path) -> Path:
    """Write 40 frames in 4 s, and a second stream of 80."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=10, options=X264) for _ in range(2)]
        for stream in streams:
            stream.height, stream.width, stream.pix_fmt = 64, 128, "yuv420p"
        for stream, count in zip(streams, (40, 80), strict=True):
            for number in range(count):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_frame(number), "rgb24")))
            container.mux(stream.encode())
    return path


OUTLASTED = {
    "subtitles in Matroska": lambda at: add_subtitles(at / "a.mkv", write_video(at / "b.mp4", options=X264)),
    "a second video in Matroska": lambda at: add_longer_video(at / "a.mkv"),
    "a second video in MP4": lambda at: add_longer_video(at / "a.mp4"),
}


@pytest.mark.parametrize("kind", OUTLASTED)
def test_what_outlasts_the_picture_is_no_damage(tmp_path, kind):
    assert numbers(read_clip(OUTLASTED[kind](tmp_path), EVERY).frames) == list(range(40))


OPEN = {
    "H.264": ("libx264", {"x264-params": "keyint=12:open-gop=1:bframes=3:b-adapt=0:b-pyramid=normal:scenecut=0"}),
    "H.264, all B-frames alike": ("libx264", X264_OPEN),
    "HEVC": ("libx265", {"x265-params": "keyint=12:bframes=3:b-adapt=0:scenecut=0:open-gop=1:log-level=none"}),
    "MPEG-2": ("mpeg2video", {"g": "12", "bf": "2"}),
}


def cut_out(path: Path, source: Path, start: float, whole: bool = False) -> Path:
    """Copy what is shown from ``start`` on without encoding it: from the key frame before that on, as all cutters do.

    With ``whole`` from the beginning on. MP4's edit list then says that what precedes ``start`` is not shown.
    """
    with av.open(str(source)) as original, av.open(str(path), "w") as container:
        stream = original.streams.video[0]
        output = container.add_stream_from_template(stream)
        second = round(1 / stream.time_base)
        packets = [packet for packet in original.demux(stream) if packet.size]
        begin = min(packet.pts for packet in packets)
        for number, packet in enumerate(packets):  # 10 a second, in the order of decoding
            packet.pts -= begin + round(start * second)
            packet.dts = round((number / 10 - 0.5 - start) * second)
            packet.stream = output
        (*_, key) = (number for number, packet in enumerate(packets) if packet.is_keyframe and packet.pts <= 0)
        for packet in packets[0 if whole else key :]:
            container.mux(packet)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("kind", OPEN)
def test_a_clip_that_was_cut_without_encoding_is_read(tmp_path, kind, suffix):
    """Pictures before the cut are missing, which some refer to that are stored after the key frame but not shown."""
    codec, options = OPEN[kind]
    source = write_video(tmp_path / f"source{'.ts' if codec == 'mpeg2video' else '.mkv'}", 60, codec, options)
    for start in (0.0, 0.5, 1.2, 1.3, 2.3, 3.1, 3.6):
        every = read_clip(cut_out(tmp_path / f"a{suffix}", source, start), EVERY)
        shown = numbers(every.frames)
        assert shown == list(range(shown[0], 60))
        assert every.seconds.tolist() == pytest.approx([(number - shown[0]) / 10 for number in shown], abs=2e-3)
        assert shown[0] == round(10 * start) if suffix == ".mp4" else shown[0] <= 10 * start


@pytest.mark.parametrize("kind", ["H.264, closed", *OPEN])
@pytest.mark.parametrize("start", [0.5, 1.2, 1.55, 2.6, 4.3])
def test_an_edit_list_may_begin_behind_any_key_frame(tmp_path, kind, start):
    codec, options = OPEN.get(kind, ("libx264", X264))
    source = write_video(tmp_path / f"source{'.ts' if codec == 'mpeg2video' else '.mkv'}", 60, codec, options)
    path = cut_out(tmp_path / "a.mp4", source, start, whole=True)
    shown = list(range(math.ceil(10 * start), 60))
    assert numbers(read_clip(path, EVERY).frames) == shown
    assert numbers(read_clip(VideoSegment(path, 0.5, 0.8), EVERY).frames) == shown[5:8]
    whole = path.read_bytes()
    end = whole.index(b"mdat") + int.from_bytes(whole[whole.index(b"mdat") - 4 :][:4], "big") - 4
    with_bytes(path, whole[: end - 100] + whole[end:])  # the last frame is not there
    with pytest.raises(VideoError, match="cannot be read"):
        read_clip(path, EVERY)
