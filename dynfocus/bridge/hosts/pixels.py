"""Decode chosen frames of a file for a processor, with the frames that share their patches."""

from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from dynfocus.bridge.hosts.host import Host
from dynfocus.bridge.hosts.processor_calls import Pair, list_arguments
from dynfocus.bridge.picked import Picked
from dynfocus.video.numbered import NumberedFrames

Decoded = tuple[UInt8[Tensor, "K H W 3"], list[float]]


def make_arguments(picked: Picked, processor: Any, pair: Pair = "same") -> dict[str, Any]:
    """What a processor of transformers needs to be called with, beside text, to show chosen frames at their own times.

    Args:
        picked: the chosen frames.
        processor: of one of the families in `FAMILIES`.
        pair: where the model reads two frames as one: what goes in beside each chosen frame: itself, or the ``next``
            frame of the file.

    Raises:
        ConfigError: if the processor is of another family.
        VideoError: if the file cannot be read any more.
    """
    (frames, seconds), (beside, times) = decode(picked, pair)
    return list_arguments(processor, frames, seconds, picked.duration, beside, times)


def make_inputs(picked: Picked, host: Host, question: str) -> dict[str, Any]:
    """What a host reads to answer a question about chosen frames; raises VideoError as `make_arguments` does."""
    (frames, seconds), (beside, times) = decode(picked, host.pair)
    return host.pixel_inputs(frames, seconds, picked.duration, question, beside, times)


def decode(picked: Picked, pair: Pair) -> tuple[Decoded, Decoded]:
    """The chosen frames and those beside them, each with their times in the file."""
    video, numbers = NumberedFrames(picked.video), list(picked.frames)
    beside = numbers if pair == "same" else [min(number + 1, picked.total - 1) for number in numbers]
    wanted = sorted({*numbers, *beside})
    images = dict(zip(wanted, video.images(wanted), strict=True))

    def stack(some: list[int]) -> Decoded:
        pixels = np.stack([np.asarray(images[number]) for number in some])
        return torch.from_numpy(pixels), [float(video.times[number]) for number in some]

    return stack(numbers), stack(beside)
