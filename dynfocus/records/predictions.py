"""Define the record of one answered question."""

from dataclasses import dataclass


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
