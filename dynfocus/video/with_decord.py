"""Read videos with decord: fast where it can jump from frame to frame.

decord gives a frame even where its decoder reports damage, so these reports are collected and checked here.
"""

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
from dynfocus.video.clip import SLACK, Clip, pick_segment_frames, unreadable_error
from dynfocus.video.packets import Packets, count_decoded_frames
from dynfocus.video.resizing import resize_frame, stack_frames
from dynfocus.video.time_limit import seconds_left

ERROR = 16  # FFmpeg's level
MAX_DECODED = 0.5  # share of the frames up to the last one asked for
ROUNDING = 1e-6  # relative; decord's time stamps are float32
MAX_BULK = 16 << 20  # bytes of frames that it may hold at once
log = getLogger(__name__)


def has_decord() -> bool:
    """Return whether decord is installed; it exists for Linux on x86-64."""
    return find_spec("decord") is not None


@cache
def collect_decord_errors() -> list[str] | None:
    """Collect every error of decord's FFmpeg, which conceals what it cannot decode, in a list that keeps growing.

    None where its FFmpeg cannot be reached. The list serves the whole process: FFmpeg has one log callback, and readers
    in several threads would otherwise replace each other's.
    """
    decord: ModuleType = importlib.import_module("decord")
    libraries = list((Path(decord.__path__[0]).parent / "decord.libs").glob("libavutil*.so*"))
    if len(libraries) != 1:
        log.warning("decord's FFmpeg cannot report damage (no libavutil beside decord): PyAV reads alone")
        return None
    library, errors = ctypes.CDLL(str(libraries[0])), []

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
    def append_error(_: Any, level: int, text: bytes, __: Any) -> None:
        if level <= ERROR:
            errors.append(text.decode(errors="replace").strip())

    library.av_log_set_callback(append_error)
    # At exit FFmpeg must not call into Python any more; naming append_error here keeps it alive until then.
    atexit.register(lambda: (library.av_log_set_callback(library.av_log_default_callback), append_error))
    return errors


def jumps_far(segment: VideoSegment, rule: FrameRule, packets: Packets) -> bool:
    """Return whether jumps save so many frames that decord is faster than PyAV, and it needs little memory.

    Where it has to go through most frames it takes twice as long, for PyAV leaves out those that no other is predicted
    from. Its decoder thread has no limit on frames ahead: it holds all from one key frame to the next.
    """
    if packets.times is None or packets.keys is None or packets.bulk > MAX_BULK:
        return False
    indices = pick_segment_frames(packets.times, rule, segment)
    return count_decoded_frames(indices, packets.keys) <= MAX_DECODED * (indices[-1] + 1)


def read_with_decord(segment: VideoSegment, rule: FrameRule, packets: Packets, last_resort: bool) -> Clip | None:
    """Read a clip with decord; None where it fails or cannot be trusted, which the ``last_resort`` raises instead."""
    decord: ModuleType = importlib.import_module("decord")
    errors = collect_decord_errors()
    if errors is None:
        if last_resort:
            raise ConfigError(
                "reader=decord of a build whose FFmpeg cannot report errors",
                "decord with its libavutil beside it, or damage would be painted over",
                "Install decord's own wheel, or use pyav.",
            )
        return None
    before = len(errors)
    try:
        video = decord.VideoReader(str(segment.path.absolute()), ctx=decord.cpu(0), num_threads=1)
        if len(video) == 0:
            raise unreadable_error(segment.path, "it holds no frame")
        stamps = np.asarray(video.get_frame_timestamp(range(len(video))), float)[:, 0]
        stamps -= stamps[0]
        times = packets.times
        if times is None or len(times) != len(stamps) or (np.abs(times - stamps) > SLACK + ROUNDING * times).any():
            raise RuntimeError(f"its packets and decord's {len(stamps)} frames do not agree")
        indices = pick_segment_frames(times, rule, segment)
        resized = (resize_frame(_frame(video, index), rule, packets.pixel) for index in indices)
        frames = stack_frames(resized, len(indices), rule)
        if frames is None or len(errors) > before:
            raise RuntimeError(f"its decoder reports: {errors[before] if len(errors) > before else 'too few frames'}")
    except (RuntimeError, decord.DECORDError, IndexError, ValueError) as error:
        if last_resort:
            raise unreadable_error(segment.path, error) from error
        return None
    return Clip(frames, torch.tensor(times[indices], dtype=torch.float32), "decord")


def _frame(video: Any, index: int) -> np.ndarray:
    seconds_left()
    batch = video.get_batch([index])
    frame = (batch.asnumpy() if hasattr(batch, "asnumpy") else np.asarray(batch))[0]
    if frame.ndim != 3 or frame.shape[-1] != 3:
        raise RuntimeError(f"decord gives a frame of shape {frame.shape}")
    return frame
