"""Define the lines of the files that many questions are read from, and chosen frames and scores written to."""

from dataclasses import dataclass
from itertools import chain
from math import inf, isfinite
from pathlib import Path
from typing import Any

from dynfocus.bridge.picked import Picked
from dynfocus.data.annotations.scan import detect_layout, read_header, scan
from dynfocus.errors import DataError, MissingFileError
from dynfocus.records.rows import VideoSegment

EXAMPLE = 'an object such as {"id": "1", "video": "a.mp4", "question": "What falls?"}'
COLUMNS = ("video", "question", "id", "start", "end")


@dataclass(frozen=True)
class Asked:
    """One question about one video: a line of a file of questions.

    Attributes:
        id: names the question; no two in a file are the same.
        video: path of the video, as the file has it.
        question: None where frames are chosen for no question.
        path: where the video lies.
        start, end: seconds of the part of the video that it is about; None for its beginning, and for its end.
    """

    id: str
    video: str
    question: str | None
    path: Path
    start: float | None = None
    end: float | None = None

    @property
    def media(self) -> Path | VideoSegment:
        """The video, or the part of it that the question is about."""
        if self.start is None and self.end is None:
            return self.path
        return VideoSegment(self.path, self.start or 0.0, inf if self.end is None else self.end)


@dataclass(frozen=True)
class QuestionFile:
    """The rows of a file of questions.

    Attributes:
        rows: those that can be asked.
        faults: for each other one, what is wrong with it, and in which line.
    """

    rows: list[Asked]
    faults: list[DataError]


@dataclass(frozen=True)
class Chosen:
    """The frames that were chosen for one question: a line of frames.jsonl.

    Attributes:
        id, video, question: as they were asked.
        selector: what chose them.
        features: what it read of the frames.
        keep: how many frames were asked for; there are fewer where the video has fewer candidates.
        frames: their numbers in the file, counted from 0, ascending.
        seconds: the time of each since the video's first frame.
        fps, total, duration: the video's, as in `Picked`.
        scores: of each chosen frame, where the selector scores frames.
    """

    id: str
    video: str
    question: str | None
    selector: str
    features: str
    keep: int
    frames: tuple[int, ...]
    seconds: tuple[float, ...]
    fps: float
    total: int
    duration: float
    scores: tuple[float, ...] | None = None

    @classmethod
    def of(cls, asked: "Asked | Scored", picked: Picked, selector: str, features: str, keep: int) -> "Chosen":
        """The line of frames that ``selector`` picked for one question."""
        made = selector, features, keep, picked.frames, picked.seconds, picked.fps, picked.total, picked.duration
        return cls(asked.id, asked.video, asked.question, *made, picked.kept_scores)

    def picked(self, root: Path) -> Picked:
        """The same frames, to be decoded; ``root`` is the folder that ``video`` is relative to."""
        video = Path(root) / self.video
        return Picked(self.frames, self.seconds, self.fps, self.total, self.duration, self.scores, video, self.frames)


@dataclass(frozen=True)
class Scored:
    """The scores of all frames that may be kept for one question: a line of a file of scores.

    Attributes:
        id, video, question, selector, features: as in `Chosen`.
        frames: numbers of the frames, ascending.
        seconds, scores: of each; the best K are kept.
        fps, total, duration: the video's.

    Raises:
        ValueError: if a frame has no time or no score, or one of them is not finite.
        TypeError: if one is no number.
    """

    id: str
    video: str
    question: str | None
    selector: str
    features: str
    frames: tuple[int, ...]
    seconds: tuple[float, ...]
    scores: tuple[float, ...]
    fps: float
    total: int
    duration: float

    def __post_init__(self) -> None:
        columns = (self.frames, self.seconds, self.scores)
        if not all(map(isfinite, chain(*columns))) or len({len(column) for column in columns}) != 1 or not self.frames:
            raise ValueError("frames, seconds and scores must be finite numbers, as many of each and at least one")

    def picked(self, frames: tuple[int, ...]) -> Picked:
        """Some of the frames, as the record of a choice."""
        seconds = dict(zip(self.frames, self.seconds, strict=True))
        chosen = tuple(seconds[frame] for frame in frames)
        return Picked(frames, chosen, self.fps, self.total, self.duration, self.scores, Path(self.video), self.frames)


