"""Videos on real files, made here: each frame carries its own number in its pixels."""

import os
import sys
from fractions import Fraction
from functools import cache

import av
import numpy as np
import pytest
import torch
from make_videos import EVERY, READERS, SPARSE, VP9, X264, X264_OPEN, X265, numbered_frame, numbers, write_video

from dynfocus.errors import ConfigError, VideoError
from dynfocus.records.rows import VideoSegment
from dynfocus.settings import FrameRule
from dynfocus.video import read_clip, with_decord
from dynfocus.video.packets import count_decoded_frames

AV1 = {"preset": "12", "svtav1-params": "keyint=12"}
FILES = [
    ("closed.mp4", "libx264", X264, "decord"),
    ("closed.mkv", "libx264", X264, "decord"),
    ("closed.ts", "libx264", X264, "pyav"),
    ("open.mp4", "libx264", X264_OPEN, "pyav"),
    ("open.mkv", "libx264", X264_OPEN, "pyav"),
    ("hevc.mp4", "libx265", X265, "pyav"),
    ("hevc.mkv", "libx265", X265, "pyav"),
    ("vp9.webm", "libvpx-vp9", VP9, "decord"),
    ("vp8.webm", "libvpx", VP9, "pyav"),
    ("av1.mp4", "libsvtav1", AV1, "pyav"),
    ("av1.webm", "libsvtav1", AV1, "pyav"),
    ("motion.avi", "mjpeg", {}, "pyav"),
    ("motion.mkv", "mjpeg", {}, "decord"),
    ("mpeg4.mp4", "mpeg4", {"g": "12"}, "decord"),
    ("mpeg4b.mp4", "mpeg4", {"g": "12", "bf": "2"}, "pyav"),
    ("mpeg4.avi", "mpeg4", {"g": "12", "bf": "2"}, "pyav"),
    ("mpeg2.ts", "mpeg2video", {"g": "12", "bf": "2"}, "pyav"),
]


@pytest.mark.parametrize(("name", "codec", "options", "reader"), FILES)
def test_every_codec_gives_the_frames_asked_for(tmp_path, name, codec, options, reader):
    path = write_video(tmp_path / name, codec=codec, options=options)
    for demanded in [None, "pyav", *(["decord"] if reader == "decord" and "decord" in READERS else [])]:
        clip = read_clip(path, SPARSE, demanded)
        assert numbers(clip.frames) == [2, 8, 14, 20, 25, 31, 37]
        torch.testing.assert_close(clip.seconds, torch.tensor(numbers(clip.frames)) / 10, atol=2e-3, rtol=0)
        assert numbers(read_clip(path, EVERY, demanded).frames) == list(range(40))
        for number in range(40):
            one = read_clip(VideoSegment(path, number / 10 - 0.05, number / 10 + 0.05), EVERY, demanded)
            assert numbers(one.frames) == [number]
            assert one.seconds.item() == pytest.approx(number / 10, abs=2e-3)
            if number in (24, 36) and "decord" in READERS:
                assert one.reader == (demanded or reader)


def test_writing_leaves_the_scheduling_of_the_tests_alone(tmp_path):
    before = os.sched_getscheduler(0)
    write_video(tmp_path / "a.mp4", codec="libsvtav1", options=AV1)
    assert os.sched_getscheduler(0) == before


@pytest.mark.skipif("decord" not in READERS, reason="decord exists for Linux on x86-64 only")
def test_both_readers_agree(tmp_path):
    path = write_video(tmp_path / "a.mp4", options=X264)
    for rule in (EVERY, SPARSE, FrameRule(size=56, fps=3)):
        one, other = read_clip(path, rule, "decord"), read_clip(path, rule, "pyav")
        assert (one.reader, other.reader) == ("decord", "pyav")
        torch.testing.assert_close(one.seconds, other.seconds, atol=1e-4, rtol=0)
        assert (one.frames.float() - other.frames.float()).abs().max() <= 2


