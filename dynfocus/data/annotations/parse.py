"""Check and parse the fields of one element of an annotation file into an entry, the same for every format."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from dynfocus.data.annotations.sources import Source
from dynfocus.errors import DataError, NoTargetError
from dynfocus.records.rows import Question, Row, Turn

TEXT, IMAGE, VIDEO = 0, 1, 2
# What a row that does not fit raises while it is parsed.
PARSE_ERRORS = (KeyError, TypeError, ValueError, OverflowError, RecursionError)
MISSING_VALUES = {"", "nan", "none", "null", "<na>"}
SLOTS = ("<image>", "<video>")
SLOT_LINE = re.compile(r"^(<image>|<video>)\s*\n|\n\s*(<image>|<video>)$")
# Words of a key that stands for a medium or for times, and endings of a value that is a file.
MEDIA_WORDS = {"image", "img", "picture", "photo", "video", "clip", "movie", "media", "frame", "gif", "audio"}
TIME_WORDS = {"start", "end", "begin", "stop", "timestamp", "span", "segment", "interval"}
NAME_WORDS = {"id", "name", "count", "number"}  # beside one of these, a word of times stands for no time
MEDIA_FILE = re.compile(r".+\.(mp4|mkv|webm|avi|mov|m4v|gif|jpe?g|png|webp|bmp|tiff?|avif|heic|wav|mp3)", re.I)
EPOCH = 1e8  # a number above is a date in seconds, not a place in a video
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
    return Row(entry.id, index, entry.media, turns, questions, entry.span, source.name)


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


def require_number_name(value: Any, what: str) -> str:
    """Return a name from a table, without the ``.0`` that programs add to whole numbers; raises ValueError."""
    stripped = require_text(value, what).strip()
    if stripped.lower() in MISSING_VALUES:
        raise ValueError(f"{what} that is absent: {value!r}")
    if re.fullmatch(r"[0-9.]+e[+-]?[0-9]+", stripped, flags=re.I):
        raise ValueError(f"{what} that lost digits: {value!r}")
    return re.sub(r"^([0-9]+)\.0+$", r"\1", stripped)


def parse_span(row: dict) -> tuple[float, float] | None:
    """Parse the start and end that a row names, in seconds; raises TypeError or ValueError."""
    start, end = row.get("start"), row.get("end")
    if start is None and end is None:
        return None
    if not _is_number(start) or not _is_number(end):
        raise TypeError(f"start {start!r} and end {end!r} that are not both numbers of seconds")
    span = float(start), float(end)
    if not 0 <= span[0] < span[1] < math.inf:
        raise ValueError(f"start {start} and end {end}, which are no segment of a video")
    return span


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def parse_media(row: dict) -> tuple[str | None, int, tuple[float, float] | None]:
    """Parse what a row shows, its kind, and which segment of it; raises TypeError or ValueError.

    A name that ends in ``.pkl``, of features, stands for the video they were made from.
    """
    present = [(key, row[key]) for key in ("image", "video") if row.get(key)]
    if len(present) > 1:
        raise ValueError(f"more than one picture: {present}")
    span = parse_span(row)
    refuse_unread_keys(row, shows=bool(present))
    if not present or present[0][0] == "image":
        if span is not None:
            raise ValueError("start and end without a video")
        return (require_text(present[0][1], "image"), IMAGE, None) if present else (None, TEXT, None)
    return re.sub(r"\.pkl$", ".mp4", require_text(present[0][1], "video")), VIDEO, span


def refuse_unread_keys(row: dict, shows: bool) -> None:
    """Raise ValueError that names keys nobody reads where they look like the medium of a row, or like times in it.

    Such a row would be learned from without what it is about. Where a row ``shows`` something, further names of it are
    left alone, but not a second picture beside the first.
    """
    words = {key: set(re.findall(r"[a-z]+?(?=s?(?![a-z]))", re.sub(r"([A-Z])", r"_\1", key).lower())) for key in row}
    if shows:
        media = [key for key in row if row[key] and re.fullmatch(r"(image|video)s?_?[0-9]+", key)]
    else:
        media = [key for key in row if _names_files(row[key], bool(words[key] & MEDIA_WORDS))]
        media += [key for key in row if {"id"} < words[key] <= MEDIA_WORDS | {"id"} and _is_number(row[key])]
    timed = {key for key in words if words[key] & TIME_WORDS and not words[key] & NAME_WORDS} - {"start", "end"}
    times = [key for key in row if key in timed and _is_time(row[key])]
    for keys, what in ((media, "a medium, image or video"), (times, "times, start and end in seconds")):
        if keys:
            raise ValueError(f"{', '.join(map(repr, keys))}, which nobody reads and which look like {what}")


def _names_files(value: Any, any_name: bool) -> bool:
    if isinstance(value, dict):
        return any(_names_files(value.get(key), any_name) for key in ("path", "bytes", "url"))
    if isinstance(value, list | tuple):
        return bool(value) and _names_files(value[0], any_name)
    return isinstance(value, str) and bool(value.strip() if any_name else MEDIA_FILE.fullmatch(value))


def _is_time(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and _is_time(value[0])
    if isinstance(value, str):
        return bool(re.match(r"\s*[0-9]", value)) and not re.match(r"\s*[0-9]{4}-[0-9]", value)
    return _is_number(value) and abs(value) < EPOCH


def strip_questions(questions: Sequence[str], kind: int) -> list[str]:
    """Take the visual slots off the questions of a row that shows one thing, of this kind; raises ValueError.

    Off the first at its start, or else at its end; off the others where they stand on a line of their own. Anywhere
    else they are a person's own text. A slot with nothing to show does not fit: any in a row of text alone, and more
    than one in a row of one image. (Of a video some write one for each frame.)
    """
    questions = [question.strip() for question in questions]
    if kind == TEXT:
        if blind := [question for question in questions if strip_slots(question) != question]:
            raise ValueError(f"a slot with nothing to show, in the question {blind[0]!r:.80}")
        return questions
    first = strip_slots(questions[0])
    slots = sum(questions[0].count(slot) - first.count(slot) for slot in SLOTS)
    if kind == IMAGE and slots > 1:
        raise ValueError(f"{slots} slots for one image")
    return [first, *(SLOT_LINE.sub("", question).strip() for question in questions[1:])]


def strip_slots(question: str) -> str:
    """Return a first question without the slots at its start, or without those at its end if it starts with none."""
    words = question
    while slot := next(filter(words.startswith, SLOTS), None):
        words = words.removeprefix(slot).lstrip()
    while words and not question.startswith(SLOTS) and (slot := next(filter(words.endswith, SLOTS), None)):
        words = words.removesuffix(slot).rstrip()
    return words.strip()


def format_options(choices: Sequence[str]) -> str:
    """Format choices as ``(A) first (B) second``; raises ValueError for none, or more than there are letters."""
    if not 0 < len(choices) <= len(LETTERS):
        raise ValueError(f"{len(choices)} choices")
    return " ".join(f"({letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
