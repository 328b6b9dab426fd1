"""Name, share out and load the media that are sketched: videos, images, and the blank frame of text-only rows."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from torch.utils.data import DataLoader, Dataset

from dynfocus.data.loading import load_all, lost_error
from dynfocus.data.sketches.digests import Stamp, file_stamp
from dynfocus.data.sketches.entries import Check, DamagedEntryError, accept_any, has_entry
from dynfocus.errors import DynFocusError
from dynfocus.records.rows import FrameFiles, VideoSegment
from dynfocus.settings import FrameRule
from dynfocus.video import Clip
from dynfocus.video.clip import find_media
from dynfocus.video.media import Media, read_or_blank


@dataclass(frozen=True)
class SketchItem:
    """One thing to sketch: what a row shows.

    Attributes:
        media: a video, an image, a segment of a video, or None for the blank frame of text-only rows.
        address: the name under which shards hold its sketch, where it has one.
    """

    media: Media
    address: str | None = None

    def is_own_share(self, share: tuple[int, int]) -> bool:
        """Return whether this process sketches it; ``share`` is its number and how many there are."""
        return is_own_share(self.address or describe_media(self.media), share)


def is_own_share(name: str, share: tuple[int, int]) -> bool:
    """Return whether a name falls to this process; the name alone decides, so all processes agree."""
    return crc32(name.encode("utf-8", "surrogateescape")) % share[1] == share[0]


def describe_media(media: Media) -> str:
    """Describe a medium in words, for messages."""
    if isinstance(media, VideoSegment):
        return f"{media.path} from {media.start:g} s to {media.end:g} s"
    if isinstance(media, FrameFiles):
        return f"{media.paths[0]} and {len(media.paths) - 1} more files"
    return "the blank frame" if media is None else str(media)


def media_stamp(media: Path) -> Stamp:
    """Return the stamp of a video or image; raises MissingFileError if there is no such file."""
    return file_stamp(find_media(media).path)


class Clips(Dataset):
    """Clips, in loader processes: None where the sketch is on disk by now; an error is returned, not raised.

    Torch rebuilds an error that a loader process raises from its message alone, and so loses its parts.

    Args:
        entries: for each clip: where its sketch will lie, its key, and its medium.
        rule: how frames are taken from a video.
        check: refuses entries that hold no sketch.
    """

    def __init__(self, entries: list[tuple[Path, str, Media]], rule: FrameRule, check: Check = accept_any) -> None:
        self.entries, self.rule, self.check = entries, rule, check

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Clip | DynFocusError | None:
        path, key, media = self.entries[index]
        with suppress(DamagedEntryError):
            if has_entry(path, key, self.check):
                return None
        try:
            return read_or_blank(media, self.rule)
        except DynFocusError as error:
            return error

    def lose(self, index: int) -> DynFocusError:
        """Return the error of a medium whose reading crashes a process."""
        return lost_error(describe_media(self.entries[index][2]))


def load_ahead(items: Dataset, workers: int) -> Iterator[Any]:
    """Load the items one by one in their order, in so many processes ahead of their use.

    Args:
        items: what is loaded; with processes, a method ``lose`` returns what stands for an item that crashes one.
        workers: processes; 0 loads in this one.
    """
    workers = min(workers, len(items))  # type: ignore[arg-type]
    each = 1 if workers > 0 else None  # item per process: an hour of video is half a gigabyte of frames
    own = torch.Generator()  # with the global one, filling a cache would change all random numbers drawn after it
    return load_all(
        DataLoader(items, batch_size=None, num_workers=max(0, workers), prefetch_factor=each, generator=own)
    )
