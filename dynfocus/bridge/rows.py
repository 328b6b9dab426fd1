"""Define the lines of the files that many questions are read from, and chosen frames and scores written to."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from math import isfinite
from pathlib import Path

from dynfocus.bridge.picked import Picked
from dynfocus.errors import DataError, MissingFileError


@dataclass(frozen=True)
class Asked:
    """One question about one video: a line of a file of questions.

    Attributes:
        id: names the question; no two in a file are the same.
        video: path of the video, as the file has it.
        question: None where frames are chosen for no question.
        path: where the video lies.
    """

    id: str
    video: str
    question: str | None
    path: Path


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
    """Read questions, one JSON object a line: ``video``, and ``question`` and ``id`` where there are such.

    A line without an id gets its number in the file, counted from 0. Videos are looked for from ``root``, which is the
    file's own folder where none is named. Empty lines count for nothing.

    Raises:
        MissingFileError: if there is no such file.
        DataError: if the file is no text, a line is none such, or two have one id.
    """
    file = Path(file)
    if not file.is_file():
        raise MissingFileError(
            f"there is no file {file}", "a file of questions, one JSON object a line", "Check the path."
        )
    rows: dict[str, Asked] = {}
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        given = f"{file}, which is no text in UTF-8 ({error.reason})"
        raise DataError(given, "a file of questions, one JSON object a line", "Name or write such a file.") from error
    # Other signs that end a line for Python may stand in a question.
    lines = [(place, line) for place, line in enumerate(text.split("\n"), 1) if line.strip()]
    for number, (place, line) in enumerate(lines):
        row = _read_line(file, place, line)
        asked = Asked(
            str(row.get("id", number)), row["video"], row.get("question"), (root or file.parent) / row["video"]
        )
        if asked.id in rows:
            raise DataError(
                f"{file} with two questions of the id {asked.id!r}", "one id for each question", "Change one."
            )
        rows[asked.id] = asked
    if not rows:
        raise DataError(f"{file} without a question", "one JSON object a line", "Write at least one.")
    return list(rows.values())


def _read_line(file: Path, place: int, line: str) -> Mapping[str, str]:
    try:
        row = json.loads(line)
        if not isinstance(row, dict) or not isinstance(row["video"], str):
            raise TypeError("video must be text")
        name = row.get("id", 0)
        if not isinstance(row.get("question"), str | None) or not isinstance(name, str | int) or isinstance(name, bool):
            raise TypeError("question must be text, and id text or a whole number")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(
            f"{file}, line {place} ({type(error).__name__}: {error})",
            'an object such as {"id": "1", "video": "a.mp4", "question": "What falls?"}',
            "Correct that line.",
        ) from error
    return row
