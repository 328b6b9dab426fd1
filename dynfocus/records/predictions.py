"""Define the records of answered questions, and of the verdicts on their answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dynfocus.records.jsonl import read_appended

UNTRAINED = " (untrained)"  # behind the name of a selector whose weights were not trained with the model
LEARNED, BLIND = "learned", "blind"  # arms: the selector that the model was trained with; no video
TEXT_PRIOR = "text prior"  # the arm of answers that follow from the questions' text alone
ANSWERS = "answers"  # the folder of the predictions of each process of an evaluation


@dataclass(frozen=True)
class Prediction:
    """One answered question: what `dynfocus test` writes into predictions.jsonl. Whether it is right, a `Verdict` says.

    Attributes:
        id: the annotation row's id.
        video: the path of its video, relative to the data set.
        arm: how frames were kept: ``learned`` (by the selector that the model was trained with), ``blind`` (no video),
            or a selector by its own name, with ``(untrained)`` where it has weights that no training has changed.
        question: what was asked, without options.
        answer: what the model wrote.
        truth, options, group, meta: the question's, as in `Question`.
        kept: frame indices that were kept, in time order.
        hit: share of the segments that the question needs with a kept frame; None where it is not known what it needs.
        visual_tokens: tokens the video cost.
        seconds: time stamps of the video's T frames.
        scores: the selector's score of each frame before any is kept, to six digits; of a selector of events that of
            the frame's event; empty where it scores none.
        segments: the question's, as in `Question`.
        cut: whether the answer ends only because it may not be longer.
    """

    id: str
    video: str
    arm: str
    question: str
    answer: str
    truth: str
    group: str
    kept: tuple[int, ...]
    hit: float | None
    visual_tokens: int
    options: tuple[str, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    seconds: tuple[float, ...] = ()
    scores: tuple[float, ...] = ()
    segments: tuple[tuple[int, ...], ...] = ()
    cut: bool = False


@dataclass(frozen=True)
class Verdict:
    """What a judge says about one prediction: a line of verdicts.jsonl.

    Attributes:
        id, arm: the prediction's.
        judge: who judged, such as ``rules``, or the name of a judge's results.
        scores: the numbers that the benchmark's columns are means of, such as ``correct``.
        parsed: what the judge read the answer as; None where no answer could be read, which counts as wrong. Of a judge
            that is a model its reply.
        model: the model that judged, if it was one.
        failure: why the judge gave no verdict, or not all scores; those that are missing count nowhere.
    """

    id: str
    arm: str
    judge: str
    scores: Mapping[str, float] = field(default_factory=dict)
    parsed: str | None = None
    model: str | None = None
    failure: str | None = None


def read_answers(run: Path) -> dict[tuple[str, str], Prediction]:
    """Read the predictions that an evaluation has left so far, by arm and id."""
    files = sorted((run / ANSWERS).glob("*.jsonl"))
    return {(one.arm, one.id): one for file in files for one in read_appended(file, Prediction)}
