"""Read a video's frames at a size that a person can look at, in the shape they are shown in, each when it is needed."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from dynfocus import video
from dynfocus.errors import DynFocusError
from dynfocus.records.rows import FrameFiles, VideoSegment
from dynfocus.settings import FrameRule
from dynfocus.video.clip import unreadable_error
from dynfocus.video.containers import open_container
from dynfocus.video.images import FORMATS, belongs_to_pillow
from dynfocus.video.packets import Packets, read_packets, video_stream
from dynfocus.video.with_pyav import find_turn

NEAR = 1e-3  # seconds; time stamps are kept in fp32, which is that coarse in a video of hours
FEW = 1000  # frames; so many are read at once, and take 77 MB at 160 pixels


class Thumbnails(Sequence[NDArray[np.uint8]]):
    """The frames that a frame rule took from a file, as uint8 [H, W, 3], decoded when they are looked up.

    A thousand are read at once. Of more each is read by itself where the file lets one jump; where it does not, all are
    read at once, so small that they take the memory of a thousand.

    Args:
        media: the video or image, or the segment of a video.
        seconds: time stamps of its T frames.
        rule: which frames these are; its size is the model's, not the thumbnails'.
        size: of their longer side, in pixels.

    Raises:
        VideoError: on looking one up, if the file has changed and cannot be read.
    """

    def __init__(
        self, media: Path | VideoSegment | FrameFiles, seconds: Sequence[float], rule: FrameRule, size: int = 160
    ) -> None:
        self.media, self.seconds, self.size = media, seconds, size
        shown = media.paths[0] if isinstance(media, FrameFiles) else media
        self.path = shown.path if isinstance(shown, VideoSegment) else Path(shown)
        self.rule = replace(rule, size=size, interpolation="bicubic", fit="squeeze" if rule.fit == "pad" else rule.fit)
        self.cache: dict[int, NDArray[np.uint8]] = {}
        self.shape: tuple[int, int] | None = None
        self.packets: Packets | None = None

    def __len__(self) -> int:
        return len(self.seconds)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[n] for n in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        if place not in self.cache:
            self.cache |= self._read(place)
        return self._fit(self.cache[place])

    def _read(self, place: int) -> dict[int, NDArray[np.uint8]]:
        if len(self) > FEW and self.packets is None and not isinstance(self.media, FrameFiles):
            self.packets = self._read_packets()
        if self.packets is None or not self.packets.seekable:
            size = min(self.size, max(1, int(self.size * (FEW / len(self)) ** 0.5)))
            frames = video.read_media(self.media, replace(self.rule, size=size)).frames.numpy()
            if len(frames) != len(self):
                raise unreadable_error(self.path, "it holds other frames than when the question was answered")
            return dict(enumerate(frames))
        second = self.seconds[place]
        moment = VideoSegment(self.path, second - NEAR, second + 2 * NEAR)
        rule = replace(self.rule, fps=None, frames=1)
        return {place: video.read_clip(moment, rule, "pyav", self.packets).frames[0].numpy()}

    def _read_packets(self) -> Packets:
        try:
            return read_packets(self.path, self.rule)
        except DynFocusError:
            raise
        except Exception as error:
            raise unreadable_error(self.path, error) from error

    def _fit(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self.rule.fit == "crop":  # what the model does not see is not shown
            self.shape = (1, 1)
        self.shape = self.shape or display_size(self.path)
        longer = max(self.shape)
        size = [max(1, round(self.size * side / longer)) for side in self.shape]
        return np.asarray(Image.fromarray(frame).resize((size[0], size[1]), Image.Resampling.BICUBIC))


def display_size(path: Path) -> tuple[int, int]:
    """Return width and height of a video or image as it is shown: upright, and scaled where pixels are not square."""
    if belongs_to_pillow(path):
        with Image.open(path, formats=FORMATS) as image:
            try:
                return ImageOps.exif_transpose(image).size
            except Exception:  # many sound photographs carry broken EXIF data
                return image.size
    with open_container(path) as container:
        stream = video_stream(container, path)
        frame = next(container.decode(stream))
        pixel = stream.sample_aspect_ratio or Fraction(1)
        width, height = frame.width * pixel.numerator, frame.height * pixel.denominator
        return (height, width) if find_turn(frame).transpose else (width, height)
