"""What `dynfocus doctor` found of each row of a data set, kept on disk for training to read (no torch here)."""

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
FORMAT = 2  # a higher number leaves all older checkups unread
# One record a row, of a size that divides a page's: a row is on disk whole or not at all, whatever ends the machine.
RECORD = np.dtype(
    [("frames", "<i4"), ("text", "<i4"), ("slots", "<i4"), ("targets", "<i4"), ("medium", "<u8"), ("spare", "<u8")]
)


@dataclass(frozen=True)
class Measured:
    """What a row's prompt costs besides its frames, and the number of what it shows, as in `Checkup`."""

    text: int
    slots: int
    targets: int
    medium: int


class Checkup:
    """What was found of every row of one data set, read in one way.

    It lies in ``INDEX/checkups/NAME-HASH``. What is written stays, however the doctor ends, and what was not looked at
    is known. A row is good if its ``frames`` are known, bad if it is in ``bad``, else not looked at yet.

    Attributes:
        folder: where it lies.
        frames: int32 ``[rows]``, frames of what the row shows; 0 for a text-only row, -1 where not known.
        text: int32 ``[rows]``, tokens of its prompt that are not visual; -1 where not known.
        slots: int32 ``[rows]``, how often its prompt shows the video; -1 where not known.
        targets: int32 ``[rows]``, tokens that are learned; -1 where not known.
        media: uint64 ``[rows]``, a number that rows share which show the same; 0 for a text-only row.
        bad: the rows that cannot be learned from, by their numbers; without those that are merely too long, which
            hang on the connector's settings: see `over_long`.
    """

    def __init__(self, folder: Path, rows: int, write: bool = False) -> None:
        self.folder, self.write = Path(folder), write
        try:
            self.records = np.load(self.folder / NUMBERS, mmap_mode="r+" if write else "r")
        except (OSError, EOFError, ValueError) as error:
            raise _damaged(self.folder / NUMBERS, error) from error
        if self.records.dtype != RECORD or self.records.shape != (rows,):
            raise _damaged(self.folder / NUMBERS, f"{self.records.shape} records for {rows} rows")
        self.frames, self.text = self.records["frames"], self.records["text"]
        self.slots, self.targets, self.media = (self.records[name] for name in ("slots", "targets", "medium"))
        try:
            noted = read_notes(self.folder / QUARANTINE, mend=write)
        except DataError as error:
            raise _damaged(self.folder / QUARANTINE, error.__cause__) from error
        self.bad = {one.index: one for one in noted if self.frames[one.index] < 0}

    @classmethod
    def open(cls, index: Path, key: dict[str, Any], rows: int) -> "Checkup":
        """The checkup under ``key`` for the doctor to write into; a new one where there is none.

        Args:
            index: folder of index files.
            key: all that the numbers hang on, as JSON; ``source`` in it is the data set's name, and all but
                ``tokenizer`` and ``prompt`` is what frames hang on.
            rows: rows of the data set.

        Raises:
            DataError: if it is damaged.
            DiskError: if it cannot be written.
        """
        folder = _place(index, key)
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
        """The checkup under ``key`` for training to read; None where the doctor has not looked at every row.

        Raises:
            DataError: if it is damaged.
        """
        found = cls.find(index, key, rows)
        return found if found is not None and found.finished else None

    @classmethod
    def find(cls, index: Path, key: dict[str, Any], rows: int) -> "Checkup | None":
        """The checkup under ``key``, finished or not; None where there is none. Raises DataError."""
        folder = _place(index, key)
        return cls(folder, rows) if (folder / KEY).exists() else None

    def __reduce__(self) -> tuple[Callable[..., "Checkup"], tuple[Path, int]]:
        return Checkup, (self.folder, len(self))  # to a loader's process the place alone, not the numbers

    def __len__(self) -> int:
        return len(self.records)

    @property
    def looked(self) -> NDArray[np.bool_]:
        """Which rows were looked at: bool ``[rows]``."""
        looked = self.frames >= 0
        looked[list(self.bad)] = True
        return looked

    @property
    def unread(self) -> NDArray[np.bool_]:
        """Of which rows not even the prompt is known: bool ``[rows]``."""
        return (self.frames < 0) & ((self.text < 0) | (self.media == 0))

    @property
    def finished(self) -> bool:
        """Whether every row was looked at."""
        return int((self.frames >= 0).sum()) + len(self.bad) == len(self)

    def note(self, bad: Iterable[Skipped], medium: bool = False) -> None:
        """Remember rows that cannot be learned from, for what they show or else for themselves; raises DiskError."""
        bad = list(bad)
        append_notes(self.folder / QUARANTINE, bad)
        self.bad |= {one.index: one for one in bad}
        rows = [one.index for one in bad]
        self.records["frames"][rows] = -1
        if not medium:
            self.records["medium"][rows] = 0

    def measure(self, measured: dict[int, Measured]) -> None:
        """Remember what rows cost besides frames; those that show nothing are good by that."""
        for row, one in measured.items():
            self.records[row] = (-1, one.text, one.slots, one.targets, one.medium, 0)
            if not one.medium:
                self.settle([row], 0)

    def settle(self, rows: Sequence[int], frames: int) -> None:
        """Remember how many frames the medium of some good rows has."""
        self.records["frames"][rows] = frames
        for row in rows:
            self.bad.pop(row, None)

    def take(self, other: "Checkup", rows: NDArray[np.int64]) -> None:
        """Settle those of the ``rows`` that show what some good row of another checkup shows."""
        known = np.flatnonzero((other.frames > 0) & (other.media != 0))
        media, first = np.unique(other.media[known], return_index=True)
        shown = self.media[rows]
        rows, shown = rows[np.isin(shown, media)], shown[np.isin(shown, media)]
        self.records["frames"][rows] = other.frames[known[first[np.searchsorted(media, shown)]]]
        for row in self.bad.keys() & set(rows.tolist()):
            self.bad.pop(row)

    @property
    def causes(self) -> dict[int, str]:
        """What is wrong with the media that could not be read, by their numbers."""
        noted = ((int(self.media[row]), one) for row, one in self.bad.items())
        return {medium: one.cause for medium, one in noted if medium and one.fault == "unreadable"}

    def close(self, too_long: Iterable[Skipped]) -> Path:
        """Write the quarantine whole and in the rows' order; returns its path.

        Raises:
            DiskError: if it cannot be written.
        """
        self.records.flush()
        listed = {one.index: one for one in too_long} | self.bad
        write_jsonl(self.folder / QUARANTINE, [listed[row] for row in sorted(listed)])
        return self.folder / QUARANTINE


