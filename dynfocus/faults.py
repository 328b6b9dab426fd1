"""What is wrong with a row, in the same few words wherever it is noted."""

from typing import Literal, get_args

from dynfocus.errors import AbsentError, DataError, DynFocusError, LongError, MuteError, OutsideError, PromptError
from dynfocus.records import Row, Skipped

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
