"""What `dynfocus doctor` found of each row of a data set, kept on disk for training to read (no torch here)."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynfocus.budget import budget
from dynfocus.disk import whole
from dynfocus.errors import DataError, DiskError
from dynfocus.records import Skipped, write_jsonl
from dynfocus.settings import ConnectorSettings

KEY, NUMBERS, QUARANTINE = "key.json", "rows.npy", "quarantine.jsonl"
FORMAT = 1  # a higher number leaves all older checkups unread
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
        noted = _read_notes(self.folder / QUARANTINE, mend=write)
        self.bad = {one.index: one for one in noted if self.frames[one.index] < 0}

    @classmethod
    def open(cls, index: Path, key: dict[str, Any], rows: int) -> "Checkup":
        """The checkup under ``key`` for the doctor to write into; a new one where there is none.

        Args:
            index: folder of index files.
            key: all that the numbers hang on, as JSON; ``source`` in it is the data set's name.
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
            with whole(folder) as part:
                part.mkdir()
                np.save(part / NUMBERS, records)
                (part / KEY).write_text(json.dumps(key, sort_keys=True, indent=1))
        return cls(folder, rows, write=True)

    @classmethod
    def load(cls, index: Path, key: dict[str, Any], rows: int) -> "Checkup | None":
        """The checkup under ``key`` for training to read; None where the doctor has not looked at every row.

        Raises:
            DataError: if it is damaged.
        """
        folder = _place(index, key)
        if not (folder / KEY).exists():
            return None
        found = cls(folder, rows)
        return found if found.finished else None

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

    def note(self, bad: Iterable[Skipped]) -> None:
        """Remember rows that cannot be learned from; raises DiskError."""
        bad = list(bad)
        if not bad:
            return
        try:
            with open(self.folder / QUARANTINE, "ab", buffering=0) as file:
                file.write("".join(json.dumps(asdict(one)) + "\n" for one in bad).encode())
        except OSError as error:
            raise DiskError(
                f"{self.folder / QUARANTINE}, which could not be written ({error})",
                "a writable folder with room",
                "Free some room; the same command goes on from here.",
            ) from error
        self.bad |= {one.index: one for one in bad}
        self.records["frames"][[one.index for one in bad]] = -1

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


def _place(index: Path, key: dict[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps({"format": FORMAT, **key}, sort_keys=True).encode()).hexdigest()
    return Path(index) / "checkups" / f"{re.sub(r'[^A-Za-z0-9._-]', '_', str(key['source']))}-{digest[:16]}"


def _read_notes(path: Path, mend: bool) -> list[Skipped]:
    """The noted rows; the half of a line that a killed doctor has left is no note, and ``mend`` cuts it off."""
    if not path.exists():
        return []
    text = path.read_bytes()
    end = text.rfind(b"\n") + 1
    if mend and end < len(text):
        os.truncate(path, end)
    try:
        return [Skipped(**json.loads(line)) for line in text[:end].splitlines()]
    except (ValueError, TypeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, cause: object) -> DataError:
    return DataError(
        f"{path}, which is damaged ({cause})",
        "what dynfocus doctor has written there",
        f"Delete {path.parent} and check the data set again.",
    )
