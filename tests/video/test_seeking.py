"""PyAV jumps to the key frame before each frame that is asked for: quick where few are, and never a frame beside."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from make_videos import EVERY, VP9, X264, X264_OPEN, X265, numbers, same_scheduling, with_bytes, write_video

from dynfocus.errors import VideoError
from dynfocus.records.rows import VideoSegment
from dynfocus.settings import FrameRule
from dynfocus.video import read_clip, with_pyav
from dynfocus.video.numbered import NumberedFrames
from dynfocus.video.packets import count_decoded_frames, read_packets
from dynfocus.video.time_limit import find_deadline, limit_time

COUNT = 256
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}
KINDS: dict[str, tuple[str, dict | None]] = {
    "mp4": ("a.mp4", None),
    "mkv": ("a.mkv", None),
    "mp4 in fragments": ("a.mp4", FRAGMENTS),
    "mkv without an index": ("a.mkv", {"live": "1"}),
}


def few(count: int) -> FrameRule:
    return FrameRule(size=64, fps=None, frames=count, interpolation="box")


def closed(key: int) -> dict:
    return {"preset": "ultrafast", "x264-params": f"keyint={key}:bframes=3:b-adapt=0:scenecut=0"}


class Counted:
    """A container that counts the packets which it hands on, and may jump beside what it is asked for."""

    packets, jumps, beside = 0, 0, False

    def __init__(self, container: Any) -> None:
        self.container = container

    def demux(self, stream: Any) -> Iterator[av.Packet]:
        for packet in self.container.demux(stream):
            Counted.packets += packet.size > 0
            yield packet

    def decode(self, stream: Any) -> Iterator[av.VideoFrame]:
        yield from self.container.decode(stream)

    def seek(self, at: int, stream: Any) -> None:
        Counted.jumps += 1
        self.container.seek(0 if Counted.beside else at, stream=stream)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> type[Counted]:
    opened = with_pyav._open_video

    @contextmanager
    def counting(stretch: VideoSegment) -> Iterator[tuple[Counted, Any]]:
        with opened(stretch) as (container, stream):
            yield Counted(container), stream

    monkeypatch.setattr(with_pyav, "_open_video", counting)
    for name, value in (("packets", 0), ("jumps", 0), ("beside", False)):
        monkeypatch.setattr(Counted, name, value)
    return Counted


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", [12, 60, 250])
def test_a_jump_finds_every_frame(tmp_path, key, kind):
    name, muxing = KINDS[kind]
    path = write_video(tmp_path / name, COUNT, options=closed(key), muxing=muxing)
    for count in (1, 3, 9, 48):
        clip = read_clip(path, few(count), "pyav")
        assert numbers(clip.frames) == ((np.arange(count) + 0.5) * COUNT / count).astype(int).tolist()
        torch.testing.assert_close(clip.seconds, torch.tensor(numbers(clip.frames)) / 10, atol=2e-3, rtol=0)
    near = (
        {one + by for one in range(0, COUNT, max(key, 48)) for by in range(-3, 4)}
        | set(range(0, COUNT, 37))
        | {COUNT - 1}
    )
    for number in sorted(near & set(range(COUNT))):
        one = read_clip(VideoSegment(path, number / 10 - 0.05, number / 10 + 0.05), EVERY, "pyav")
        assert numbers(one.frames) == [number]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("key", [12, 60])
def test_a_jump_spares_what_lies_between(tmp_path, counted, key, name):
    path = write_video(tmp_path / name, COUNT, options=closed(key))
    for count in (2, 4):
        wanted = ((np.arange(count) + 0.5) * COUNT / count).astype(int).tolist()
        keys = read_packets(path, few(count)).keys
        assert keys is not None
        counted.packets = counted.jumps = 0
        assert numbers(read_clip(path, few(count), "pyav").frames) == wanted
        assert counted.jumps == count
        assert (
            counted.packets <= count_decoded_frames(wanted, keys) + 8 * count
        )  # B-frames come after what they are predicted from


@pytest.mark.parametrize("name", ["a.mp4", "a.webm"])
def test_a_jump_that_misses_changes_no_frame(tmp_path, counted, name):
    codec, options = ("libx264", closed(12)) if name == "a.mp4" else ("libvpx-vp9", VP9)
    path = write_video(tmp_path / name, 60, codec, options)
    counted.beside = True
    assert numbers(read_clip(VideoSegment(path, 3, 5), few(2), "pyav").frames) == [35, 45]
    assert counted.jumps


def test_what_is_decoded_from_a_picture_that_builds_up_is_whole(tmp_path):
    """No frame is whole by itself here but the first: what is marked as a place to begin at shows a part at first."""
    path, draw = tmp_path / "a.mkv", np.random.default_rng(0)
    noise = draw.integers(0, 256, (30, 40, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as container:
        options = {"x264-params": "keyint=20:intra-refresh=1:bframes=0"}
        stream = container.add_stream("libx264", rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(100):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(noise, 5 * number, 1), "rgb24")))
        container.mux(stream.encode())
    right = read_clip(path, EVERY, "pyav").frames
    for number in range(0, 100, 3):
        one = read_clip(VideoSegment(path, number / 10 - 0.05, number / 10 + 0.05), EVERY)
        assert torch.equal(one.frames[0], right[number])
        assert one.reader == "pyav"


AV1 = {"preset": "12", "svtav1-params": "keyint=12:log-level=0"}
X265_CLOSED = {"x265-params": f"{X265['x265-params']}:open-gop=0"}
UNEVEN = [7 * number + number * number // 9 for number in range(96)]
ALL: dict[str, tuple[str, str, dict, str, list[int] | None]] = {
    "H.264, closed": ("a.mp4", "libx264", X264, "yuv420p", None),
    "H.264, open": ("a.mp4", "libx264", X264_OPEN, "yuv420p", None),
    "H.264, open, in Matroska": ("a.mkv", "libx264", X264_OPEN, "yuv420p", None),
    "H.264, open, uneven times": ("a.mp4", "libx264", X264_OPEN, "yuv420p", UNEVEN),
    "H.264 of 10 bits": ("a.mp4", "libx264", X264, "yuv420p10le", None),
    "HEVC, closed": ("a.mp4", "libx265", X265_CLOSED, "yuv420p", None),
    "HEVC, open": ("a.mp4", "libx265", X265, "yuv420p", None),
    "HEVC, open, in Matroska": ("a.mkv", "libx265", X265, "yuv420p", None),
    "HEVC, open, uneven times": ("a.mkv", "libx265", X265, "yuv420p", UNEVEN),
    "VP9": ("a.webm", "libvpx-vp9", VP9, "yuv420p", None),
    "AV1": ("a.mp4", "libsvtav1", AV1, "yuv420p", None),
    "AV1 in WebM": ("a.webm", "libsvtav1", AV1, "yuv420p", None),
    "MPEG-4, closed": ("a.mp4", "mpeg4", {"g": "12"}, "yuv420p", None),
    "MPEG-4, open": ("a.mp4", "mpeg4", {"g": "12", "bf": "2"}, "yuv420p", None),
}


@same_scheduling()
def write_noise(
    path: Path, codec: str, options: dict, pixels: str, millis: list[int] | None = None, count: int = 96
) -> Path:
    """Noise that moves, so that a frame which is predicted from a wrong one has other bits."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=1000 if millis else 10, options=options)
        stream.width, stream.height, stream.pix_fmt = 160, 96, pixels
        if millis:
            stream.time_base = Fraction(1, 1000)
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(np.roll(noise, (number, 3 * number), (0, 1)), "rgb24")
            frame.pts = millis[number] if millis else number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def from_start(path: Path, rule: FrameRule) -> torch.Tensor:
    return read_clip(path, rule, "pyav", replace(read_packets(path, rule), seekable=False)).frames


