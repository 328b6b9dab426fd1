"""Read the rows of a data set one by one, from annotation files of any size."""

import hashlib
import operator
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np

from dynfocus.data.annotations.find_media import MediaFinder
from dynfocus.data.annotations.formats import FORMATS
from dynfocus.data.annotations.index import Index, companion_file, media_keys, open_index
from dynfocus.data.annotations.parse import IMAGES, ParseContext, make_row, name_row_errors
from dynfocus.data.annotations.scan import decode, unreadable_error
from dynfocus.data.annotations.sources import Source
from dynfocus.data.annotations.unpack import unpack
from dynfocus.errors import DataError
from dynfocus.records.rows import FrameFiles, Row, VideoSegment

MAX_OPEN_FILES = 64  # files kept open; further ones are opened for each row


class Annotations:
    """A sequence of rows that keeps in memory only where they stand in their files; each is read when asked for.

    The files are scanned once for an index in the folder ``index``, and again when a file changes. A copy in another
    process opens the files itself.

    Args:
        source: the data set.
        root: the data root.
        index: folder for indices of annotation files.
        links: whether links that lead out of a media folder are followed.

    Raises:
        DataError: if there is no annotation file, or it cannot be read as a whole.
        DiskError: if the index cannot be written.
    """

    def __init__(self, source: Source, root: Path, index: Path, links: bool = False) -> None:
        self.source, self.root, self.folder, self.links = source, Path(root), Path(index), links
        self._open()

    def _open(self) -> None:
        self.format = FORMATS[self.source.format]
        files = self.packed = self.source.files(self.root)
        self.files = [unpack(file, self.folder, self.format.layout) for file in files]
        self.media = MediaFinder(self.source, self.root, self.links, self.folder)
        context = ParseContext(self.source)
        companion = companion_file(context, files)
        if companion is not None and self.format.read_companion is not None:
            context = ParseContext(self.source, self.format.read_companion(self.source, companion))
        self.context, self.open_files = context, OpenFiles()
        self.index: Index = open_index(context, self.root, self.files, self.folder, companion)
        self.groups = [None, *media_keys(context)]

    def __getstate__(self) -> dict[str, Any]:
        return {"arguments": (self.source, self.root, self.folder, self.links), "stamp": self.stamp}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.source, self.root, self.folder, self.links = state["arguments"]
        self._open()
        if self.stamp != state["stamp"]:
            raise DataError(
                f"{self.files[0]}, which changed since the run began", "annotations that stay", "Start the run again."
            )

    def __len__(self) -> int:
        return len(self.index.offsets)

    def __iter__(self) -> Iterator[Row]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, at: SupportsIndex) -> Row:
        """Read row ``at``; raises DataError if it does not fit its format, and IndexError if there is none."""
        index = operator.index(at)
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        index %= len(self)
        file = self.index.files[index]
        place = f"{self.packed[file]}, byte {self.index.offsets[index]}{' as unpacked' * (self.packed != self.files)}"
        return name_row_errors(lambda: self._read(index), index, place, self.format.needs)

    def _read(self, index: int) -> Row:
        places = self.index
        file = int(places.files[index])
        data = self.open_files.read(self.files[file], int(places.lengths[index]), int(places.offsets[index]))
        columns = places.columns[file]
        layout = "table" if columns else self.format.layout
        entry = self.format.parse(decode(layout, data, columns), self.context)
        if entry is None:
            raise ValueError("a row of another split")
        return make_row(entry, index, self.source, int(places.firsts[index]))

    @property
    def kinds(self) -> np.ndarray:
        """What each row shows, uint8: 0 nothing (or no row that fits), 1 an image, 2 a video, 3 several images."""
        return self.index.kinds

    @property
    def sizes(self) -> np.ndarray:
        """Bytes of each row's text, uint32; 0 where the row does not fit."""
        return self.index.sizes

    @property
    def turns(self) -> np.ndarray:
        """Turns of each row, as it is cut, uint16: 0 where the row does not fit, 65535 for that many and more."""
        return self.index.turns

    @property
    def shows(self) -> np.ndarray:
        """A number of what each row shows, uint64: rows of one number show the same; 0 where nobody can say."""
        return self.index.shows

    @property
    def stamp(self) -> str:
        """A digest that changes when an annotation file does, or the way in which it is read."""
        return self.index.stamp

    def find(self, row: Row) -> Path | VideoSegment | FrameFiles | None:
        """Find the file that the row shows, or the segment of it, or the files of its frames.

        Raises:
            VideoError: if there is none.
            DataError: if its name, or a link there, leads out of its folder.
        """
        if row.media is None:
            return None
        place = self._kind_and_group(row)
        if row.frames:
            files = make_frame_files(row, tuple(self.media.find(name, *place) for name in row.frames))
            return replace(files, is_album=place[0] == IMAGES)
        path = self.media.find(row.media, *place)
        if path.is_dir():
            return make_frame_files(row, self.media.list_frames(path))
        return path if row.span is None else VideoSegment(path, *row.span)

    def address(self, row: Row) -> str | None:
        """Return the name under the data root of what the row shows, with ``#start-end`` where it is a segment.

        Raises:
            DataError: if the name leads out of its folder.
        """
        if row.media is None:
            return None
        name = self.media.address(row.media, *self._kind_and_group(row))
        if row.times is not None:
            name += f"@{hashlib.sha256(repr(row.times).encode()).hexdigest()[:8]}"
        return name if row.span is None else f"{name}#{row.span[0]}-{row.span[1]}"

    def _kind_and_group(self, row: Row) -> tuple[int, str | None]:
        return int(self.index.kinds[row.index]), self.groups[self.index.groups[row.index]]


def make_frame_files(row: Row, paths: tuple[Path, ...]) -> FrameFiles:
    """Make the video of a row whose frames are these files."""
    seconds = tuple(n / row.times for n in range(len(paths))) if isinstance(row.times, float) else row.times
    return FrameFiles(paths, seconds, *(row.span or ()))


class OpenFiles:
    """Files that are open for reading at any byte; there is no shared position, so a forked process may read on."""

    def __init__(self) -> None:
        self.files: dict[Path, int] = {}

    def read(self, path: Path, length: int, offset: int) -> bytes:
        """Read ``length`` bytes of a file from ``offset``; raises DataError if the file is gone or cannot be read."""
        try:
            return self._read(path, length, offset)
        except OSError as error:
            raise unreadable_error(path, error) from error

    def _read(self, path: Path, length: int, offset: int) -> bytes:
        if path in self.files:
            return os.pread(self.files[path], length, offset)
        number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if len(self.files) < MAX_OPEN_FILES:
            self.files[path] = number
            return os.pread(number, length, offset)
        try:
            return os.pread(number, length, offset)
        finally:
            os.close(number)

    def __del__(self) -> None:
        for number in self.files.values():
            os.close(number)
