"""Index where each row stands in its files; the index is built once and kept on disk."""

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
from dynfocus.data.annotations.parse import PARSE_ERRORS, Entry, ParseContext
from dynfocus.data.annotations.scan import detect_layout, read_header, scan
from dynfocus.errors import DataError
from dynfocus.records.atomic import atomic_write, is_settled

VERSION = 8  # of index files; those of another version are built again
MAX_TURNS = 2**16 - 1  # turns of a row that the index can count; no published set has a hundredth of them
# Names and types of the numbers that the index holds of each row.
ARRAYS = {"offsets": "Q", "lengths": "I", "files": "H", "firsts": "I", "turns": "H"}
ARRAYS |= {"kinds": "B", "sizes": "I", "groups": "H", "shows": "Q"}


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
        kinds: `TEXT`, `IMAGE`, `VIDEO` or `IMAGES`.
        sizes: bytes of its text.
        groups: which of the source's media folders its ``class`` names, counted from 1; 0 for none.
        shows: a number of what it shows, the same in all rows that show the same; 0 where the row does not fit or has
            no answer to learn from.
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
    shows: np.ndarray


def open_index(
    context: ParseContext, root: Path, files: Sequence[Path], folder: Path, companion: Path | None = None
) -> Index:
    """Open the index of these files: the one on disk in ``folder``, or a new one that is then written there.

    Args:
        context: how they are read.
        root: the data root.
        files: the source's annotation files.
        companion: the small file that parsing needs, if any; it need not exist.
        folder: where indices are kept; each is named by its files and the way in which they are read.

    Raises:
        DataError: if a file cannot be read, or changes meanwhile.
        DiskError: if the index cannot be written.
    """
    key = _index_key(context, root)
    place = folder / f"{_digest(key)}.npz"
    stamp, changed = _stamp(key, companion, files)
    if (remembered := _read_index(place, stamp)) is not None:
        return remembered
    index = _build_index(context, files, stamp)
    if _stamp(key, companion, files)[0] != stamp:
        raise DataError(
            f"{files[0]}, which changed while it was read", "annotations that stay", "Wait until they are complete."
        )
    if is_settled(changed):
        with atomic_write(place) as part, part.open("wb") as file:
            arrays = {name: getattr(index, name) for name in ARRAYS}
            np.savez(file, about=np.array(json.dumps([stamp, index.columns])), **arrays)
    return index


def media_keys(context: ParseContext) -> list[str]:
    """List the keys of the source's media folders in order; a row's group is its place here, counted from 1."""
    return sorted(context.source.media) if isinstance(context.source.media, dict) else []


def _build_index(context: ParseContext, files: Sequence[Path], stamp: str) -> Index:
    form, source = FORMATS[context.source.format], context.source
    groups = {key: number for number, key in enumerate(media_keys(context), 1)}
    columns, values = [], {name: array(kind) for name, kind in ARRAYS.items()}
    total = sum(file.stat().st_size for file in files)
    with tqdm(total=total, desc=f"indexing {source.name}", unit="B", unit_scale=True, delay=1, leave=False) as bar:
        for number, file in enumerate(files):
            layout = detect_layout(form.layout, file)
            columns.append(_read_columns(file, form.columns) if layout == "table" else [])
            for offset, length, value in scan(layout, file):
                bar.update(length)
                # A row that does not fit raises when it is read; here it only takes its place.
                rows = [(0, 0, 0, 0, 0, 0)]
                try:
                    if isinstance(value, ValueError):
                        raise value
                    if (entry := form.parse(value, context)) is None:
                        continue
                    group, shows = groups.get(entry.group or "", 0), _number_media(entry)
                    learns = [shows if turn.answer and turn.answer.strip() else 0 for turn in entry.turns]
                    sizes = [len(turn.question.encode()) + len((turn.answer or "").encode()) for turn in entry.turns]
                    step = source.rounds or len(sizes)
                    cut = [(first, sizes[first : first + step]) for first in range(0, len(sizes), step)]
                    more = len((entry.system or "").encode())
                    rows = [
                        (n, min(len(part), MAX_TURNS), entry.kind, sum(part) + more, group, max(learns[n : n + step]))
                        for n, part in cut
                    ]
                except PARSE_ERRORS:
                    pass
                for row in rows:
                    for name, one in zip(ARRAYS, (offset, length, number, *row), strict=True):
                        values[name].append(one)
    arrays = {name: np.frombuffer(numbers, numbers.typecode).copy() for name, numbers in values.items() if numbers}
    return Index(stamp, columns, **{name: arrays.get(name, np.zeros(0, kind)) for name, kind in ARRAYS.items()})


def _number_media(entry: Entry) -> int:
    """Number what an entry shows, by 63 bits of a digest: two of ten million media share one in 1 of 10^5 sets."""
    shown = repr((entry.media, entry.frames, entry.kind, entry.group, entry.span, entry.times))
    return 1 + int.from_bytes(hashlib.sha256(shown.encode("utf-8", "surrogatepass")).digest()[:8], "little") // 2


def _read_columns(file: Path, required: tuple[str, ...]) -> list[str]:
    columns = read_header(file)
    if missing := [name for name in required if name not in columns]:
        raise DataError(
            f"{file}, a table with the columns {columns}",
            f"the columns {', '.join(required)}; {', '.join(missing)} missing",
            "Check the file and its format.",
        )
    return columns


def companion_file(context: ParseContext, files: Sequence[Path]) -> Path | None:
    """Return the path of the small file beside the annotations, in formats that have one; it need not exist."""
    name = FORMATS[context.source.format].companion_name
    return None if name is None else files[0].parent / name


def _index_key(context: ParseContext, root: Path) -> list:
    source = context.source
    place = os.path.realpath(root / source.folder / source.file)
    ways = [source.format, source.rounds, source.split, source.instructions, source.lectures, media_keys(context)]
    return [place, *ways]


def _stamp(key: list, companion: Path | None, files: Sequence[Path]) -> tuple[str, int]:
    """Compute a stamp of the files and of the way in which they are read; and when one last changed, in ns."""
    statuses = [os.stat(file) for file in [*files, *([companion] if companion and companion.exists() else [])]]
    names = [os.path.realpath(file) for file in files]
    stamps = [(status.st_size, status.st_mtime_ns, status.st_ctime_ns) for status in statuses]
    return _digest([VERSION, key, names, stamps]), max(status.st_ctime_ns for status in statuses)


def _digest(value: list) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]


def _read_index(place: Path, stamp: str) -> Index | None:
    """Read an index from disk; None if it is absent, damaged, or of other files."""
    try:
        with place.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            stored_stamp, columns = json.loads(str(archive["about"]))
            if stored_stamp != stamp:
                return None
            arrays = {name: archive[name] for name in ARRAYS}
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    return Index(stamp, columns, **arrays)