def test_without_decord_pyav_serves(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "decord", None)
    path = write_video(tmp_path / "a.mp4", options=X264)
    clip = read_clip(path, SPARSE)
    assert clip.reader == "pyav"
    assert numbers(clip.frames) == [2, 8, 14, 20, 25, 31, 37]
    with pytest.raises(ConfigError, match="without decord"):
        read_clip(path, SPARSE, "decord")


@pytest.mark.skipif("decord" not in READERS, reason="decord exists for Linux on x86-64 only")
def test_a_decord_that_cannot_be_overheard_is_not_trusted(tmp_path, monkeypatch, caplog):
    import decord

    path = write_video(tmp_path / "a.mp4", count=120, options=X264)
    assert read_clip(path, SPARSE).reader == "decord"
    monkeypatch.setattr(with_decord, "collect_decord_errors", cache(with_decord.collect_decord_errors.__wrapped__))
    monkeypatch.setattr(decord, "__path__", [str(tmp_path / "decord")])  # beside which there is no libavutil
    for _ in range(3):
        assert read_clip(path, SPARSE).reader == "pyav"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no libavutil" in caplog.text
    with pytest.raises(ConfigError, match="cannot report errors"):
        read_clip(path, SPARSE, "decord")


@pytest.mark.skipif("decord" not in READERS, reason="decord exists for Linux on x86-64 only")
def test_decord_reads_where_it_can_jump(tmp_path):
    path = write_video(tmp_path / "a.mp4", count=120, options=X264)
    for rule, reader in [(EVERY, "pyav"), (FrameRule(fps=1), "pyav"), (FrameRule(fps=None, frames=4), "decord")]:
        assert read_clip(path, rule).reader == reader
    assert count_decoded_frames([0, 3, 13, 40], np.array([0, 12, 24, 36])) == 4 + 2 + 5


@pytest.mark.parametrize("turn", [90, -90, 180])
def test_the_frame_is_turned_upright(tmp_path, turn):
    path = write_video(tmp_path / "a.mp4", count=3, turn=turn)
    upright = np.rot90(numbered_frame(1), turn // 90)
    for reader in (None, "pyav"):
        frame = read_clip(path, FrameRule(size=8, fps=None, interpolation="box"), reader).frames[1].numpy()
        expected = upright.reshape(8, upright.shape[0] // 8, 8, upright.shape[1] // 8, 3).mean((1, 3))
        assert np.abs(frame - expected).mean() < 4


def test_time_stamps_are_the_files_own(tmp_path):
    millis = np.cumsum([0, *([20] * 20), *([100] * 19)]).tolist()
    path = write_video(tmp_path / "vfr.mp4", millis=millis)
    seconds = torch.tensor(millis) / 1000
    for reader in READERS:
        clip = read_clip(path, EVERY, reader)
        assert numbers(clip.frames) == list(range(40))
        torch.testing.assert_close(clip.seconds, seconds, atol=2e-3, rtol=0)
        paced = read_clip(path, FrameRule(size=64, fps=2, interpolation="box"), reader)
        wanted = [next(n for n, s in enumerate(millis) if s >= 500 * k) for k in range(millis[-1] // 500 + 1)]
        assert numbers(paced.frames) == wanted


@pytest.mark.parametrize("width", [16, 24, 48, 72])
def test_widths_that_decord_cannot_read_are_read(tmp_path, width):
    path = write_video(tmp_path / "a.mp4", count=20, size=(64, width))
    for size in (width, 224):
        assert numbers(read_clip(path, FrameRule(size, fps=None)).frames) == list(range(20))


def test_one_frame(tmp_path):
    path = write_video(tmp_path / "a.mp4", count=1)
    for reader in READERS:
        clip = read_clip(path, FrameRule(), reader)
        assert clip.frames.shape == (1, 224, 224, 3)
        assert clip.frames.dtype == torch.uint8
        assert clip.seconds.tolist() == [0]


def test_ten_bits_go_where_they_are_read_rightly(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 64, 128, "yuv420p10le"
        for number in range(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_frame(number), "rgb24")))
        container.mux(stream.encode())
    clip = read_clip(path, EVERY)
    assert clip.reader == "pyav"
    for number, frame in enumerate(clip.frames.numpy()):
        expected = numbered_frame(number).reshape(64, 64, 2, 3).mean(2)
        assert np.abs(frame - expected).mean() < 4


def test_clear_pixels_of_videos_lie_on_white(tmp_path):
    path, pixels = tmp_path / "a.mov", np.zeros((64, 64, 4), np.uint8)
    pixels[:, 32:, 3] = 255
    with av.open(str(path), "w") as container:
        stream = container.add_stream("qtrle", rate=10)
        stream.height, stream.width, stream.pix_fmt = 64, 64, "argb"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgba")))
        container.mux(stream.encode())
    frames = read_clip(path, EVERY).frames
    assert (frames[:, :, :32] == 255).all()
    assert (frames[:, :, 32:] == 0).all()


@pytest.mark.parametrize(("begins", "name"), [(-700, "a.mp4"), (-700, "a.ts"), (5000, "a.mp4"), (5000, "a.mkv")])
def test_time_begins_with_the_first_frame(tmp_path, begins, name):
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1000, options=X264)
        stream.height, stream.width, stream.pix_fmt = 64, 128, "yuv420p"
        stream.time_base = Fraction(1, 1000)
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number), "rgb24")
            frame.pts = begins + 100 * number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    shown = list(range(7 if begins < 0 and name == "a.mp4" else 0, 20))  # what an edit list cuts off is not shown
    for reader in (None, "pyav"):
        clip = read_clip(path, EVERY, reader)
        assert numbers(clip.frames) == shown
        torch.testing.assert_close(clip.seconds, torch.arange(len(shown)) / 10, atol=2e-3, rtol=0)
        assert numbers(read_clip(VideoSegment(path, 0.5, 0.8), EVERY, reader).frames) == shown[5:8]


