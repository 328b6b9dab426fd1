"""PyAV jumps to the key frame before each frame that is asked for: quick where few are, and never a frame beside."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import av
import numpy as np
import pytest
import torch
from make_videos import EVERY, VP9, numbers, write_video

from dynfocus.records.rows import VideoSegment
from dynfocus.settings import FrameRule
from dynfocus.video import read_clip, with_pyav
from dynfocus.video.packets import count_decoded_frames, read_packets

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
