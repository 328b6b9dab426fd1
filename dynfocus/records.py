"""What lives on disk as JSON: questions about videos, the model's predictions, its selections (no torch here)."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from dynfocus.disk import whole
from dynfocus.errors import DataError

KINDS = {
    "color": "detail",
    "shape": "detail",
    "position": "detail",
    "place": "correspondence",
    "first": "temporal",
    "last": "temporal",
    "after": "temporal",
    "count": "temporal",
}


@dataclass(frozen=True)
class Question:
    """One question about one video, with its answer and the frames it needs.

    Attributes:
        text: what is asked.
        answer: the whole answer, such as ``star red``.
        word: the word of the answer that decides whether it is right, such as ``red``.
        kind: ``detail``, ``correspondence`` or ``temporal``: see `KINDS`.
        type: the finer type, such as ``color`` or ``count``.
        key: what the question is about, such as ``star``.
        events: the frame indices of each relevant event; empty where every frame matters.
    """

    text: str
    answer: str
    word: str
    kind: str
    type: str
    key: str
    events: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Turn:
    """One question and its answer; an answer of None is left open for the model to write."""

    question: str
    answer: str | None


@dataclass(frozen=True)
class Row:
    """One annotation row of any data set: a conversation about one video, one image, or about no picture at all.

    Attributes:
        id: the row's own name; not unique over merged files.
        index: the row's number in its data set, which is.
        media: path of the video or image; None for a text-only row.
        turns: the conversation.
        questions: what is known of each turn's question, where the data set knows it.
        span: start and end in seconds of the stretch of the video that it is about; None for all of it.
        source: name of the data set it comes from.
    """

    id: str
    index: int
    media: str | None
    turns: tuple[Turn, ...]
    questions: tuple[Question, ...] = ()
    span: tuple[float, float] | None = None
    source: str = ""


@dataclass(frozen=True)
class Excerpt:
    """A stretch of a video: the frames at or after ``start`` and before ``end``, in seconds of the file's own time."""

    path: Path
    start: float
    end: float


@dataclass(frozen=True)
class Skipped:
    """A row that nothing could be learned from, and why: a line of a quarantine file.

    Attributes:
        source: name of its data set.
        index: its number in that data set.
        id: its own name, where it has one.
        media: what it names as its video or image.
        cause: what is wrong with it, in a word of `dynfocus.faults.FAULTS` and, after a colon, in full.
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


@dataclass(frozen=True)
class Prediction:
    """One answered question: what `dynfocus test` writes into predictions.jsonl.

    Attributes:
        id: the annotation row's id.
        video: the path of its video, relative to the data set.
        arm: how frames were kept: ``learned``, ``uniform``, ``random``, ``oracle`` or ``blind`` (no video).
        question, answer, truth: the texts.
        kind, type: as in `Question`.
        correct: 1.0 if the deciding word was found, else 0.0.
        kept: frame indices that were kept, in time order.
        hit: share of the relevant events with a kept frame; None where no event is relevant.
        visual_tokens: tokens the video cost.
    """

    id: str
    video: str
    arm: str
    question: str
    answer: str
    truth: str
    kind: str
    type: str
    correct: float
    kept: tuple[int, ...]
    hit: float | None
    visual_tokens: int


@dataclass(frozen=True)
class Selection:
    """Which frames of one video were kept, and why: what a storyboard shows, as plain numbers.

    Attributes:
        seconds: time stamps of its T frames.
        kept: indices of the frames with b = 1, in time order.
        cones, rods: visual tokens by their kind; an encoder that keeps nothing counts all of its tokens as cones.
        peaks: rho * delta of each frame (Eq. 1-2); empty where the selector finds no events.
        nearest: which event each frame belongs to, as its place in ``representatives``.
        representatives: the frame that each event prototype grew around, in time order.
        scores: s of each event (Eq. 4), in [0, 1]; empty where the selector scores none.
        relevant: the frames of each relevant event, where it is known what the question needs.
    """

    seconds: tuple[float, ...]
    kept: tuple[int, ...]
    cones: int
    rods: int
    peaks: tuple[float, ...] = ()
    nearest: tuple[int, ...] = ()
    representatives: tuple[int, ...] = ()
    scores: tuple[float, ...] = ()
    relevant: tuple[tuple[int, ...], ...] = ()

    @property
    def visual_tokens(self) -> int:
        """Tokens the video costs."""
        return self.cones + self.rods

    @property
    def scored(self) -> dict[int, float]:
        """s of each representative; empty where events have no scores."""
        return dict(zip(self.representatives, self.scores, strict=True)) if self.scores else {}

    @property
    def frame_scores(self) -> tuple[float, ...]:
        """For every frame, s of the event it belongs to; empty where events have no scores."""
        return tuple(self.scores[event] for event in self.nearest) if self.scores else ()

    def best(self, count: int = 6) -> tuple[int, ...]:
        """The kept frames with the highest scores, at most ``count``, in time order; equal scores rank by time."""
        scores = self.scored
        return tuple(sorted(sorted(self.kept, key=lambda frame: -scores.get(frame, 0.0))[:count]))


Record = TypeVar("Record")


def write_jsonl(path: Path, records: Iterable) -> None:
    """Write dataclass records to ``path``, one JSON object a line, whole or not at all."""
    write_text(path, "".join(json.dumps(asdict(record)) + "\n" for record in records))


def read_jsonl(path: Path, kind: type[Record]) -> Iterator[Record]:
    """Read ``path`` as records of ``kind``; raises DataError naming the line that does not fit."""
    for number, line in enumerate(Path(path).read_text().splitlines(), 1):
        try:
            fields = {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(line).items()}
            yield kind(**fields)
        except (ValueError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path}, line {number}: {error}",
                f"one JSON object with the fields of {kind.__name__}",
                "Mend or delete that line.",
            ) from error


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path``, whole or not at all; raises DiskError."""
    with whole(path) as part:
        part.write_text(text)
