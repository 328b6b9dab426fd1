"""Compare two sets of answers to the same questions, column by column."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dynfocus.errors import DataError
from dynfocus.evals.benchmarks import find_benchmark
from dynfocus.evals.protocol import Judged
from dynfocus.evals.results_table import read_metrics
from dynfocus.evals.scores import adjust_holm, compute_mcnemar, difference_interval, make_columns
from dynfocus.records.jsonl import read_jsonl
from dynfocus.records.predictions import Prediction, Verdict


@dataclass(frozen=True)
class Comparison:
    """One column of two sets of answers.

    Attributes:
        name: the column.
        a, b: its two numbers.
        interval: the 95 % interval of a minus b, over clusters such as videos.
        n: values behind each number.
    """

    name: str
    a: float
    b: float
    interval: tuple[float, float]
    n: int


@dataclass(frozen=True)
class Arm:
    """The judged answers of one arm of a run, by id."""

    label: str
    benchmark: str
    judged: Mapping[str, Judged]


def read_arm(run: Path, arm: str | None = None) -> Arm:
    """Read the answers of an arm of a run, by default of its first one, with their verdicts.

    Raises:
        CheckpointError: if the run was not tested.
        DataError: if it has no such arm.
    """
    metrics = read_metrics(run)
    name = arm or next(iter(metrics["arms"]))
    if name not in metrics["arms"]:
        raise DataError(f"no arm {name!r} in {run}", f"one of {', '.join(metrics['arms'])}", "Correct its name.")
    verdicts = {(one.arm, one.id): one for one in read_jsonl(run / "verdicts.jsonl", Verdict)}
    predictions = [one for one in read_jsonl(run / "predictions.jsonl", Prediction) if one.arm == name]
    judged = {one.id: (one, verdicts[name, one.id]) for one in predictions if (name, one.id) in verdicts}
    return Arm(f"{run} ({name})", metrics["benchmark"], judged)


def compare_arms(a: Arm, b: Arm) -> tuple[list[Comparison], float | None]:
    """Compare two arms on the questions that both answered.

    Returns:
        every column, and McNemar's p-value over all questions that are right or wrong; None where answers have other
        scores.

    Raises:
        DataError: if the two are of different benchmarks, or share no question.
    """
    shared = [id for id in a.judged if id in b.judged]
    if a.benchmark != b.benchmark or not shared:
        raise DataError(
            f"{a.label} of {a.benchmark} and {b.label} of {b.benchmark}, which share {len(shared)} questions",
            "two runs of one benchmark",
            "Compare others.",
        )
    benchmark = find_benchmark(a.benchmark)
    both = [make_columns(benchmark.list_values([arm.judged[id] for id in shared]), benchmark.columns) for arm in (a, b)]
    pairs = [(x, y) for x in both[0] for y in both[1] if x.name == y.name]
    columns = [Comparison(x.name, x.value, y.value, difference_interval(x, y), x.n) for x, y in pairs]
    rights = [[arm.judged[id][1].scores.get("correct") for id in shared] for arm in (a, b)]
    if any(right not in (0.0, 1.0) for right in rights[0] + rights[1]):
        return columns, None
    return columns, compute_mcnemar(*([right == 1.0 for right in side] for side in rights))


def format_comparisons(first: Arm, others: list[Arm]) -> str:
    """Format the comparison of one arm with each of some others; p-values are adjusted for their number by Holm."""
    compared = [compare_arms(first, other) for other in others]
    known = [p for _, p in compared if p is not None]
    adjusted = iter(adjust_holm(known))
    lines = []
    for other, (columns, p) in zip(others, compared, strict=True):
        shared = sum(id in other.judged for id in first.judged)
        lines += [f"a: {first.label}", f"b: {other.label}", f"{shared} questions that both answered", ""]
        rows = [["", "a", "b", "a - b", "95 % interval", "n"]]
        for one in columns:
            low, high = one.interval
            cells = [f"{one.a:.3f}", f"{one.b:.3f}", f"{one.a - one.b:+.3f}", f"[{low:+.3f}, {high:+.3f}]", str(one.n)]
            rows.append([one.name, *cells])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines += ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        if p is not None:
            many = f" (of {len(known)} comparisons, adjusted by Holm)" if len(known) > 1 else ""
            lines += ["", f"McNemar's exact test that both are right equally often: p = {next(adjusted):.3g}{many}"]
        lines.append("")
    return "\n".join(lines).rstrip()
