"""Store what `dynfocus doctor` finds of each row of a data set, on disk for training to read (no torch here)."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynfocus.budget import budget
from dynfocus.errors import DataError
from dynfocus.records.atomic import atomic_write
from dynfocus.records.jsonl import write_jsonl
from dynfocus.records.skipped import QUARANTINE, Skipped, append_notes, read_notes
from dynfocus.settings import ConnectorSettings

KEY, NUMBERS = "key.json", "rows.npy"
FORMAT = 4  # checkups of a lower number are not read
# One record a row. Its size divides a memory page's: a row is on disk whole or not at all, even after a crash.
RECORD = np.dtype(
    [(name, "<i4") for name in ("frames", "text", "slots", "targets")]
    + [("medium", "<u8"), ("unknown", "<i4"), ("spare", "<i4")]
)


@dataclass(frozen=True)
class RowCost:
    """The cost of a row's prompt besides its frames, and the number of its medium, as in `Checkup`."""

    text: int
    slots: int
    targets: int
    medium: int
    unknown: int = 0


class Checkup:
    """The findings on every row of one data set, read in one way.

    It lies in ``INDEX/checkups/NAME-HASH`` and is written row by row, so that an interrupted doctor goes on. A row is
    good if its ``frames`` are known, bad if it is in ``bad``, else not checked yet.

    Attributes:
        folder: where it lies.
        frames: int32 ``[rows]``, frames of what the row shows; 0 for a text-only row, -1 where not known.
        text: int32 ``[rows]``, tokens of its prompt that are not visual; -1 where not known.
        slots: int32 ``[rows]``, how often its prompt shows the video; -1 where not known.
        targets: int32 ``[rows]``, tokens that are learned; -1 where not known.
        unknown: int32 ``[rows]``, learned tokens that stand for what the tokenizer does not know.
        media: uint64 ``[rows]``, a number that rows share which show the same; 0 for a text-only row.
        bad: the rows that cannot be learned from, by their numbers; without those that are only too long, which depends
            on the connector's settings: see `find_over_long`.
    """

    def __init__(self, folder: Path, rows: int, write: bool = False) -> None:
        self.folder, self.write = Path(folder), write
        try:
            self.records = np.load(self.folder / NUMBERS, mmap_mode="r+" if write else "r")
        except (OSError, EOFError, ValueError) as error:
            raise _make_damage_error(self.folder / NUMBERS, error) from error
        if self.records.dtype != RECORD or self.records.shape != (rows,):
            raise _make_damage_error(self.folder / NUMBERS, f"{self.records.shape} records for {rows} rows")
        self.frames, self.text = self.records["frames"], self.records["text"]
        self.slots, self.targets, self.media = (self.records[name] for name in ("slots", "targets", "medium"))
        self.unknown = self.records["unknown"]
        try:
            notes = read_notes(self.folder / QUARANTINE, mend=write)
        except DataError as error:
            raise _make_damage_error(self.folder / QUARANTINE, error.__cause__) from error
        self.bad = {one.index: one for one in notes if self.frames[one.index] < 0}

    @classmethod
    def open(cls, index: Path, key: dict[str, Any], rows: int) -> "Checkup":
        """Open the checkup under ``key`` for the doctor to write into; a new one where there is none.

        Args:
            index: folder of index files.
            key: all that the numbers depend on, as JSON; ``source`` in it is the data set's name. Frames depend on all
                but ``tokenizer`` and ``prompt``.
            rows: rows of the data set.

        Raises:
            DataError: if it is damaged.
            DiskError: if it cannot be written.
        """
        folder = _checkup_folder(index, key)
        if not (folder / KEY).exists():
            records = np.zeros(rows, RECORD)
            for name in ("frames", "text", "slots", "targets"):
                records[name] = -1
            with atomic_write(folder) as part:
                part.mkdir()
                np.save(part / NUMBERS, records)
                (part / KEY).write_text(json.dumps({"format": FORMAT, **key}, sort_keys=True, indent=1))
        return cls(folder, rows, write=True)

    @classmethod
    def load(cls, index: Path, key: dict[str, Any], rows: int) -> "Checkup | None":
        """Load the checkup under ``key`` for training; None where the doctor has not checked every row.

        Raises:
            DataError: if it is damaged.
        """
        checkup = cls.find(index, key, rows)
        return checkup if checkup is not None and checkup.is_finished else None

    @classmethod
    def find(cls, index: Path, key: dict[str, Any], rows: int) -> "Checkup | None":
        """Find the checkup under ``key``, finished or not; None where there is none. Raises DataError."""
        folder = _checkup_folder(index, key)
        return cls(folder, rows) if (folder / KEY).exists() else None

    def __reduce__(self) -> tuple[Callable[..., "Checkup"], tuple[Path, int]]:
        return Checkup, (self.folder, len(self))  # a loader process opens the files itself

    def __len__(self) -> int:
        return len(self.records)

    @property
    def is_checked(self) -> NDArray[np.bool_]:
        """The rows that were checked: bool ``[rows]``."""
        mask = self.frames >= 0
        mask[list(self.bad)] = True
        return mask

    @property
    def needs_prompt(self) -> NDArray[np.bool_]:
        """The rows whose prompt is not known either: bool ``[rows]``."""
        return (self.frames < 0) & ((self.text < 0) | (self.media == 0))

    @property
    def is_finished(self) -> bool:
        """Whether every row was checked."""
        return int((self.frames >= 0).sum()) + len(self.bad) == len(self)

    def add_bad(self, bad: Iterable[Skipped], medium: bool = False) -> None:
        """Add rows that cannot be learned from, because of their ``medium`` or of themselves; raises DiskError."""
        bad = list(bad)
        append_notes(self.folder / QUARANTINE, bad)
        self.bad |= {one.index: one for one in bad}
        rows = [one.index for one in bad]
        self.records["frames"][rows] = -1
        if not medium:
            self.records["medium"][rows] = 0

    def add_costs(self, costs: dict[int, RowCost]) -> None:
        """Add what rows cost besides frames; those that show nothing are then good."""
        for row, cost in costs.items():
            self.records[row] = (-1, cost.text, cost.slots, cost.targets, cost.medium, cost.unknown, 0)
            if not cost.medium:
                self.set_frames([row], 0)

    def set_frames(self, rows: Sequence[int], frames: int) -> None:
        """Set how many frames the medium of some good rows has."""
        self.records["frames"][rows] = frames
        for row in rows:
            self.bad.pop(row, None)

    def copy_frames(self, other: "Checkup", rows: NDArray[np.int64]) -> None:
        """Copy the frames of those ``rows`` that show what some good row of another checkup shows."""
        usable = np.flatnonzero((other.frames > 0) & (other.media != 0))
        media, first = np.unique(other.media[usable], return_index=True)
        own_media = self.media[rows]
        rows, own_media = rows[np.isin(own_media, media)], own_media[np.isin(own_media, media)]
        self.records["frames"][rows] = other.frames[usable[first[np.searchsorted(media, own_media)]]]
        for row in self.bad.keys() & set(rows.tolist()):
            self.bad.pop(row)

    @property
    def causes(self) -> dict[int, str]:
        """The causes of media that could not be read, by their numbers."""
        notes = ((int(self.media[row]), one) for row, one in self.bad.items())
        return {medium: one.cause for medium, one in notes if medium and one.fault == "unreadable"}

    def close(self, too_long: Iterable[Skipped]) -> Path:
        """Write the quarantine whole and in the rows' order; returns its path.

        Raises:
            DiskError: if it cannot be written.
        """
        self.records.flush()
        bad = {one.index: one for one in too_long} | self.bad
        write_jsonl(self.folder / QUARANTINE, [bad[row] for row in sorted(bad)])
        return self.folder / QUARANTINE


