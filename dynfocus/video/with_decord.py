"""decord: fast where it can jump from frame to frame; deaf to what its decoder complains of, unless one listens."""

import atexit
import ctypes
import importlib
from functools import cache
from importlib.util import find_spec
from logging import getLogger
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from dynfocus.errors import ConfigError
from dynfocus.records.rows import VideoSegment
from dynfocus.settings import FrameRule
from dynfocus.video.clip import SLACK, Clip, chosen, unreadable
from dynfocus.video.packets import Packets, passed
from dynfocus.video.resizing import resized_all

ERROR = 16  # FFmpeg's level
SPARED = 0.5  # share of the frames up to the last one asked for
ROUNDED = 1e-6  # decord's time stamps are float32
PILE = 16 << 20  # bytes of frames that it may pile up
log = getLogger(__name__)


def installed() -> bool:
    """Whether decord is there; it exists for Linux on x86-64."""
    return find_spec("decord") is not None


@cache
def overheard() -> list[str] | None:
    """A list that grows with every error of decord's FFmpeg, which conceals what it cannot decode; None if unheard of.

    It stays in place for the whole process, so that readers in several threads cannot silence each other.
    """
    decord: ModuleType = importlib.import_module("decord")
    libraries = list((Path(decord.__path__[0]).parent / "decord.libs").glob("libavutil*.so*"))
    if len(libraries) != 1:
        log.warning("decord does without its FFmpeg's complaints of damage (no libavutil beside it): PyAV reads alone")
        return None
    library, heard = ctypes.CDLL(str(libraries[0])), []

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
    def listen(_: Any, level: int, text: bytes, __: Any) -> None:
        if level <= ERROR:
            heard.append(text.decode(errors="replace").strip())

    library.av_log_set_callback(listen)
    atexit.register(lambda: (library.av_log_set_callback(library.av_log_default_callback), listen))
    return heard


def jumps_far(stretch: VideoSegment, rule: FrameRule, packets: Packets) -> bool:
    """Whether jumping spares so many frames that decord is faster than PyAV, and it stays small.

    Where it has to go through most frames it takes twice as long, for PyAV leaves out those that no other is predicted
    from; and its decoder, a thread that nothing holds back, piles up the frames from one key frame to the next.
    """
    if packets.times is None or packets.keys is None or packets.bulk > PILE:
        return False
    indices = chosen(packets.times, rule, stretch)
    return passed(indices, packets.keys) <= SPARED * (indices[-1] + 1)


def read_with_decord(stretch: VideoSegment, rule: FrameRule, packets: Packets, last_resort: bool) -> Clip | None:
    """The clip as decord reads it; None where it fails or is not to be trusted, unless it is the ``last_resort``."""
    decord: ModuleType = importlib.import_module("decord")
    heard = overheard()
    if heard is None:
        if last_resort:
            raise ConfigError(
                "reader=decord of a build whose FFmpeg cannot be overheard",
                "decord with its libavutil beside it, or damage would be painted over",
                "Install decord's own wheel, or use pyav.",
            )
        return None
    before = len(heard)
    try:
        video = decord.VideoReader(str(stretch.path.absolute()), ctx=decord.cpu(0), num_threads=1)
        if len(video) == 0:
            raise unreadable(stretch.path, "it holds no frame")
        stamps = np.asarray(video.get_frame_timestamp(range(len(video))), float)[:, 0]
        stamps -= stamps[0]
        times = packets.times
        if times is None or len(times) != len(stamps) or (np.abs(times - stamps) > SLACK + ROUNDED * times).any():
            raise RuntimeError(f"its packets and decord's {len(stamps)} frames do not agree")
        indices = chosen(times, rule, stretch)
        frames = resized_all((_frame(video, index) for index in indices), len(indices), rule)
        if frames is None or len(heard) > before:
            raise RuntimeError(f"its decoder reports: {heard[before] if len(heard) > before else 'too few frames'}")
    except (RuntimeError, decord.DECORDError, IndexError, ValueError) as error:
        if last_resort:
            raise unreadable(stretch.path, error) from error
        return None
    return Clip(frames, torch.tensor(times[indices], dtype=torch.float32), "decord")


def _frame(video: Any, index: int) -> np.ndarray:
    batch = video.get_batch([index])
    frame = (batch.asnumpy() if hasattr(batch, "asnumpy") else np.asarray(batch))[0]
    if frame.ndim != 3 or frame.shape[-1] != 3:
        raise RuntimeError(f"decord gives a frame of shape {frame.shape}")
    return frame
