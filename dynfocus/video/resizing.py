"""Resize frames of any size to frames of one size, one at a time."""

from collections.abc import Iterable
from math import gcd

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from dynfocus.settings import FrameRule

MAX_AREA = (2**16 - 1) // 255  # pixels whose sum always fits 16 bits
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
    if min(frame.strides) < 0:  # NumPy calls a single row contiguous that is mirrored, which torch refuses
        frame = frame.copy()
    # Channels stay innermost: torch's kernel for that layout is the one that is many times faster than Pillow's.
    planes = rearrange(torch.from_numpy(np.require(frame, requirements=["C", "W"])), "h w c -> 1 c h w")
    if planes.shape[-2:] != size:
        if rule.interpolation == "box":
            return _average_areas(planes, size)
        else:
            planes = F.interpolate(planes, size, mode="bicubic", antialias=True)
    return rearrange(planes, "1 c h w -> h w c")


def _average_areas(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """Make [1, 3, H, W] one of [h, w, 3], each number the mean of the pixels that its area touches, as torch does it.

    Whole numbers of 16 bits are summed over rows, then over columns. That takes less than half of the time of torch's
    own, which adds one number at a time where there are three channels, and gives the same bits.
    """
    height, width = planes.shape[-2:]
    most = (-(-height // size[0]) + 1) * (-(-width // size[1]) + 1)  # pixels that one area touches
    if most > MAX_AREA:
        planes = F.interpolate(planes.float(), size, mode="area").round().to(torch.uint8)
        return rearrange(planes, "1 c h w -> h w c")
    numbers = rearrange(planes, "1 c h w -> h (w c)").to(torch.int16).numpy().view(np.uint16)
    sums, high = _sum_windows(numbers, size[0])
    columns = torch.from_numpy(sums.view(np.int16)).T.contiguous().numpy().view(np.uint16)
    sums, wide = _sum_windows(rearrange(columns, "(w c) h -> w (c h)", c=3), size[1])
    counts = np.multiply.outer(wide, high).astype(np.float32)[:, None]
    means = np.divide(rearrange(sums, "w (c h) -> w c h", c=3), counts, dtype=np.float32)
    pixels = torch.from_numpy(np.rint(means, out=means).astype(np.uint8))
    return rearrange(pixels, "w c h -> h w c").contiguous()


def _sum_windows(rows: NDArray[np.uint16], count: int) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    """Sum the rows that each of ``count`` equal shares of the height touches; return the sums, and how many rows."""
    repeats = gcd(len(rows), count)  # windows lie alike in so many parts, whose sums are made together
    parts, own = rows.reshape(repeats, len(rows) // repeats, -1), count // repeats
    sums = np.empty((repeats, own, rows.shape[1]), np.uint16)
    starts = np.arange(own) * parts.shape[1] // own
    ends = -(-np.arange(1, own + 1) * parts.shape[1] // own)
    for window, (start, end) in enumerate(zip(starts, ends, strict=True)):
        sums[:, window] = parts[:, start]
        for row in range(start + 1, end):
            sums[:, window] += parts[:, row]
    return sums.reshape(count, -1), np.tile(ends - starts, repeats)


def stack_frames(frames: Iterable[Tensor], count: int, rule: FrameRule) -> Tensor | None:
    """Stack resized frames as they come; None if they are not ``count``."""
    result, position = torch.empty(count, rule.size, rule.size, 3, dtype=torch.uint8), 0
    for frame in frames:
        if position == count:
            return None
        result[position] = frame
        position += 1
    return result if position == count else None