@pytest.mark.parametrize("kind", ALL)
def test_a_jump_gives_the_bits_of_decoding_from_the_start(tmp_path, counted, kind):
    name, *written = ALL[kind]
    path = write_noise(tmp_path / name, *written)
    right, packets = from_start(path, EVERY), read_packets(path, EVERY)
    assert len(right) == 96
    assert not counted.jumps
    for number in (0, 9, 57, 58, 59, 60, 61, 63, 70, 71, 72, 90, 95):
        second = packets.times[number]
        counted.packets = counted.jumps = 0
        one = read_clip(VideoSegment(path, second, second + 2e-3), EVERY, "pyav", packets)
        assert torch.equal(one.frames, right[number : number + 1]), number
        assert counted.jumps == 1
        assert counted.packets <= number - packets.keys[packets.keys <= number][-1] + 1 + 16  # of 96
    wanted = ((np.arange(5) + 0.5) * 96 / 5).astype(int)
    assert torch.equal(read_clip(path, few(5), "pyav").frames, right[wanted])


@pytest.mark.parametrize("kind", ["H.264, open, uneven times", "HEVC, open", "AV1 in WebM"])
def test_threads_decode_the_same_bits(tmp_path, counted, monkeypatch, kind):
    name, *written = ALL[kind]
    path = write_noise(tmp_path / name, *written)
    monkeypatch.setattr(with_pyav, "LONGEST", 20)
    for rule, jumps in ((EVERY, 4), (few(7), 6)):
        right = from_start(path, rule)
        counted.jumps = 0
        clip = read_clip(path, rule, "pyav", threads=3)
        assert torch.equal(clip.frames, right)
        assert counted.jumps == jumps
    counted.beside = True  # the first frame of the file is found, and then the one that is asked for
    assert torch.equal(read_clip(path, few(7), "pyav", threads=3).frames, right)


def test_threads_notice_what_one_thread_notices(tmp_path, monkeypatch):
    path = write_noise(tmp_path / "a.mp4", "libx264", X264_OPEN, "yuv420p")
    monkeypatch.setattr(with_pyav, "LONGEST", 20)
    whole, results = path.read_bytes(), set()
    for seed in range(12):
        draw = np.random.default_rng(seed)
        at = int(len(whole) * draw.uniform(0.2, 0.8))
        with_bytes(path, whole[:at] + draw.bytes(300) + whole[at + 300 :])
        result = []
        for threads in (1, 3):
            try:
                result.append(read_clip(path, EVERY, "pyav", threads=threads).frames.numpy().tobytes())
            except VideoError as error:
                result.append(str(error))
        assert result[0] == result[1]
        results.add(type(result[0]))
    assert str in results


def test_threads_keep_to_the_limit_of_the_thread_that_reads(tmp_path):
    path = write_noise(tmp_path / "a.mp4", "libx264", X264, "yuv420p")
    video = NumberedFrames(path, threads=3)
    assert len(video.times) == 96
    with limit_time(path):
        deadline = find_deadline()
        assert deadline is not None
        assert video.read(range(0, 96, 12), lambda _: find_deadline()) == 8 * [deadline]
