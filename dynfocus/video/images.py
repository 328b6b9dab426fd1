"""Read images of any mode, and those that move, with Pillow."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import TiffImageFile

from dynfocus.errors import VideoError
from dynfocus.records.rows import FrameFiles, VideoSegment
from dynfocus.settings import FrameRule
from dynfocus.video.clip import Clip, check_pixels, find_media, pick_segment_frames, unreadable_error
from dynfocus.video.resizing import resize_frame
from dynfocus.video.time_limit import seconds_left
from dynfocus.video.truncation import missing_bytes

IMAGES = frozenset({".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
# What is tried on a file, whatever its name: Pillow also knows formats that are videos, and one that runs programs.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "PPM", "JPEG2000")
PAGED = frozenset({"MPO", "TIFF"})  # the first of several frames is taken
MOVING = frozenset({"AVIF", "WEBP"})  # all are; FFmpeg leaves out their transparency, or does not read them
MAX_BITS = 16  # of whole numbers; with more, no file says which number is white
CLEAR = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
guard = threading.Lock()


def belongs_to_pillow(path: Path) -> bool | None:
    """Return whether Pillow is to read a file, by its content; not a GIF or PNG that moves, which FFmpeg reads.

    None if it is no image that Pillow can open.
    """
    try:
        with open_image(path) as image:
            return not getattr(image, "is_animated", False) or image.format in PAGED | MOVING
    except Exception:  # Pillow's plugins raise errors of any kind; reading the file then says why it fails
        return None


def read_image(media: Path | str | VideoSegment, rule: FrameRule) -> Clip:
    """Read an image of any mode as a clip of one frame at 0 s: upright as its EXIF data say, where they can be
    read, and the first of its pages. A WebP or AVIF that moves gives the frames that ``rule`` asks for.

    Departs: clear pixels are laid on white, as pages and browsers show them; the usual conversion to RGB shows what
    happens to be stored where nothing is to be seen. Up to 16 bits are scaled to 8; floating-point pixels count from
    0 to 255.

    Raises:
        VideoError: if the file is absent, no image, broken, of whole numbers of more than 16 bits, or larger than
            ``rule.max_pixels``, which its header says before a pixel is decoded.
    """
    segment = find_media(media)
    try:
        with open_image(segment.path) as image:
            check_pixels(segment.path, *image.size, rule)
            times = read_image_times(image)
            indices = pick_segment_frames(times, rule, segment)
            frames = torch.stack([resize_frame(read_pixels(image, index), rule) for index in indices])
        if missing_end := missing_bytes(segment.path):
            raise unreadable_error(segment.path, f"at least {missing_end} bytes are cut off from its end")
        return Clip(frames, torch.tensor(times[indices], dtype=torch.float32), "pillow")
    except VideoError:
        raise
    except Exception as error:
        raise unreadable_error(segment.path, error) from error


def read_frame_files(media: FrameFiles, rule: FrameRule) -> Clip:
    """Read a video whose frames are image files, each as `read_image` does.

    Raises:
        VideoError: if a file is absent or cannot be read, or no frame is in the segment asked for.
    """
    indices = pick_frame_files(media, rule)
    frames = torch.cat([read_image(media.paths[index], rule).frames[:1] for index in indices])
    return Clip(frames, torch.tensor(list_times(media)[indices], dtype=torch.float32), "pillow")


def list_times(media: FrameFiles) -> NDArray[np.float64]:
    """Return the seconds of all files; where they are not known, one a second."""
    return np.arange(len(media.paths), dtype=float) if media.seconds is None else np.asarray(media.seconds, dtype=float)


def pick_frame_files(media: FrameFiles, rule: FrameRule) -> list[int]:
    """Return the indices of the files that a rule takes; raises VideoError where none is in the segment asked for."""
    rule_of_times = replace(rule, fps=None, frames=None if media.is_album else rule.frames)
    rule_of_times = rule_of_times if media.seconds is None else rule
    segment = VideoSegment(media.paths[0].parent, media.start, media.end)
    return pick_segment_frames(list_times(media), rule_of_times, segment)


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image of one of `FORMATS`, whatever its size; `check_pixels` refuses large ones."""
    # Pillow's own guard against huge images is one limit of the whole process, which raises before one sees the size:
    # it is lifted for this call, under a lock, and `check_pixels` judges by the rule's own limit.
    with guard, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of broken EXIF data, among others
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            opened = Image.open(path, formats=FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    with opened as image:
        yield image


def _turn_upright(image: Image.Image) -> Image.Image:
    image.load()  # Pillow itself turns some formats as it loads them, and then says so
    try:
        with guard, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # many sound photographs carry broken EXIF data
        turn = None
    return image if turn is None else image.transpose(turn)


def _count_bits(image: Image.Image) -> int:
    """Return the bits of one channel; raises ValueError where they are too many to know what is white."""
    bits = image.tag_v2.get(ExifTags.Base.BitsPerSample, (1,)) if isinstance(image, TiffImageFile) else (MAX_BITS,)
    if image.mode.startswith("I") and bits[0] > MAX_BITS:
        raise ValueError(f"its pixels are whole numbers of {bits[0]} bits, and nothing says which of them is white")
    return bits[0]


def read_image_times(image: Image.Image) -> NDArray[np.float64]:
    """Return the seconds of all frames, the first at 0; of pages only the first counts."""
    millis = [0.0]
    for index in range(1, getattr(image, "n_frames", 1) if image.format in MOVING else 1):
        millis.append(millis[-1] + _load_frame(image, index - 1).info["duration"])
    return np.array(millis) / 1000


def _load_frame(image: Image.Image, index: int) -> Image.Image:
    seconds_left()
    if index != image.tell():
        image.seek(index)
    image.load()
    return image


def read_pixels(image: Image.Image, index: int) -> NDArray[np.uint8]:
    """Return upright RGB pixels ``[H, W, 3]`` of a frame, transparent ones laid on white."""
    image = _load_frame(image, index)
    most = 2 ** _count_bits(image) - 1
    image = _turn_upright(image)
    if image.mode.startswith("I"):  # Pillow itself would clip 16 bits
        values = np.asarray(image).astype(np.int64).clip(0) * 255 // most
        image = Image.fromarray(values.clip(0, 255).astype(np.uint8))
    elif image.mode == "F":
        image = Image.fromarray(np.nan_to_num(np.asarray(image)).clip(0, 255).astype(np.uint8))
    if image.mode in CLEAR or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
