"""What is sketched: the frames of videos and images, and the blank frame of text-only rows."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import torch
from torch.utils.data import DataLoader, Dataset

from dynfocus.data.sketches.digests import Stamp, stamp
from dynfocus.data.sketches.entries import Damaged, glance
from dynfocus.errors import DynFocusError
from dynfocus.records.rows import VideoSegment
from dynfocus.settings import FrameRule
from dynfocus.video import Clip, read_media
from dynfocus.video.clip import existing

Media = Path | VideoSegment | None


@dataclass(frozen=True)
class Shown:
    """What a row shows.

    Attributes:
        media: a video, an image, a stretch of a video, or None for the blank frame of text-only rows.
        address: the name under which shards hold its sketch, where it has one.
    """

    media: Media
    address: str | None = None

    def dealt(self, share: tuple[int, int]) -> bool:
        """Whether it is this process's, of how many, to sketch."""
        return dealt(self.address or named(self.media), share)


def dealt(name: str, share: tuple[int, int]) -> bool:
    """Whether what has this name is this process's, of how many; its name alone decides."""
    return crc32(name.encode("utf-8", "surrogateescape")) % share[1] == share[0]


def named(media: Media) -> str:
    """What messages call it."""
    if isinstance(media, VideoSegment):
        return f"{media.path} from {media.start:g} s to {media.end:g} s"
    return "the blank frame" if media is None else str(media)


def media_stamp(media: Path) -> Stamp:
    """The stamp of a video or image; raises MissingFileError if there is no such file."""
    return stamp(existing(media).path)


def read_or_blank(media: Media, rule: FrameRule) -> Clip:
    """A video, image or stretch of a video; or, for None, the one grey frame that text-only rows bring."""
    if media is not None:
        return read_media(media, rule)
    return Clip(torch.full((1, rule.size, rule.size, 3), 128, dtype=torch.uint8), torch.zeros(1), "pillow")


class Clips(Dataset):
    """Clips; None where there is an entry by now; or an error, which would not cross a process's border if raised.

    Args:
        entries: where each clip's sketch will lie, its key, and what is sketched.
        rule: how frames are taken from a video.
    """

    def __init__(self, entries: list[tuple[Path, str, Media]], rule: FrameRule) -> None:
        self.entries, self.rule = entries, rule

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Clip | DynFocusError | None:
        path, key, media = self.entries[index]
        with suppress(Damaged):
            if glance(path, key):
                return None
        try:
            return read_or_blank(media, self.rule)
        except DynFocusError as error:
            return error


def ahead(items: Dataset, workers: int) -> DataLoader:
    """The items one by one in their order, made ready by so many processes."""
    workers = min(workers, len(items) - 1)  # type: ignore[arg-type]
    each = 1 if workers > 0 else None  # an hour of video is half a gigabyte of frames
    own = torch.Generator()  # or a cache that has to be filled would move what is drawn after it
    return DataLoader(items, batch_size=None, num_workers=max(0, workers), prefetch_factor=each, generator=own)
