"""Define what annotation files hold: rows, conversations, questions and video segments."""

from dataclasses import dataclass
from pathlib import Path

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
class VideoSegment:
    """A stretch of a video: the frames at or after ``start`` and before ``end``, in seconds of the file's own time."""

    path: Path
    start: float
    end: float
