"""Define what annotation files hold: rows, conversations, questions and video segments."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Question:
    """One question about one video or image, with its answer and what it needs.

    Attributes:
        text: what is asked, without options.
        answer: the true answer; of a multiple-choice question the text of the right option.
        options: the texts of a multiple-choice question's options, in the order of their letters.
        group: the finest type of question that the data set names, such as ``color``.
        segments: the frame indices of each segment of the video that the question needs; empty where all frames matter.
        meta: anything else that a benchmark reads or scores by, as JSON holds it.
    """

    text: str
    answer: str
    options: tuple[str, ...] = ()
    group: str = ""
    segments: tuple[tuple[int, ...], ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)


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
        media: path of the video or image, or of a folder of frames; of several files a name made of the first one's;
            None for a text-only row.
        turns: the conversation.
        questions: what is known of each turn's question, where the data set knows it.
        span: start and end in seconds of the stretch of the video that it is about; None for all of it.
        source: name of the data set it comes from.
        frames: paths of several files in order: the frames of a video, or several images.
        times: of the frames of a video that are files: frames a second, or the seconds of each; None where not known.
        system: what stands at the start of the prompt in place of the template's own sentence.
    """

    id: str
    index: int
    media: str | None
    turns: tuple[Turn, ...]
    questions: tuple[Question, ...] = ()
    span: tuple[float, float] | None = None
    source: str = ""
    frames: tuple[str, ...] = ()
    times: float | tuple[float, ...] | None = None
    system: str | None = None


@dataclass(frozen=True)
class FrameFiles:
    """A video whose frames are image files, or several images in order.

    Attributes:
        paths: of the frames.
        seconds: of each, ascending; None where they are not known: then a frame rule's ``fps`` leaves none out, and
            they count as one a second.
        start, end: only frames at or after ``start`` and before ``end`` are shown.
        is_album: whether they are several images, of which a frame rule leaves none out, and no video.
    """

    paths: tuple[Path, ...]
    seconds: tuple[float, ...] | None = None
    start: float = 0.0
    end: float = float("inf")
    is_album: bool = False


@dataclass(frozen=True)
class VideoSegment:
    """A stretch of a video: the frames at or after ``start`` and before ``end``, in seconds of the file's own time."""

    path: Path
    start: float
    end: float
