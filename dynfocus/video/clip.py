"""Define a clip, pick the frames that a rule takes, and make the one error of a file that fails."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dynfocus.errors import MissingFileError, VideoError
from dynfocus.records.first_bytes import name_kind_of
from dynfocus.records.rows import VideoSegment
from dynfocus.settings import FrameRule

SLACK = 1e-3  # seconds; time stamps in containers are often rounded to milliseconds
FINEST = 1e9  # frames per second; no container tells times apart that are closer
MAX_CAUSE = 300  # characters; decord's own causes hold a stack trace


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


def pick_frames(
    times: Sequence[float] | NDArray, rule: FrameRule, start: float = 0.0, end: float = float("inf")
) -> list[int]:
    """Return the indices of the frames that a rule takes.

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
        # fps asks for a frame at start, start + 1 / fps, ...; each time is served by the first frame at or after it.
        # `serves` is, of every frame, the number of the last such time that it would serve; a frame is taken if its
        # number is higher than the one before. The two corrections undo the division's rounding in either direction.
        within, fps = times[indices], min(rule.fps, FINEST)
        serves = np.floor((within - start + slack) * fps)
        serves += start + (serves + 1) / fps - slack <= within
        serves -= start + serves / fps - slack > within
        serves = serves.clip(0, max(0.0, np.floor((within[-1] - start + slack) * fps)))
        indices = indices[np.diff(serves, prepend=-1) > 0]
    if rule.frames is not None and rule.frames < len(indices):
        indices = indices[((np.arange(rule.frames) + 0.5) * len(indices) / rule.frames).astype(int)]
    return indices.tolist()


def pick_segment_frames(times: NDArray, rule: FrameRule, segment: VideoSegment) -> list[int]:
    """Pick as `pick_frames` does; raises VideoError where the segment holds no frame."""
    indices = pick_frames(times, rule, segment.start, segment.end) if segment.start < segment.end else []
    if not indices:
        raise VideoError(
            f"{segment.path} has no frame from {segment.start:g} s to before {segment.end:g} s",
            f"a start before the end, and both within the video, whose last frame is at {times[-1]:.3f} s",
            "Correct the row's start and end, or drop it.",
        )
    return indices


def find_media(media: Path | str | VideoSegment) -> VideoSegment:
    """Return the file as a segment, by default all of it; raises MissingFileError if there is no such file."""
    segment = media if isinstance(media, VideoSegment) else VideoSegment(Path(media), 0.0, float("inf"))
    path = Path(segment.path)
    if not os.path.isfile(path):  # which, unlike Path's own, is false where a name is too long for the file system
        raise MissingFileError(
            f"there is no file {path}", "a video or image file", "Check the path and the data set's root."
        )
    return VideoSegment(path, segment.start, segment.end)


def unreadable_error(path: Path, cause: object) -> VideoError:
    """Make the error of a file that is there but fails, for this cause."""
    kind = name_kind_of(Path(path))
    text = " ".join(str(cause).split())[:MAX_CAUSE] or type(cause).__name__
    text = text if kind is None else f"it is {kind}"
    return VideoError(
        f"{path} cannot be read ({text})",
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