def costs(checkup: Checkup, settings: ConnectorSettings) -> NDArray[np.int64]:
    """Tokens of each row's prompt, the visual ones among them: int64 ``[rows]``, -1 where not known."""
    tokens = checkup.text.astype(np.int64) + checkup.slots * visual(checkup.frames, settings)
    return np.where(checkup.frames < 0, -1, tokens)


def visual(frames: NDArray, settings: ConnectorSettings) -> NDArray[np.int64]:
    """Visual tokens of videos of so many ``frames``, each time they are shown: int64, 0 where there are none."""
    lengths, which = np.unique(frames, return_inverse=True)
    each = [budget(int(length), settings).visual_tokens if length > 0 else 0 for length in lengths]
    return np.array(each, np.int64)[which]


def over_long(checkup: Checkup, settings: ConnectorSettings, context: int) -> NDArray[np.int64]:
    """Numbers of the good rows whose prompt is longer than the ``context``, in ascending order."""
    return np.flatnonzero(costs(checkup, settings) > context)


def others(index: Path, key: dict[str, Any]) -> dict[Path, dict[str, Any]]:
    """Other checkups of data sets of this name: where each lies, and its key.

    Raises:
        DataError: if a key is damaged.
    """
    found, own = {}, _place(index, key)
    for path in sorted(own.parent.glob(f"{_name(key)}-*/{KEY}")):
        try:
            held = json.loads(path.read_text())
            same = held.pop("format", 1) == FORMAT and held["source"] == key["source"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(path, error) from error
        if same and path.parent != own:
            found[path.parent] = held
    return found


def _place(index: Path, key: dict[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps({"format": FORMAT, **key}, sort_keys=True).encode()).hexdigest()
    return Path(index) / "checkups" / f"{_name(key)}-{digest[:16]}"


def _name(key: dict[str, Any]) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", str(key["source"]))


def _damaged(path: Path, cause: object) -> DataError:
    return DataError(
        f"{path}, which is damaged ({cause})",
        "what dynfocus doctor has written there",
        f"Delete {path.parent} and check the data set again.",
    )
