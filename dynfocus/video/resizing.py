"""Resize frames of any size to frames of one size, one at a time."""

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from dynfocus.settings import FrameRule

GREY = 128  # of the borders beside a padded frame, and of the blank frame of rows without media


def resize_frame(frame: NDArray[np.uint8], rule: FrameRule, pixel: float = 1.0) -> Tensor:
    """Make a uint8 frame ``[H, W, 3]`` one of ``[size, size, 3]``, squeezed, cropped or padded as ``rule.fit`` says.

    ``pixel`` is the width of a pixel as it is shown, over its height.
    """
    height, width = frame.shape[0], frame.shape[1] * pixel  # as they are shown
    if rule.fit == "crop":
        high, wide = max(1, round(min(height, width))), max(1, round(min(height, width) / pixel))
        top, left = (frame.shape[0] - high) // 2, (frame.shape[1] - wide) // 2
        frame = frame[top : top + high, left : left + wide]
    if rule.fit != "pad":
        return _resize(frame, (rule.size, rule.size), rule)
    # Borders come after, so that they take no memory at the frame's own size.
    high, wide = (max(1, round(rule.size * side / max(height, width))) for side in (height, width))
    top, left = (rule.size - high) // 2, (rule.size - wide) // 2
    result = torch.full((rule.size, rule.size, 3), GREY, dtype=torch.uint8)
    result[top : top + high, left : left + wide] = _resize(frame, (high, wide), rule)
    return result


def _resize(frame: NDArray[np.uint8], size: tuple[int, int], rule: FrameRule) -> Tensor:
    # Channels stay innermost: torch's kernel for that layout is the one that is many times faster than Pillow's.
    planes = rearrange(torch.from_numpy(np.require(frame, requirements=["C", "W"])), "h w c -> 1 c h w")
    if planes.shape[-2:] != size:
        if rule.interpolation == "box":
            planes = F.interpolate(planes.float(), size, mode="area").round().to(torch.uint8)
        else:
            planes = F.interpolate(planes, size, mode="bicubic", antialias=True)
    return rearrange(planes, "1 c h w -> h w c")


def resize_frames(
    frames: Iterable[NDArray[np.uint8]], count: int, rule: FrameRule, pixel: float = 1.0
) -> Tensor | None:
    """Resize frames as they come, so that memory holds one at its own size; None if they are not ``count``."""
    result, position = torch.empty(count, rule.size, rule.size, 3, dtype=torch.uint8), 0
    for frame in frames:
        if position == count:
            return None
        result[position] = resize_frame(frame, rule, pixel)
        position += 1
    return result if position == count else None