def read_questions(file: Path, root: Path | None = None) -> list[Asked]:
    """Read questions as `scan_questions` does, where every row has to be right and about a whole video.

    Raises:
        MissingFileError: if there is no such file.
        DataError: if the file is no text, a row is none such, two have one id, or one is about a part of a video.
    """
    found = scan_questions(file, root)
    if found.faults:
        raise found.faults[0]
    for asked in found.rows:
        if asked.media != asked.path:
            raise DataError(
                f"{file}, whose question {asked.id!r} has a start or an end",
                "questions about whole videos",
                "Leave start and end out here; `dynfocus answer` reads them.",
            )
    return found.rows


def scan_questions(file: Path, root: Path | None = None) -> QuestionFile:
    """Read questions: one JSON object a line, or a CSV table whose first line names the columns.

    A row has ``video``, and ``question``, ``id``, ``start`` and ``end`` where there are such. One without an id gets
    its number in the file, counted from 0. Videos are looked for from ``root``, which is the file's own folder where
    none is named. Empty lines count for nothing, and so do other keys.

    Raises:
        MissingFileError: if there is no such file.
        DataError: if the file as a whole cannot be read, or holds no row.
    """
    file = Path(file)
    if not file.is_file():
        needed = "a file of questions, one JSON object a line, or a CSV table"
        raise MissingFileError(f"there is no file {file}", needed, "Check the path.")
    layout = detect_layout("lines", file)
    if file.suffix.lower() == ".csv":
        layout, columns = "table", read_header(file)
        if "video" not in columns:
            given = f"{file}, whose first line names the columns {', '.join(columns) or 'of an empty file'}"
            raise DataError(given, f"the column video; {', '.join(COLUMNS[1:])} are read too", "Name it so.")
    elif layout == "table":
        layout = "lines"  # so that the line is named that is no JSON
    rows: dict[str, Asked] = {}
    faults = []
    for number, (offset, _, value) in enumerate(scan(layout, file)):
        try:
            asked = _read_row(value, str(number), root or file.parent)
            if asked.id in rows:
                raise ValueError(f"two questions of the id {asked.id!r}")
            rows[asked.id] = asked
        except ValueError as error:
            with file.open("rb") as text:
                line = text.read(offset).count(b"\n") + 1
            faults.append(DataError(f"{file}, line {line}: {error}", EXAMPLE, "Correct that line."))
    if not rows and not faults:
        raise DataError(f"{file} without a question", "one row for each question", "Write at least one.")
    return QuestionFile(list(rows.values()), faults)


def _read_row(value: Any, name: str, root: Path) -> Asked:
    """A row of a file of questions; raises ValueError."""
    if isinstance(value, ValueError):
        raise value
    if not isinstance(value, dict):
        raise ValueError("no object")
    given = {key: value[key] for key in COLUMNS if value.get(key) not in (None, "")}
    texts = {key: given.get(key) for key in ("video", "question")}
    number = given.get("id", name)
    if not isinstance(number, str | int) or isinstance(number, bool):
        raise ValueError("id must be text or a whole number")
    for key, text in {**texts, "id": str(number)}.items():
        if not isinstance(text, str | None):
            raise ValueError(f"{key} must be text")
        if text is not None and text.encode("utf-8", "ignore").decode() != text:
            raise ValueError(f"{key} is no text in UTF-8")
    if texts["video"] is None:
        raise ValueError("no video")
    start, end = (_read_seconds(key, given.get(key)) for key in ("start", "end"))
    if end is not None and end <= (start or 0.0):
        raise ValueError(f"end {end:g} is not after start {start or 0.0:g}")
    return Asked(str(number), texts["video"], texts["question"], root / texts["video"], start, end)


def _read_seconds(key: str, value: Any) -> float | None:
    """A time of a row, which is a number, of a CSV table its text; raises ValueError."""
    if value is None:
        return None
    try:
        seconds = -1.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        seconds = -1.0
    if not (isfinite(seconds) and seconds >= 0):
        raise ValueError(f"{key} must be a number of seconds, not {value!r}")
    return seconds
