"""Frames of one size with their time stamps, which frames a rule takes, and the one error of a file that fails."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dynfocus.errors import MissingFileError, VideoError
from dynfocus.records.rows import VideoSegment
from dynfocus.settings import FrameRule

SLACK = 1e-3  # seconds; time stamps in containers are often rounded to milliseconds
FINEST = 1e9  # frames per second; no container tells times apart that are closer
LONGEST = 300  # characters of a cause; decord's own hold a stack trace


@dataclass(frozen=True)
class Clip:
    """Frames of a video, or the one frame of an image.

    Attributes:
        frames: uint8 RGB ``[T, size, size, 3]``, T at least 1.
        seconds: float32 ``[T]``, time since the file's first frame, from the file's own time stamps.
        reader: what decoded them.
    """

    frames: Tensor
    seconds: Tensor
    reader: Literal["decord", "pyav", "pillow"]


def picked(
    times: Sequence[float] | NDArray, rule: FrameRule, start: float = 0.0, end: float = float("inf")
) -> list[int]:
    """Indices of the frames that a rule takes.

    Args:
        times: seconds of all frames, ascending, the first at 0.
        rule: which of them.
        start, end: only frames at or after ``start`` and before ``end`` count; ``fps`` samples from ``start`` on.
    """
    times, start = np.asarray(times, float), max(start, 0.0)
    gaps = np.diff(times)
    slack = min(SLACK, gaps.min(initial=2 * SLACK, where=gaps > 0) / 2)
    first, last = np.searchsorted(times, (start - slack, end - slack))
    indices = np.arange(first, last)
    if rule.fps is not None and len(indices):
        # Of every frame, the last of the wanted times that it would serve: a frame is taken if that is a new one.
        within, fps = times[indices], min(rule.fps, FINEST)
        serves = np.floor((within - start + slack) * fps)
        serves += start + (serves + 1) / fps - slack <= within
        serves -= start + serves / fps - slack > within
        serves = serves.clip(0, max(0.0, np.floor((within[-1] - start + slack) * fps)))
        indices = indices[np.diff(serves, prepend=-1) > 0]
    if rule.frames is not None and rule.frames < len(indices):
        indices = indices[((np.arange(rule.frames) + 0.5) * len(indices) / rule.frames).astype(int)]
    return indices.tolist()


def chosen(times: NDArray, rule: FrameRule, stretch: VideoSegment) -> list[int]:
    """As `picked`; raises VideoError where the stretch holds no frame."""
    indices = picked(times, rule, stretch.start, stretch.end) if stretch.start < stretch.end else []
    if not indices:
        raise VideoError(
            f"{stretch.path} has no frame from {stretch.start:g} s to before {stretch.end:g} s",
            f"a start before the end, and both within the video, whose last frame is at {times[-1]:.3f} s",
            "Correct the row's start and end, or drop it.",
        )
    return indices


def existing(media: Path | str | VideoSegment) -> VideoSegment:
    """The file as a stretch of it, by default all of it; raises MissingFileError if there is no such file."""
    stretch = media if isinstance(media, VideoSegment) else VideoSegment(Path(media), 0.0, float("inf"))
    path = Path(stretch.path)
    if not os.path.isfile(path):  # which, unlike Path's own, is false where a name is too long for the file system
        raise MissingFileError(
            f"there is no file {path}", "a video or image file", "Check the path and the data set's root."
        )
    return VideoSegment(path, stretch.start, stretch.end)


def unreadable(path: Path, cause: object) -> VideoError:
    """The error of a file that is there but fails, for this cause."""
    said = " ".join(str(cause).split())[:LONGEST] or type(cause).__name__
    return VideoError(
        f"{path} cannot be read ({said})",
        "a whole video or image file with at least one frame",
        "Fetch or encode the file again, or drop its rows.",
    )


def check_pixels(path: Path, width: int, height: int, rule: FrameRule) -> None:
    """Refuse a picture that is larger than the rule allows, before it is decoded; raises VideoError."""
    if rule.max_pixels is not None and width * height > rule.max_pixels:
        raise VideoError(
            f"{path} is {width} x {height} pixels large",
            f"at most {rule.max_pixels} pixels (max_pixels)",
            "Make it smaller, drop its rows, or raise max_pixels.",
        )
