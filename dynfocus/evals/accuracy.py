"""Score one answer, and summarize the scores of many."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from dynfocus.records.predictions import Prediction
from dynfocus.records.rows import Question

BALANCED = ("detail", "temporal")


def score_answer(answer: str, question: Question) -> float:
    """Return 1.0 if the answer ends with the deciding word, else 0.0.

    >>> score_answer("star red", Question("what color is the star", "star red", "red", "detail", "color", "star"))
    1.0
    """
    return float(answer.lower().split()[-1:] == [question.word])


def score_hits(kept: Iterable[int], question: Question) -> float | None:
    """Compute the share of the question's relevant events with a kept frame; None where every frame matters alike."""
    if not question.events:
        return None
    frames = set(kept)
    return sum(not frames.isdisjoint(event) for event in question.events) / len(question.events)


def summarize(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Compute accuracies and means over the predictions of one arm.

    ``balanced`` is the mean of detail and temporal accuracy, because the mix of questions is arbitrary;
    ``intervals`` holds 95 % bootstrap intervals over videos, whose questions are not independent.
    """
    kinds, types = _group(predictions, "kind"), _group(predictions, "type")
    by_kind = {kind: _mean(p.correct for p in group) for kind, group in kinds.items()}
    hits = [p.hit for p in predictions if p.hit is not None]
    return {
        "balanced": _mean(by_kind[kind] for kind in BALANCED if kind in by_kind),
        "accuracy": _mean(p.correct for p in predictions),
        "accuracy_by_kind": by_kind,
        "accuracy_by_type": {type: _mean(p.correct for p in group) for type, group in types.items()},
        "intervals": {name: bootstrap_interval(group) for name, group in (kinds | types).items()},
        "hit_rate": _mean(hits) if hits else None,
        "visual_tokens": _mean(p.visual_tokens for p in predictions),
        "n": len(predictions),
    }


def bootstrap_interval(predictions: Sequence[Prediction], draws: int = 1000) -> tuple[float, float]:
    """Compute the 95 % bootstrap interval of the accuracy, drawing whole videos."""
    videos = [[p.correct for p in group] for group in _group(predictions, "video").values()]
    right, totals = np.array([sum(v) for v in videos]), np.array([len(v) for v in videos])
    samples = np.random.default_rng(0).integers(0, len(videos), (draws, len(videos)))
    low, high = np.percentile(right[samples].sum(1) / totals[samples].sum(1), (2.5, 97.5))
    return float(low), float(high)


def _group(predictions: Sequence[Prediction], field: str) -> dict[str, list[Prediction]]:
    groups: dict[str, list[Prediction]] = defaultdict(list)
    for prediction in predictions:
        groups[getattr(prediction, field)].append(prediction)
    return dict(sorted(groups.items()))


def _mean(numbers: Iterable[float]) -> float:
    values = list(numbers)
    return sum(values) / len(values) if values else float("nan")
