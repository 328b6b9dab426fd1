"""What one element of an annotation file says, in the words that every format comes to."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from dynfocus.data.annotations.sources import Source
from dynfocus.errors import DataError, NoTargetError
from dynfocus.records.rows import Question, Row, Turn

TEXT, IMAGE, VIDEO = 0, 1, 2
WRONG = (
    KeyError,
    TypeError,
    ValueError,
    OverflowError,
    RecursionError,
)  # what a row that does not fit raises while it is read
ABSENT = {"", "nan", "none", "null", "<na>"}
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Reading:
    """How elements become rows: the data set, and what stands in the small file beside its annotations, if any."""

    source: Source
    beside: Any = None


@dataclass(frozen=True)
class Entry:
    """One element of an annotation file.

    Attributes:
        id, media, turns, questions, span: as in `Row`.
        kind: `TEXT`, `IMAGE` or `VIDEO`.
        group: the row's ``class``, which may say in what folder its medium is.
    """

    id: str
    media: str | None
    kind: int
    turns: tuple[Turn, ...]
    questions: tuple[Question, ...] = ()
    span: tuple[float, float] | None = None
    group: str | None = None


def piece(entry: Entry, index: int, source: Source, first: int) -> Row:
    """The row of an entry's turns from number ``first`` on, as many as the source allows.

    Raises:
        NoTargetError: if none of its answers holds a word.
    """
    stop = len(entry.turns) if source.rounds is None else first + source.rounds
    turns = entry.turns[first:stop]
    if not any(turn.answer and turn.answer.strip() for turn in turns):
        given = f"row {index} of {source.name}, none of whose answers holds a word"
        raise NoTargetError(given, "an answer to learn from", "Fill it in, or delete the row.")
    questions = entry.questions
    if len(turns) < len(entry.turns):
        questions = questions[first:stop] if len(questions) == len(entry.turns) else ()
    return Row(entry.id, index, entry.media, turns, questions, entry.span, source.name)


def row_or_error(read: Callable[[], Row], index: int, place: str, needs: str) -> Row:
    """What ``read`` gives; raises DataError that names row ``index``, its place and what is wrong with it."""
    try:
        return read()
    except WRONG as error:
        cause = f"no {error}" if isinstance(error, KeyError) else error
        raise DataError(f"row {index} of {place} ({cause})", needs, "Mend or delete the row.") from error


def mapping(value: Any) -> dict:
    """``value``, which is a JSON object; raises TypeError."""
    if not isinstance(value, dict):
        raise TypeError(f"a {type(value).__name__} in place of an object")
    return value


def listing(value: Any, what: str) -> list:
    """``value``, which is a list; raises TypeError."""
    if not isinstance(value, list | tuple):
        raise TypeError(f"{what} that is a {type(value).__name__} in place of a list")
    return list(value)


def text(value: Any, what: str) -> str:
    """``value``, which is text that can be written as UTF-8; raises TypeError or ValueError."""
    if not isinstance(value, str):
        raise TypeError(f"{what} that is no text: {value!r:.80}")
    value.encode()
    return value


def words(value: Any, what: str) -> str:
    """``value`` without blanks around it, which is text of at least one sign; raises TypeError or ValueError."""
    if not (found := text(value, what).strip()):
        raise ValueError(f"{what} that is empty")
    return found


def name(value: Any, what: str) -> str:
    """A name that is text or a whole number; raises TypeError or ValueError."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else text(value, what)


def number_name(value: Any, what: str) -> str:
    """A name from a table; ``1066682446.0`` is a number that some program took for a float; raises ValueError."""
    found = text(value, what).strip()
    if found.lower() in ABSENT:
        raise ValueError(f"{what} that is absent: {value!r}")
    if re.fullmatch(r"[0-9.]+e[+-]?[0-9]+", found, flags=re.I):
        raise ValueError(f"{what} that lost digits: {value!r}")
    return re.sub(r"^([0-9]+)\.0+$", r"\1", found)


def span(row: dict) -> tuple[float, float] | None:
    """The start and end that a row names, in seconds; raises TypeError or ValueError."""
    start, end = row.get("start"), row.get("end")
    if start is None and end is None:
        return None
    if not _is_number(start) or not _is_number(end):
        raise TypeError(f"start {start!r} and end {end!r} that are not both numbers of seconds")
    found = float(start), float(end)
    if not 0 <= found[0] < found[1] < math.inf:
        raise ValueError(f"start {start} and end {end}, which are no stretch of a video")
    return found


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def medium(row: dict) -> tuple[str | None, int, tuple[float, float] | None]:
    """What a row shows, of which kind, and which stretch of it; raises TypeError or ValueError.

    A name that ends in ``.pkl``, of features, stands for the video they were made from.
    """
    shown = [(key, row[key]) for key in ("image", "video") if row.get(key)]
    if len(shown) > 1:
        raise ValueError(f"more than one picture: {shown}")
    found = span(row)
    if not shown or shown[0][0] == "image":
        if found is not None:
            raise ValueError("start and end without a video")
        return (text(shown[0][1], "image"), IMAGE, None) if shown else (None, TEXT, None)
    return re.sub(r"\.pkl$", ".mp4", text(shown[0][1], "video")), VIDEO, found


def options(choices: Sequence[str]) -> str:
    """``(A) first (B) second``; raises ValueError for none, or more than there are letters."""
    if not 0 < len(choices) <= len(LETTERS):
        raise ValueError(f"{len(choices)} choices")
    return " ".join(f"({letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
