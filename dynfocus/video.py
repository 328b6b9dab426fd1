"""Any video or image file -> frames of one size, with time stamps: decord first, PyAV for what decord cannot read."""

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import av
import numpy as np
import torch
import torch.nn.functional as F
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from einops import rearrange
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from dynfocus.errors import ConfigError, VideoError
from dynfocus.settings import FrameRule

Reader = Literal["decord", "pyav"]

IMAGES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
# decord seeks, silently, to wrong frames where pictures shown before a key frame are stored after it (HEVC, open GOPs),
# and in containers without an index of frames (MPEG-TS). What is known to be right goes to it, the rest to PyAV.
CODECS = frozenset({"h264", "mjpeg", "mpeg4", "vp8", "vp9"})
CONTAINERS = frozenset({"mp4", "matroska"})
CHUNK = 32  # frames held at the file's own size
SLACK = 1e-3  # seconds; decord's time stamps are float32


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


def read_media(path: Path | str, rule: FrameRule) -> Clip:
    """Read an image where the file's suffix says so, else a video; raises VideoError as those do."""
    return read_image(path, rule) if Path(path).suffix.lower() in IMAGES else read_clip(path, rule)


def read_image(path: Path | str, rule: FrameRule) -> Clip:
    """Read an image of any mode, turned upright, as a clip of one frame at 0 s.

    Raises:
        VideoError: if the file is absent or no image.
    """
    path = _existing(path)
    try:
        with Image.open(path) as image:
            pixels = np.array(_eight_bits(ImageOps.exif_transpose(image)).convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error
    return Clip(_resized(pixels[None], rule), torch.zeros(1), "pillow")


def read_clip(path: Path | str, rule: FrameRule, reader: Reader | None = None) -> Clip:
    """Decode the frames of a video that ``rule`` asks for.

    Args:
        path: a video in any container and codec that FFmpeg knows.
        rule: which frames, and their size.
        reader: ``decord`` or ``pyav`` alone; by default decord where it reads the file rightly, else PyAV.

    Raises:
        VideoError: if the file is absent, cut off, unreadable, or holds no frame.
        ConfigError: if decord is demanded where it is not installed.
    """
    path = _existing(path)
    installed = find_spec("decord") is not None
    if reader == "decord" and not installed:
        raise ConfigError("reader=decord without decord", "decord, which exists for Linux on x86-64", "Use pyav.")
    try:
        trusted = _decord_seeks_rightly(path)
        if reader == "decord" or (reader is None and trusted and installed):
            clip = _with_decord(path, rule, last_resort=reader == "decord")
            if clip is not None:
                return clip
        return _with_pyav(path, rule)
    except (FFmpegError, OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def picked(times: Sequence[float] | NDArray, rule: FrameRule) -> list[int]:
    """Indices of the frames that ``rule`` takes from frames at ``times`` (seconds, ascending, the first at 0)."""
    times = np.asarray(times, float)
    indices = np.arange(len(times))
    if rule.fps is not None:
        wanted = np.arange(int((times[-1] + SLACK) * rule.fps) + 1) / rule.fps
        indices = np.unique(np.searchsorted(times, wanted - SLACK).clip(max=len(times) - 1))
    if rule.frames is not None and rule.frames < len(indices):
        indices = indices[((np.arange(rule.frames) + 0.5) * len(indices) / rule.frames).astype(int)]
    return indices.tolist()


def _existing(path: Path | str) -> Path:
    path = Path(path)
    if not path.is_file():
        raise VideoError(f"there is no file {path}", "a video or image file", "Check the path and the data set's root.")
    return path


def _unreadable(path: Path, cause: object) -> VideoError:
    return VideoError(
        f"{path} cannot be read ({cause})",
        "a whole video or image file with at least one frame",
        "Fetch or encode the file again, or drop its rows.",
    )


def _eight_bits(image: Image.Image) -> Image.Image:
    """Bring 16 bits a pixel down to 8; Pillow itself would clip them."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).astype(np.int64) // 257).clip(0, 255).astype(np.uint8))
    return image


def _video_stream(container: Any, path: Path) -> Any:
    if not container.streams.video:
        raise _unreadable(path, "it has no video stream")
    return container.streams.video[0]


def _decord_seeks_rightly(path: Path) -> bool:
    """Look at the packets, without decoding them: does the file keep to what decord seeks in rightly?

    Raises:
        VideoError: if packets that the header counts are missing.
    """
    with av.open(str(path)) as container:
        stream = _video_stream(container, path)
        if stream.codec_context.name not in CODECS or CONTAINERS.isdisjoint(container.format.name.split(",")):
            return False
        right, count, key = True, 0, None
        for packet in container.demux(stream):
            if packet.size == 0:
                continue
            count += 1
            if packet.pts is None or packet.is_discard:
                right = False
            elif packet.is_keyframe:
                key = packet.pts
            elif key is not None and packet.pts < key:
                right = False
        if "mp4" in container.format.name.split(",") and count < stream.frames:
            raise _unreadable(path, f"only {count} of its {stream.frames} frames are there")
    return right


def _with_decord(path: Path, rule: FrameRule, last_resort: bool) -> Clip | None:
    """The clip as decord reads it; None where it cannot, unless that is the ``last_resort``."""
    decord: ModuleType = importlib.import_module("decord")
    try:
        video = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
        if len(video) == 0:
            raise _unreadable(path, "it holds no frame")
        times = np.asarray(video.get_frame_timestamp(range(len(video))))[:, 0]
        times = times - times[0]
        indices = picked(times, rule)
        parts = []
        for start in range(0, len(indices), CHUNK):
            batch = video.get_batch(indices[start : start + CHUNK])
            parts.append(_resized(batch.asnumpy() if hasattr(batch, "asnumpy") else np.asarray(batch), rule))
    except (RuntimeError, decord.DECORDError, IndexError) as error:
        if last_resort:
            raise _unreadable(path, error) from error
        return None
    return Clip(torch.cat(parts), torch.tensor(times[indices], dtype=torch.float32), "decord")


def _with_pyav(path: Path, rule: FrameRule) -> Clip:
    # Twice through the file: which frames to keep hangs on all time stamps, and packets do not give them reliably.
    stamps = [frame.time for frame in _decoded(path)]
    if not stamps:
        raise _unreadable(path, "it holds no frame")
    if None in stamps:
        raise _unreadable(path, "its frames have no time stamps")
    times = np.array(stamps, float) - float(stamps[0])
    indices = picked(times, rule)
    wanted = set(indices)
    converter = VideoReformatter()  # one for all frames: frame.to_ndarray makes its own each time, which takes longer
    parts = [_resized(_upright(frame, converter), rule) for n, frame in enumerate(_decoded(path)) if n in wanted]
    return Clip(torch.cat(parts), torch.tensor(times[indices], dtype=torch.float32), "pyav")


def _decoded(path: Path) -> Iterator[av.VideoFrame]:
    with av.open(str(path)) as container:
        stream = _video_stream(container, path)
        stream.codec_context.thread_count = 1
        yield from container.decode(stream)


def _upright(frame: av.VideoFrame, converter: VideoReformatter) -> NDArray[np.uint8]:
    """Pixels ``[1, H, W, 3]``, turned as the file asks for, which decord does by itself."""
    pixels = np.asarray(converter.reformat(frame, format="rgb24").to_ndarray(), np.uint8)
    return np.rot90(pixels, round(frame.rotation / 90))[None]


def _resized(frames: NDArray[np.uint8], rule: FrameRule) -> Tensor:
    """Resize uint8 frames ``[T, H, W, 3]`` to ``[T, size, size, 3]``."""
    planes = rearrange(torch.from_numpy(np.ascontiguousarray(frames)), "t h w c -> t c h w")
    if planes.shape[-2:] != (rule.size, rule.size):
        size = (rule.size, rule.size)
        if rule.interpolation == "box":
            planes = F.interpolate(planes.float(), size, mode="area").round().to(torch.uint8)
        else:
            planes = F.interpolate(planes, size, mode="bicubic", antialias=True)
    return rearrange(planes, "t c h w -> t h w c").contiguous()
