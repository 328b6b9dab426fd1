"""Summarize the answers of a test: the benchmark's columns, and what was shown for them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dynfocus.evals.protocol import Benchmark, Judged
from dynfocus.evals.scores import make_columns
from dynfocus.records.atomic import write_text
from dynfocus.records.commit import read_commit
from dynfocus.records.jsonl import write_jsonl
from dynfocus.records.predictions import Prediction
from dynfocus.records.rows import Question


def score_hits(kept: Iterable[int], question: Question) -> float | None:
    """Compute the share of the question's segments with a kept frame; None where every frame matters alike."""
    if not question.segments:
        return None
    frames = set(kept)
    return sum(not frames.isdisjoint(segment) for segment in question.segments) / len(question.segments)


def summarize(
    predictions: Sequence[Prediction], benchmark: Benchmark, judged: Sequence[Judged] | None = None
) -> dict[str, Any]:
    """Summarize the predictions of one arm: what metrics.json holds of it.

    Args:
        predictions: of one arm.
        benchmark: theirs.
        judged: the predictions with their verdicts; by rules where there are none.

    Returns:
        ``columns``: for each column of the benchmark ``value``, ``interval`` (95 %) and ``n``, the number of values;
        ``hit_rate`` and ``visual_tokens``: means; ``unparsed``: the share of answers that no rule could read;
        ``failed``: the share of answers whose judge gave no verdict or only a part of it; ``n``.
    """
    judged = benchmark.judge(predictions) if judged is None else judged
    counted = benchmark.list_counted(judged)
    columns = make_columns(benchmark.list_values(counted), benchmark.columns)
    hits = [one.hit for one in predictions if one.hit is not None]
    return {
        "columns": {one.name: {"value": one.value, "interval": one.interval(), "n": one.n} for one in columns},
        "hit_rate": sum(hits) / len(hits) if hits else None,
        "visual_tokens": sum(one.visual_tokens for one in predictions) / max(len(predictions), 1),
        "unparsed": sum(verdict.parsed is None and verdict.failure is None for _, verdict in counted)
        / max(len(judged), 1),
        "failed": sum(verdict.failure is not None for _, verdict in judged) / max(len(judged), 1),
        "n": len(predictions),
    }


def summarize_arms(judged: Sequence[Judged], benchmark: Benchmark) -> dict[str, Any]:
    """Summarize judged predictions of several arms: the summary of the first arm, and of all by name under ``arms``."""
    groups: dict[str, list[Judged]] = {}
    for pair in judged:
        groups.setdefault(pair[0].arm, []).append(pair)
    arms = {arm: summarize([one for one, _ in group], benchmark, group) for arm, group in groups.items()}
    return {**next(iter(arms.values()), summarize([], benchmark)), "arms": arms}


def write_results(
    folder: Path, predictions: Sequence[Prediction], benchmark: Benchmark, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Judge predictions by rules, and write predictions.jsonl, verdicts.jsonl, metrics.json, and files to submit.

    Args:
        folder: where to.
        predictions: of all arms, arm after arm.
        benchmark: how they are judged and counted.
        facts: what else metrics.json holds, such as what the predictions were made with.

    Returns:
        what metrics.json holds: the facts, and what `summarize_arms` returns.
    """
    judged = benchmark.judge(predictions)
    about = {"benchmark": benchmark.name, "protocol": benchmark.protocol, "subtitles": benchmark.subtitled}
    metrics = {**about, "commit": read_commit(), **facts, **summarize_arms(judged, benchmark)}
    write_jsonl(folder / "predictions.jsonl", predictions)
    write_jsonl(folder / "verdicts.jsonl", [verdict for _, verdict in judged])
    write_text(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    if benchmark.submit is not None:
        for arm in metrics["arms"]:
            answers = benchmark.submit(pair for pair in judged if pair[0].arm == arm)
            name = "submission.json" if len(metrics["arms"]) == 1 else f"submission.{arm}.json"
            write_text(folder / name, json.dumps(answers, indent=1) + "\n")
    return metrics
