"""Resize frames of any size to frames of one size, one at a time."""

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from dynfocus.settings import FrameRule


def resize_frame(frame: NDArray[np.uint8], rule: FrameRule) -> Tensor:
    """Squeeze a uint8 frame ``[H, W, 3]`` to ``[size, size, 3]``."""
    # Channels stay innermost: torch's kernel for that layout is the one that is many times faster than Pillow's.
    planes = rearrange(torch.from_numpy(np.require(frame, requirements=["C", "W"])), "h w c -> 1 c h w")
    size = (rule.size, rule.size)
    if planes.shape[-2:] != size:
        if rule.interpolation == "box":
            planes = F.interpolate(planes.float(), size, mode="area").round().to(torch.uint8)
        else:
            planes = F.interpolate(planes, size, mode="bicubic", antialias=True)
    return rearrange(planes, "1 c h w -> h w c")


def resize_frames(frames: Iterable[NDArray[np.uint8]], count: int, rule: FrameRule) -> Tensor | None:
    """Squeeze frames as they come, so that memory holds one at its own size; None if they are not ``count``."""
    result, position = torch.empty(count, rule.size, rule.size, 3, dtype=torch.uint8), 0
    for frame in frames:
        if position == count:
            return None
        result[position] = resize_frame(frame, rule)
        position += 1
    return result if position == count else None
