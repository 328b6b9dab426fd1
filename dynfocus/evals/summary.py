"""Summarize the answers of a test: the benchmark's columns, and what was shown for them."""

from collections.abc import Iterable, Sequence
from typing import Any

from dynfocus.evals.protocol import Benchmark
from dynfocus.evals.scores import make_columns
from dynfocus.records.predictions import Prediction
from dynfocus.records.rows import Question


def score_hits(kept: Iterable[int], question: Question) -> float | None:
    """Compute the share of the question's segments with a kept frame; None where every frame matters alike."""
    if not question.segments:
        return None
    frames = set(kept)
    return sum(not frames.isdisjoint(segment) for segment in question.segments) / len(question.segments)


def summarize(predictions: Sequence[Prediction], benchmark: Benchmark) -> dict[str, Any]:
    """Summarize the predictions of one arm: what metrics.json holds of it.

    Returns:
        ``columns``: for each column of the benchmark ``value``, ``interval`` (95 %) and ``n``, the number of values;
        ``hit_rate`` and ``visual_tokens``: means; ``unparsed``: the share of answers that no rule could read; ``n``.
    """
    judged = benchmark.judge(predictions)
    columns = make_columns(benchmark.list_values(judged), benchmark.columns)
    hits = [one.hit for one in predictions if one.hit is not None]
    return {
        "columns": {one.name: {"value": one.value, "interval": one.interval(), "n": one.n} for one in columns},
        "hit_rate": sum(hits) / len(hits) if hits else None,
        "visual_tokens": sum(one.visual_tokens for one in predictions) / max(len(predictions), 1),
        "unparsed": sum(verdict.parsed is None for _, verdict in judged) / max(len(judged), 1),
        "n": len(predictions),
    }