def count_tokens(checkup: Checkup, settings: ConnectorSettings) -> NDArray[np.int64]:
    """Count the tokens of each row's prompt, with the visual ones: int64 ``[rows]``, -1 where not known."""
    tokens = checkup.text.astype(np.int64) + checkup.slots * count_visual_tokens(checkup.frames, settings)
    return np.where(checkup.frames < 0, -1, tokens)


def count_visual_tokens(frames: NDArray, settings: ConnectorSettings) -> NDArray[np.int64]:
    """Count the visual tokens of videos of so many ``frames``, each time they are shown: int64, 0 for no frame."""
    lengths, which = np.unique(frames, return_inverse=True)
    each = [budget(int(length), settings).visual_tokens if length > 0 else 0 for length in lengths]
    return np.array(each, np.int64)[which]


def find_over_long(checkup: Checkup, settings: ConnectorSettings, context: int) -> NDArray[np.int64]:
    """Find the numbers of the good rows whose prompt is longer than the ``context``, in ascending order."""
    return np.flatnonzero(count_tokens(checkup, settings) > context)


def find_other_checkups(index: Path, key: dict[str, Any]) -> dict[Path, dict[str, Any]]:
    """Find other checkups of data sets of this name: where each lies, and its key.

    Raises:
        DataError: if a key is damaged.
    """
    keys, own = {}, _checkup_folder(index, key)
    for path in sorted(own.parent.glob(f"{_file_name(key)}-*/{KEY}")):
        try:
            other = json.loads(path.read_text())
            same = other.pop("format", 1) == FORMAT and other["source"] == key["source"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise _make_damage_error(path, error) from error
        if same and path.parent != own:
            keys[path.parent] = other
    return keys


def _checkup_folder(index: Path, key: dict[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps({"format": FORMAT, **key}, sort_keys=True).encode()).hexdigest()
    return Path(index) / "checkups" / f"{_file_name(key)}-{digest[:16]}"


def _file_name(key: dict[str, Any]) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", str(key["source"]))


def _make_damage_error(path: Path, cause: object) -> DataError:
    return DataError(
        f"{path}, which is damaged ({cause})",
        "what dynfocus doctor has written there",
        f"Delete {path.parent} and check the data set again.",
    )
