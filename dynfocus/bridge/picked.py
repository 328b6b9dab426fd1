"""Hold the frames that were chosen of one video: their numbers, their times, and what they were chosen by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dynfocus.errors import DataError
from dynfocus.video.numbered import NumberedFrames


@dataclass(frozen=True)
class Picked:
    """Frames chosen of one video.

    Attributes:
        frames: numbers of the chosen frames in the file, counted from 0, ascending and distinct.
        seconds: the time of each since the video's first frame, by the file's own time stamps.
        fps: frames a second of the whole video, on average; 0 for a video of one frame.
        total: how many frames the file has.
        duration: seconds until its last frame ends, which counts as long as the median frame; 0 for one frame.
        scores: of each candidate frame, where the selector scores frames; None where it does not.
        video: the file.
        candidates: numbers of the frames that the selector looked at, ascending.
    """

    frames: tuple[int, ...]
    seconds: tuple[float, ...]
    fps: float
    total: int
    duration: float
    scores: tuple[float, ...] | None
    video: Path
    candidates: tuple[int, ...] = ()

    @property
    def kept_scores(self) -> tuple[float, ...] | None:
        """The score of each chosen frame; None where the selector scores none."""
        if self.scores is None:
            return None
        by_frame = dict(zip(self.candidates, self.scores, strict=True))
        return tuple(by_frame[frame] for frame in self.frames)

    def images(self) -> list[Image.Image]:
        """Decode the chosen frames alone: upright RGB pictures in the size and shape in which the file shows them.

        Raises:
            VideoError: if the file cannot be read any more, or is damaged at these frames.
        """
        return NumberedFrames(self.video).images(self.frames)

    def for_transformers(self, processor: Any, pair: Literal["same", "next"] = "same") -> dict[str, Any]:
        """What a video language model's processor has to be called with to show these frames at their own times.

        Call ``processor(text=..., return_tensors="pt", **picked.for_transformers(processor))``. Some models learn no
        times from their processor: `make_inputs` of `dynfocus.bridge.hosts` does all that is needed.

        Args:
            processor: of a family that `dynfocus.bridge.hosts` lists.
            pair: where a model reads two frames as one: what goes in beside each frame: itself, or the ``next`` one.

        Raises:
            ConfigError: if the processor is of another family.
            VideoError: if the file cannot be read any more.
        """
        from dynfocus.bridge.hosts.pixels import make_arguments

        return make_arguments(self, processor, pair)


def pick(
    video: NumberedFrames,
    frames: list[int],
    scores: tuple[float, ...] | None = None,
    candidates: tuple[int, ...] = (),
) -> Picked:
    """Make the record of the frames of these numbers, in any order and perhaps repeated.

    Raises:
        DataError: if there is none, or a number is not in the video.
        VideoError: if the file cannot be read.
    """
    times = video.times
    numbers = tuple(sorted(set(frames)))
    if not numbers or numbers[0] < 0 or numbers[-1] >= len(times):
        raise DataError(
            f"frames {frames} of {video.path}",
            f"at least one frame number, each from 0 to {len(times) - 1}",
            "Correct the numbers, or the video that they are of.",
        )
    length = duration(times)
    rate = round((len(times) - 1) / float(times[-1]), 6) if times[-1] > 0 else 0.0
    seconds = tuple(float(times[number]) for number in numbers)
    return Picked(numbers, seconds, rate, len(times), length, scores, video.path, candidates)


def duration(times: NDArray[np.float64]) -> float:
    """Seconds until a video ends whose frames are at these times; its last frame counts as long as the median one."""
    return float(times[-1] + np.median(np.diff(times))) if len(times) > 1 else 0.0