@pytest.mark.parametrize("unit", ["1000000000", "2000000000"])
def test_a_fine_unit_of_time_changes_no_frame(tmp_path, unit):
    """From a delay of 2^28 units on, decord's FFmpeg shows the frames in the order of decoding."""
    path = write_video(tmp_path / "a.mp4", 120, options=X264, muxing={"video_track_timescale": unit})
    assert numbers(read_clip(path, EVERY).frames) == list(range(120))
    for count in (3, 4, 5, 7, 9):
        wanted = ((np.arange(count) + 0.5) * 120 / count).astype(int).tolist()
        clip = read_clip(path, FrameRule(size=64, fps=None, frames=count, interpolation="box"))
        assert numbers(clip.frames) == wanted
    if "decord" in READERS:
        with pytest.raises(VideoError, match="wrong frames"):
            read_clip(path, EVERY, "decord")


@pytest.mark.skipif("decord" not in READERS, reason="decord exists for Linux on x86-64 only")
def test_decord_alone_refuses_what_it_would_read_wrongly(tmp_path):
    path = write_video(tmp_path / "a.mp4", codec="libx265", options=X265)
    with pytest.raises(VideoError, match="wrong frames"):
        read_clip(path, EVERY, "decord")


def test_the_frames_size_may_change_midway(tmp_path):
    path = tmp_path / "a.webm"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=10, options=VP9)
        stream.height, stream.width, stream.pix_fmt = 64, 128, "yuv420p"
        for number in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_frame(number), "rgb24")))
        container.mux(stream.encode())
        later = av.CodecContext.create("libvpx-vp9", "w")
        later.height, later.width, later.pix_fmt = 96, 256, "yuv420p"
        later.time_base, later.framerate, later.options = Fraction(1, 10), Fraction(10), VP9
        for number in [*range(10, 20), None]:
            frame = None if number is None else av.VideoFrame.from_ndarray(numbered_frame(number, 96, 256), "rgb24")
            if frame is not None:
                frame.pts, frame.time_base = number, Fraction(1, 10)
            for packet in later.encode(frame):
                packet.stream = stream
                container.mux(packet)
    for reader in READERS:
        assert numbers(read_clip(path, EVERY, reader).frames) == list(range(20))
