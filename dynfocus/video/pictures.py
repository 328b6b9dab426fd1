"""Read pictures that are in memory, or a mixture of those and image files, as one video or as several images."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dynfocus.errors import VideoError
from dynfocus.settings import FrameRule
from dynfocus.video.clip import Clip, check_pixels, pick_frames
from dynfocus.video.images import read_image, read_pixels
from dynfocus.video.resizing import resize_frame

NEEDED = "pictures as PIL images, as files, or as uint8 arrays of [H, W, 3], or of [T, H, W, 3] for a whole video"


def read_pictures(pictures: Sequence[Any] | NDArray | Tensor, rule: FrameRule, is_album: bool = False) -> Clip:
    """Make pictures frames of one size, in the order in which they come.

    Args:
        pictures: PIL images, files, or uint8 arrays or tensors of [H, W, 3] or [3, H, W]; or all of them as one array.
        rule: the size of a frame, and how many a video has at most; nobody knows when they were seen, so that ``fps``
            leaves none out, and they count as one a second.
        is_album: whether they are several images, of which none is left out, and no video.

    Raises:
        VideoError: if there is no picture, or one cannot be read.
    """
    if len(pictures) == 0:
        raise VideoError("a video without any frame", NEEDED, "Give at least one frame.")
    seconds = np.arange(len(pictures), dtype=float)
    chosen = pick_frames(seconds, replace(rule, fps=None, frames=None if is_album else rule.frames))
    frames = torch.stack([_read_picture(pictures[index], index, rule) for index in chosen])
    return Clip(frames, torch.tensor(seconds[chosen], dtype=torch.float32), "pillow")


def is_picture(value: Any) -> bool:
    """Whether something in memory is one picture: a PIL image, or an array of three axes."""
    return isinstance(value, Image.Image) or (isinstance(value, np.ndarray | Tensor) and value.ndim == 3)


def _read_picture(picture: Any, index: int, rule: FrameRule) -> Tensor:
    if isinstance(picture, str | Path):
        return read_image(picture, rule).frames[0]
    return resize_frame(_read_pixels(picture, index, rule), rule)


def save_picture(picture: Any, index: int, path: Path) -> Path:
    """Write a picture that is in memory as a file, without loss; raises VideoError if it cannot be read."""
    Image.fromarray(_read_pixels(picture, index, FrameRule())).save(path)
    return path


def _read_pixels(picture: Any, index: int, rule: FrameRule) -> NDArray[np.uint8]:
    if isinstance(picture, Image.Image):
        check_pixels(Path(f"picture {index}"), *picture.size, rule)
        try:
            return read_pixels(picture, picture.tell())
        except (OSError, ValueError, SyntaxError) as error:
            raise VideoError(f"picture {index}, which cannot be read ({error})", NEEDED, "Leave it out.") from error
    pixels = np.asarray(picture.cpu() if isinstance(picture, Tensor) else picture)
    if pixels.ndim == 3 and pixels.shape[-1] != 3 and pixels.shape[0] == 3:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] != 3 or 0 in pixels.shape:
        raise VideoError(
            f"picture {index}, {type(picture).__name__} of {pixels.dtype} and the shape {list(pixels.shape)}",
            NEEDED,
            "Give numbers from 0 to 255 as uint8, with three colours.",
        )
    check_pixels(Path(f"picture {index}"), pixels.shape[1], pixels.shape[0], rule)
    return pixels
