"""Videos made for tests: each frame carries its own number in its pixels; and what breaks files."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from dynfocus.settings import FrameRule

READERS = ["decord", "pyav"] if find_spec("decord") else ["pyav"]
BITS, HEIGHT, WIDTH = 8, 64, 128
EVERY = FrameRule(size=64, fps=None, interpolation="box")
SPARSE = FrameRule(size=64, fps=None, frames=7, interpolation="box")


def numbered_frame(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A frame whose eight columns are the bits of ``number``."""
    bits = [255 if number >> bit & 1 else 0 for bit in range(BITS)]
    row = np.repeat(np.array(bits, np.uint8), -(-width // BITS))[:width]
    return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()


def numbers(frames: torch.Tensor) -> list[int]:
    centres = [int((bit + 0.5) * frames.shape[2] / BITS) for bit in range(BITS)]
    lit = frames[:, frames.shape[1] // 2, centres, 1] > 128
    return (lit * 2 ** torch.arange(BITS)).sum(1).tolist()


@contextmanager
def same_scheduling() -> Iterator[None]:
    """Leave this thread's scheduling as it was: as root SVT-AV1 makes it real-time, and all else on the core waits."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


@same_scheduling()
def write_video(
    path: Path,
    count: int = 40,
    codec: str = "libx264",
    options: dict | None = None,
    millis: list[int] | None = None,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    turn: int = 0,
    muxing: dict | None = None,
) -> Path:
    """Write numbered frames: 10 a second, or at the given milliseconds."""
    with av.open(str(path), "w", options=muxing or {}) as container:
        stream = container.add_stream(codec, rate=1000 if millis else 10, options=options or {})
        stream.height, stream.width = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if millis:
            stream.time_base = Fraction(1, 1000)
        if turn:
            if not hasattr(stream, "set_display_rotation"):
                pytest.skip("this version of PyAV writes no rotation, which it reads")
            stream.set_display_rotation(turn)
        container.start_encoding()
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number, *size), "rgb24")
            if millis:
                frame.pts = millis[number]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


X264 = {"x264-params": "keyint=12:bframes=3:b-adapt=0:scenecut=0"}
X264_OPEN = {"x264-params": "keyint=12:bframes=3:b-adapt=0:scenecut=0:open-gop=1"}
X265 = {"x265-params": "keyint=12:bframes=3:b-adapt=0:scenecut=0:log-level=none"}
VP9 = {"deadline": "realtime", "cpu-used": "8", "g": "12"}


def sound(path: Path, video: bool = False) -> Path:
    """A file with sound, and a video stream without a frame if asked for."""
    with av.open(str(path), "w") as container:
        if video:
            empty = container.add_stream("libx264", rate=10)
            empty.width, empty.height, empty.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def cut(path: Path, keep: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path


def with_bytes(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path
