"""Remember which media had their sketches when a cache was last looked through: the next look then opens no entry."""

import os
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np

from dynfocus.data.sketches.digests import Stamp
from dynfocus.data.sketches.media import media_stamp
from dynfocus.errors import DiskError
from dynfocus.records.atomic import atomic_write, is_settled
from dynfocus.records.rows import FrameFiles, VideoSegment
from dynfocus.video.media import Media

FILE = "checked.npy"
ROW = np.dtype([("media", "<u8"), ("state", "<u8"), ("name", "V32")])


class CheckedEntries:
    """Media with the entries that were checked for them, in one file of a cache's folder.

    An entry is there as long as its medium's files and its own keep their sizes and times of change. What is not
    remembered, or has changed since, has to be checked again.

    Args:
        folder: the cache's.
        made_with: all that a sketch depends on besides its medium.
    """

    def __init__(self, folder: Path, made_with: str) -> None:
        self.folder, self.made_with = folder, made_with
        self.known, self.added = self._read(), list[tuple[int, int, bytes]]()

    def stamp(self, media: Media) -> tuple[Stamp, ...]:
        """Return the stamps of a medium's files, none for the blank frame; raises MissingFileError if one is absent."""
        if isinstance(media, FrameFiles):
            return tuple(map(media_stamp, media.paths))
        file = media.path if isinstance(media, VideoSegment) else media
        return () if file is None else (media_stamp(file),)

    def hold(self, media: Media, stamps: Sequence[Stamp]) -> bool:
        """Whether the entry of a medium with these stamps was checked, and is as it was."""
        number = self._number(media, stamps)
        at = np.searchsorted(self.known["media"], np.uint64(number))
        if at == len(self.known) or self.known["media"][at] != number:
            return False
        name = self.known["name"][at].tobytes().hex()
        with suppress(OSError):
            return _read_state(place_entry(self.folder, name))[0] == int(self.known["state"][at])
        return False

    def add(self, media: Media, stamps: Sequence[Stamp], name: str) -> None:
        """Remember that the entry of this name was checked; not what changed so lately that it may change unseen."""
        state, changed = _read_state(place_entry(self.folder, name))
        if all(map(is_settled, (changed, *(stamp[-1] for stamp in stamps)))):
            self.added.append((self._number(media, stamps), state, bytes.fromhex(name)))

    def save(self) -> None:
        """Write what was added to what other processes have written; where that cannot be, nothing is remembered."""
        if not self.added:
            return
        rows = np.concatenate([np.array(self.added, ROW), self._read()])  # of equal media the first one counts
        rows = rows[np.unique(rows["media"], return_index=True)[1]]
        with suppress(DiskError), atomic_write(self.folder / FILE) as part, part.open("wb") as file:
            np.save(file, rows)

    def _read(self) -> np.ndarray:
        with suppress(OSError, ValueError, EOFError):
            rows = np.load(self.folder / FILE, allow_pickle=False)
            if rows.dtype == ROW and rows.ndim == 1:
                return rows
        return np.empty(0, ROW)

    def _number(self, media: Media, stamps: Sequence[Stamp]) -> int:
        return _digest(self.made_with, media, stamps)


def place_entry(folder: Path, name: str) -> Path:
    """Return where the entry of this name lies."""
    return folder / name[:2] / f"{name}.safetensors"


def _read_state(path: Path) -> tuple[int, int]:
    """Return a number for the size and times of a file, and when it last changed."""
    status = os.stat(path)
    return _digest(status.st_size, status.st_mtime_ns, status.st_ctime_ns), status.st_ctime_ns


def _digest(*values: object) -> int:
    return int.from_bytes(sha256(repr(values).encode("utf-8", "surrogatepass")).digest()[:8], "little")
