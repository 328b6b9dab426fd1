"""Call a host's processor so that it shows frames at their own times, and write these times where it cannot."""

from collections.abc import Sequence
from math import ceil
from typing import Any, Literal

import torch
from jaxtyping import UInt8
from torch import Tensor

from dynfocus.bridge.hosts.families import count_frames_per_patch, find_family, find_processor_family

# What goes into a patch of two frames beside the chosen one: itself, or the frame after it.
Pair = Literal["same", "next"]


def list_arguments(
    processor: Any,
    frames: UInt8[Tensor, "K H W 3"],
    seconds: Sequence[float],
    duration: float,
    beside: UInt8[Tensor, "K H W 3"] | None = None,
    seconds_beside: Sequence[float] | None = None,
) -> dict[str, Any]:
    """The arguments that a processor needs so that it shows these frames, all of them, at their own times.

    Times go in as numbers of frames of a clock of one frame a second: what divides them by the rate gets them back.
    """
    together = count_frames_per_patch(processor)
    pairs = zip(seconds, seconds if seconds_beside is None else seconds_beside, strict=True)
    family = find_processor_family(processor)
    stamps = [family.stamp(float(time)) for pair in pairs for time in pair[:together]]
    clock = {"fps": 1.0, "total_num_frames": max(1, ceil(duration)), "duration": duration, "frames_indices": stamps}
    return {
        "videos": [pair_frames(processor, frames, frames if beside is None else beside)],
        "video_metadata": [clock],
        "do_sample_frames": False,
        **family.options,
    }


def pair_frames(
    processor: Any, frames: UInt8[Tensor, "T H W 3"], beside: UInt8[Tensor, "T H W 3"]
) -> UInt8[Tensor, "_ H W 3"]:
    """Each frame with the one that shares its patch, where a tower reads two frames as one; else the frames alone."""
    if count_frames_per_patch(processor) == 1:
        return frames
    return torch.stack([frames, beside], 1).flatten(0, 1)


def mean_times(seconds: Sequence[float], beside: Sequence[float] | None) -> list[float]:
    """The times of patches: of two frames the mean."""
    pairs = zip(seconds, seconds if beside is None else beside, strict=True)
    return [(float(one) + float(two)) / 2 for one, two in pairs]


def correct_times(model: Any, processor: Any, inputs: dict[str, Any], seconds: Sequence[float]) -> dict[str, Any]:
    """What must be added to a processor's output so that times are right: of Qwen2.5-VL its rotary positions."""
    more = dict(inputs)
    find_family(model.config.model_type).add_inputs(model, processor, more, None, list(seconds))
    return {
        name: value.to(model.device) for name, value in more.items() if name not in inputs or value is not inputs[name]
    }


def write_times(seconds: Sequence[float], duration: float) -> str:
    """The times of frames as a sentence, for models that have no other way to learn them."""
    times = ", ".join(f"{second:.1f} s" for second in seconds)
    return f"The video lasts {duration:.1f} s. Its {len(seconds)} frames are at {times}.\n"
