"""What is wrong with a row, in the same few words wherever it is noted."""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Literal, get_args

from dynfocus.errors import (
    AbsentError,
    DataError,
    DiskError,
    DynFocusError,
    LongError,
    MuteError,
    OutsideError,
    PromptError,
)
from dynfocus.records import Row, Skipped

QUARANTINE = "quarantine.jsonl"
Fault = Literal["missing", "unreadable", "leaves its folder", "does not fit", "no target", "too long"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
NAMES: tuple[tuple[type[Exception], Fault], ...] = (  # the first that fits
    (AbsentError, "missing"),
    (OutsideError, "leaves its folder"),
    (MuteError, "no target"),
    (DataError, "does not fit"),
    (LongError, "too long"),
    (PromptError, "no target"),
)


def noted(source: str, index: int, row: Row | None, error: Exception) -> Skipped:
    """The record of a row that nothing can be learned from; ``row`` is None where it could not even be read."""
    fault = next((name for kind, name in NAMES if isinstance(error, kind)), "unreadable")
    said = error.given if isinstance(error, DynFocusError) else str(error) or type(error).__name__
    return Skipped(source, index, row.id if row else "", row.media if row else None, f"{fault}: {said}")


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
