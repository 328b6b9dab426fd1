"""Where each row stands in its files, found once and remembered."""

import hashlib
import json
import os
import zipfile
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dynfocus.data.annotations.formats import FORMATS
from dynfocus.data.annotations.parse import WRONG, Reading
from dynfocus.data.annotations.scan import header, scan
from dynfocus.errors import DataError
from dynfocus.records.atomic import atomic_write, settled

VERSION = 2  # of what is remembered; another is made anew
MOST = 2**16 - 1  # turns that are told of a row; none of any published set has a hundredth of them
# Names and types of what is remembered of each row.
ARRAYS = {"offsets": "Q", "lengths": "I", "files": "H", "firsts": "I", "turns": "H"}
ARRAYS |= {"kinds": "B", "sizes": "I", "groups": "H"}


@dataclass(frozen=True)
class Index:
    """Arrays of one number for each row; a row may be some turns of an element.

    Attributes:
        stamp: changes when a file does, or the way in which it is read.
        columns: the columns of each file that is a table.
        offsets, lengths: where its element is in the file, in bytes.
        files: in which of the files.
        firsts: the number of the element's turn that it begins with.
        turns: how many of them it has; 0 where the row does not fit, and `MOST` for more.
        kinds: `entries.TEXT`, `IMAGE` or `VIDEO`.
        sizes: bytes of its text.
        groups: which of the source's media folders its ``class`` names, counted from 1; 0 for none.
    """

    stamp: str
    columns: list[list[str]]
    offsets: np.ndarray
    lengths: np.ndarray
    files: np.ndarray
    firsts: np.ndarray
    turns: np.ndarray
    kinds: np.ndarray
    sizes: np.ndarray
    groups: np.ndarray


def indexed(reading: Reading, root: Path, files: Sequence[Path], folder: Path) -> Index:
    """The index of these files: as remembered in ``folder``, or found and remembered.

    Args:
        reading: how they are read.
        root: the data root.
        files: the source's annotation files.
        folder: where indices are kept; one is known by the files' name and the way in which they are read.

    Raises:
        DataError: if a file cannot be read, or changes meanwhile.
        DiskError: if the index cannot be written.
    """
    known = _known_by(reading, root)
    place = folder / f"{_digest(known)}.npz"
    stamp, changed = _stamp(known, reading, files)
    if (found := _read(place, stamp)) is not None:
        return found
    index = _find(reading, files, stamp)
    if _stamp(known, reading, files)[0] != stamp:
        raise DataError(
            f"{files[0]}, which changed while it was read", "annotations that stay", "Wait until they are complete."
        )
    if settled(changed):
        with atomic_write(place) as part, part.open("wb") as file:
            arrays = {name: getattr(index, name) for name in ARRAYS}
            np.savez(file, about=np.array(json.dumps([stamp, index.columns])), **arrays)
    return index


def media_keys(reading: Reading) -> list[str]:
    """The keys of the source's media folders, in their order; a row's group is its place here, counted from 1."""
    return sorted(reading.source.media) if isinstance(reading.source.media, dict) else []


def _find(reading: Reading, files: Sequence[Path], stamp: str) -> Index:
    form, source = FORMATS[reading.source.format], reading.source
    groups = {key: number for number, key in enumerate(media_keys(reading), 1)}
    columns, found = [], {name: array(kind) for name, kind in ARRAYS.items()}
    total = sum(file.stat().st_size for file in files)
    with tqdm(total=total, desc=f"indexing {source.name}", unit="B", unit_scale=True, delay=1, leave=False) as bar:
        for number, file in enumerate(files):
            columns.append(_columns(file, form.columns))
            for offset, length, value in scan(form.layout, file):
                bar.update(length)
                # What does not fit is told when the row is read; here it only takes its place.
                rows = [(0, 0, 0, 0, 0)]
                try:
                    if isinstance(value, ValueError):
                        raise value
                    if (entry := form.parse(value, reading)) is None:
                        continue
                    group = groups.get(entry.group or "", 0)
                    sizes = [len(turn.question.encode()) + len((turn.answer or "").encode()) for turn in entry.turns]
                    step = source.rounds or len(sizes)
                    cut = [(first, sizes[first : first + step]) for first in range(0, len(sizes), step)]
                    rows = [(first, min(len(part), MOST), entry.kind, sum(part), group) for first, part in cut]
                except WRONG:
                    pass
                for row in rows:
                    for name, one in zip(ARRAYS, (offset, length, number, *row), strict=True):
                        found[name].append(one)
    arrays = {name: np.frombuffer(numbers, numbers.typecode).copy() for name, numbers in found.items() if numbers}
    return Index(stamp, columns, **{name: arrays.get(name, np.zeros(0, kind)) for name, kind in ARRAYS.items()})


def _columns(file: Path, needed: tuple[str, ...]) -> list[str]:
    columns = header(file) if needed else []
    if missing := [name for name in needed if name not in columns]:
        raise DataError(
            f"{file}, a table with the columns {columns}",
            f"the columns {', '.join(needed)}; {', '.join(missing)} missing",
            "Check the file and its format.",
        )
    return columns


def beside(reading: Reading, files: Sequence[Path]) -> Path | None:
    """The small file beside the annotations, in formats that have one; it need not be there."""
    name = FORMATS[reading.source.format].beside
    return None if name is None else files[0].parent / name


def _known_by(reading: Reading, root: Path) -> list:
    source = reading.source
    place = os.path.realpath(root / source.folder / source.file)
    ways = [source.format, source.rounds, source.split, source.instructions, source.lectures, media_keys(reading)]
    return [place, *ways]


def _stamp(known: list, reading: Reading, files: Sequence[Path]) -> tuple[str, int]:
    """What changes with the files and the way in which they are read; and when one last changed, in ns."""
    near = beside(reading, files)
    found = [os.stat(file) for file in [*files, *([near] if near and near.exists() else [])]]
    names = [os.path.realpath(file) for file in files]
    stamps = [(one.st_size, one.st_mtime_ns, one.st_ctime_ns) for one in found]
    return _digest([VERSION, known, names, stamps]), max(one.st_ctime_ns for one in found)


def _digest(known: list) -> str:
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:32]


def _read(place: Path, stamp: str) -> Index | None:
    """What is remembered, if it is whole and of these files."""
    try:
        with place.open("rb") as file, np.load(file, allow_pickle=False) as held:
            known, columns = json.loads(str(held["about"]))
            if known != stamp:
                return None
            arrays = {name: held[name] for name in ARRAYS}
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    return Index(stamp, columns, **arrays)
