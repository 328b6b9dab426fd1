"""Check and parse the fields of one element of an annotation file into an entry, the same for every format."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from dynfocus.data.annotations.sources import Source
from dynfocus.errors import DataError, NoTargetError
from dynfocus.records.rows import Question, Row, Turn

TEXT, IMAGE, VIDEO, IMAGES = 0, 1, 2, 3
# What a row that does not fit raises while it is parsed.
PARSE_ERRORS = (KeyError, TypeError, ValueError, OverflowError, RecursionError)
MISSING_VALUES = {"", "nan", "none", "null", "<na>"}
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class ParseContext:
    """What parsing needs besides the element: the data set, and the content of its companion file, if it has one."""

    source: Source
    companion: Any = None


@dataclass(frozen=True)
class Entry:
    """One element of an annotation file.

    Attributes:
        id: the element's own name, if it has one; else a row is called by its number.
        media, turns, questions, span, frames, times, system: as in `Row`.
        kind: `TEXT`, `IMAGE`, `VIDEO`, or `IMAGES`, several of them.
        group: the row's ``class``, which may say in what folder its medium is.
    """

    id: str | None
    media: str | None
    kind: int
    turns: tuple[Turn, ...]
    questions: tuple[Question, ...] = ()
    span: tuple[float, float] | None = None
    group: str | None = None
    frames: tuple[str, ...] = ()
    times: float | tuple[float, ...] | None = None
    system: str | None = None


def make_row(entry: Entry, index: int, source: Source, first: int) -> Row:
    """Make a row of an entry's turns from number ``first`` on, as many as the source allows.

    Raises:
        NoTargetError: if none of its answers holds a word.
    """
    stop = len(entry.turns) if source.rounds is None else first + source.rounds
    turns = entry.turns[first:stop]
    if not any(turn.answer and turn.answer.strip() for turn in turns):
        problem = f"row {index} of {source.name}, none of whose answers holds a word"
        raise NoTargetError(problem, "an answer to learn from", "Fill it in, or delete the row.")
    questions = entry.questions
    if len(turns) < len(entry.turns):
        questions = questions[first:stop] if len(questions) == len(entry.turns) else ()
    return Row(
        id=str(index) if entry.id is None else entry.id,
        index=index,
        media=entry.media,
        turns=turns,
        questions=questions,
        span=entry.span,
        source=source.name,
        frames=entry.frames,
        times=entry.times,
        system=entry.system,
    )


def name_row_errors(read: Callable[[], Row], index: int, place: str, needs: str) -> Row:
    """Return what ``read`` returns; raises DataError that names row ``index``, its place and what is wrong with it."""
    try:
        return read()
    except PARSE_ERRORS as error:
        cause = f"no {error}" if isinstance(error, KeyError) else error
        raise DataError(f"row {index} of {place} ({cause})", needs, "Mend or delete the row.") from error


def require_object(value: Any) -> dict:
    """Return ``value`` if it is a JSON object; raises TypeError."""
    if not isinstance(value, dict):
        raise TypeError(f"a {type(value).__name__} in place of an object")
    return value


def require_list(value: Any, what: str) -> list:
    """Return ``value`` if it is a list; raises TypeError."""
    if not isinstance(value, list | tuple):
        raise TypeError(f"{what} that is a {type(value).__name__} in place of a list")
    return list(value)


def require_text(value: Any, what: str) -> str:
    """Return ``value`` if it is text that can be written as UTF-8; raises TypeError or ValueError."""
    if not isinstance(value, str):
        raise TypeError(f"{what} that is no text: {value!r:.80}")
    value.encode()
    return value


def require_words(value: Any, what: str) -> str:
    """Return ``value`` without blanks around it if it is text that is not empty; raises TypeError or ValueError."""
    if not (stripped := require_text(value, what).strip()):
        raise ValueError(f"{what} that is empty")
    return stripped


def require_name(value: Any, what: str) -> str:
    """Return a name, given as text or as a whole number; raises TypeError or ValueError."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else require_text(value, what)


def parse_id(row: dict) -> str | None:
    """Return the id of a row that has one; raises TypeError or ValueError."""
    return None if row.get("id") is None else require_name(row["id"], "id")


def require_number_name(value: Any, what: str) -> str:
    """Return a name from a table, without the ``.0`` that programs add to whole numbers; raises ValueError."""
    stripped = require_text(value, what).strip()
    if stripped.lower() in MISSING_VALUES:
        raise ValueError(f"{what} that is absent: {value!r}")
    if re.fullmatch(r"[0-9.]+e[+-]?[0-9]+", stripped, flags=re.I):
        raise ValueError(f"{what} that lost digits: {value!r}")
    return re.sub(r"^([0-9]+)\.0+$", r"\1", stripped)


def is_number(value: Any) -> TypeGuard[int | float]:
    """Return whether ``value`` is a number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def format_options(choices: Sequence[str]) -> str:
    """Format choices as ``(A) first (B) second``; raises ValueError for none, or more than there are letters."""
    if not 0 < len(choices) <= len(LETTERS):
        raise ValueError(f"{len(choices)} choices")
    return " ".join(f"({letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
