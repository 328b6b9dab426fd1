"""Define what can be wrong with a row, and read and write lists of skipped rows."""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from dynfocus.errors import (
    ContextLengthError,
    DataError,
    DiskError,
    DynFocusError,
    MissingFileError,
    NoTargetError,
    PathEscapeError,
    PromptError,
)
from dynfocus.records.rows import Row

QUARANTINE = "quarantine.jsonl"


Fault = Literal["missing", "unreadable", "leaves its folder", "does not fit", "no target", "too long"]


FAULTS: tuple[Fault, ...] = get_args(Fault)


NAMES: tuple[tuple[type[Exception], Fault], ...] = (  # the first that fits
    (MissingFileError, "missing"),
    (PathEscapeError, "leaves its folder"),
    (NoTargetError, "no target"),
    (DataError, "does not fit"),
    (ContextLengthError, "too long"),
    (PromptError, "no target"),
)


@dataclass(frozen=True)
class Skipped:
    """A row that nothing could be learned from, and why: a line of a quarantine file.

    Attributes:
        source: name of its data set.
        index: its number in that data set.
        id: its own name, where it has one.
        media: what it names as its video or image.
        cause: what is wrong with it, in a word of `dynfocus.records.skipped.FAULTS` and, after a colon, in full.
    """

    source: str
    index: int
    id: str
    media: str | None
    cause: str

    @property
    def fault(self) -> str:
        """The word that its cause begins with."""
        return self.cause.partition(": ")[0]


def describe_skipped(source: str, index: int, row: Row | None, error: Exception) -> Skipped:
    """The record of a row that nothing can be learned from; ``row`` is None where it could not even be read."""
    fault = next((name for kind, name in NAMES if isinstance(error, kind)), "unreadable")
    reason = error.given if isinstance(error, DynFocusError) else str(error) or type(error).__name__
    return Skipped(source, index, row.id if row else "", row.media if row else None, f"{fault}: {reason}")


def read_notes(path: Path, mend: bool) -> list[Skipped]:
    """The noted rows of a file; the half of a line that a killed process has left is no note, and ``mend`` cuts it off.

    Raises:
        DataError: if it holds anything else.
    """
    if not path.exists():
        return []
    text = path.read_bytes()
    end = text.rfind(b"\n") + 1
    if mend and end < len(text):
        os.truncate(path, end)
    try:
        return [Skipped(**json.loads(line)) for line in text[:end].splitlines()]
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}, which is damaged ({error})", "rows as they were noted there", "Delete it.") from error


def append_notes(path: Path, notes: Iterable[Skipped]) -> None:
    """Add noted rows to a file, by one call that writes all of them; raises DiskError."""
    lines = "".join(json.dumps(asdict(one)) + "\n" for one in notes)
    if not lines:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab", buffering=0) as file:
            file.write(lines.encode())
    except OSError as error:
        raise DiskError(
            f"{path}, which could not be written ({error})",
            "a writable folder with room",
            "Free some room; the same command goes on from here.",
        ) from error
