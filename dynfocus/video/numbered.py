"""Read any frames of a file, or of several files, by their numbers, at their own size and upright."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dynfocus.errors import DataError, DynFocusError
from dynfocus.records.rows import FrameFiles, VideoSegment
from dynfocus.settings import FrameRule
from dynfocus.video.clip import check_pixels, find_media, unreadable_error
from dynfocus.video.images import IMAGES, belongs_to_pillow, list_times, open_image, read_image_times, read_pixels
from dynfocus.video.packets import Packets, holds_video, read_packets
from dynfocus.video.with_pyav import decode_indices, decode_times, plan_decoding, shown_pixel

Made = TypeVar("Made")


class NumberedFrames:
    """All frames of a video or image, numbered from 0 in the order in which they are shown.

    Args:
        path: any video or image file; a still image is one frame at 0 s.
        rule: of it only ``max_pixels`` is read.
        threads: that decode a video, see `read_clip`.

    Raises:
        VideoError: if the file is absent, cut off, damaged, or larger than the rule allows.
    """

    def __init__(self, path: Path | str, rule: FrameRule = FrameRule(), threads: int = 1) -> None:  # noqa: B008 (frozen)
        self.threads = threads
        self.segment: VideoSegment = find_media(path)
        self.path, self.rule = self.segment.path, rule
        by_pillow = belongs_to_pillow(self.path)
        named_image = by_pillow is None and self.path.suffix.lower() in IMAGES and not holds_video(self.path)
        self.by_pillow = bool(by_pillow) or named_image

    @cached_property
    def packets(self) -> Packets:
        """The packets of a video."""
        return self._call(lambda: read_packets(self.path, self.rule))

    @cached_property
    def times(self) -> NDArray[np.float64]:
        """Seconds of every frame by the file's own time stamps, ascending, the first at 0.

        A video whose packets do not give them for certain is decoded once for them.
        """
        if self.by_pillow:
            return self._call(self._read_image_times)
        packets = self.packets
        begins_with_key = packets.keys is not None and len(packets.keys) > 0 and packets.keys[0] == 0
        if packets.times is not None and packets.shows_all and begins_with_key:
            return packets.times
        return self._call(lambda: decode_times(self.segment, packets))

    def read(self, numbers: Sequence[int], make: Callable[[NDArray[np.uint8]], Made]) -> list[Made]:
        """Decode the frames of these numbers, ascending and distinct, and return what ``make`` makes of each.

        ``make`` is given upright pixels [H, W, 3] as they are stored; `shown_pixel` says their shape. One frame a
        thread is held at a time, and ``make`` is called by several of them.

        Raises:
            DataError: if a number is not in the file.
            VideoError: if the file is damaged where it is decoded.
        """
        if not numbers:
            return []
        if list(numbers) != sorted(set(numbers)) or numbers[0] < 0 or numbers[-1] >= len(self.times):
            raise DataError(
                f"frames {list(numbers)} of {self.path}",
                f"distinct frame numbers in ascending order, from 0 to {len(self.times) - 1}",
                "Correct the numbers.",
            )
        return self._call(lambda: self._read(list(numbers), make))

    @cached_property
    def shown_pixel(self) -> float:
        """The width of a pixel over its height, as it is shown."""
        return 1.0 if self.by_pillow else self._call(lambda: shown_pixel(self.segment, self.packets))

    def images(self, numbers: Sequence[int]) -> list[Image.Image]:
        """The frames of these numbers as RGB pictures in the shape and orientation in which they are shown."""
        return self.read(numbers, self._show)

    def _show(self, pixels: NDArray[np.uint8]) -> Image.Image:
        picture = Image.fromarray(np.ascontiguousarray(pixels))
        if self.shown_pixel == 1:
            return picture
        width = max(1, round(picture.width * self.shown_pixel))
        return picture.resize((width, picture.height), Image.Resampling.BICUBIC)

    def _read(self, numbers: list[int], make: Callable[[NDArray[np.uint8]], Made]) -> list[Made]:
        if self.by_pillow:
            with open_image(self.path) as image:
                return [make(read_pixels(image, number)) for number in numbers]
        for attempt in self._attempts(numbers, make):
            made = list(attempt)
            if len(made) == len(numbers):
                return made
        raise unreadable_error(self.path, "it holds other frames than when its time stamps were read")

    def _attempts(self, numbers: list[int], make: Callable[[NDArray[np.uint8]], Made]) -> Iterator[Iterator[Made]]:
        times, packets = self.times, self.packets
        if packets.stamps is not None and times is packets.times:
            yield from plan_decoding(self.segment, packets.stamps, packets, numbers, make, self.threads)
            if not np.array_equal(decode_times(self.segment, packets), times):
                return
        yield map(make, decode_indices(self.segment, set(numbers)))

    def _read_image_times(self) -> NDArray[np.float64]:
        with open_image(self.path) as image:
            check_pixels(self.path, *image.size, self.rule)
            return read_image_times(image)

    def _call(self, work: Callable[[], Made]) -> Made:
        """Do work on the file; whatever a library raises becomes a VideoError that names the file."""
        try:
            return work()
        except DynFocusError:
            raise
        except Exception as error:
            raise unreadable_error(self.path, error) from error


class NumberedFiles(NumberedFrames):
    """Image files as the frames of one video, numbered from 0 in their order; of one that moves the first frame counts.

    Args:
        files: the images, and their times where they are known.
        rule: of it only ``max_pixels`` is read.

    Raises:
        VideoError: if a file is absent, broken, or larger than the rule allows.
    """

    def __init__(self, files: FrameFiles, rule: FrameRule = FrameRule()) -> None:  # noqa: B008 (frozen)
        super().__init__(files.paths[0], rule)
        self.files, self.by_pillow = files, True

    @cached_property
    def times(self) -> NDArray[np.float64]:
        """Seconds of every image; where they are not known, one a second."""
        return list_times(self.files)

    def _read(self, numbers: list[int], make: Callable[[NDArray[np.uint8]], Made]) -> list[Made]:
        return [NumberedFrames(self.files.paths[number], self.rule).read([0], make)[0] for number in numbers]
