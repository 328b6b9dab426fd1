"""Compare two sets of answers to the same questions, column by column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dynfocus.errors import DataError
from dynfocus.evals.benchmarks import find_benchmark
from dynfocus.evals.protocol import Judged, Mean, Value
from dynfocus.evals.scores import (
    adjust_holm,
    compute_detectable_difference,
    compute_difference_interval,
    compute_mcnemar,
    make_columns,
)
from dynfocus.evals.table_rows import make_settings, read_results
from dynfocus.records.jsonl import read_jsonl
from dynfocus.records.predictions import Prediction, Verdict

RULES = "rules"
REFUSED = ("benchmark", "protocol", "split", "judge")  # in which two arms may not differ
Values = dict[tuple[str, str], Value]


@dataclass(frozen=True)
class Comparison:
    """One column of two sets of answers.

    Attributes:
        name: the column.
        a, b: its two numbers.
        interval: the 95 % interval of a minus b, over clusters such as videos.
        n: values behind each number.
        p: McNemar's p-value over the column's questions; None where answers have other scores than right and wrong.
        smallest: the smallest true difference that these clusters show with 80 % power; None where it is not known.
    """

    name: str
    a: float
    b: float
    interval: tuple[float, float]
    n: int
    p: float | None
    smallest: float | None


@dataclass(frozen=True)
class Arm:
    """The judged answers of one arm of a run.

    Attributes:
        label: the run and the arm.
        benchmark, settings: what they are answers to, and what they were made and judged with.
        judged: the answers by their questions' ids.
    """

    label: str
    benchmark: str
    settings: Mapping[str, str | None]
    judged: Mapping[str, Judged]


def read_arm(run: Path, arm: str | None = None, judge: str = RULES) -> Arm:
    """Read the answers of an arm of a run, by default of its first one, with the verdicts of a judge.

    Raises:
        CheckpointError: if the run was not tested.
        DataError: if it has no answer, no such arm, or no results of that judge.
    """
    arms = read_arms(run, judge)
    if not arms:
        raise DataError(f"{run}, which holds no answer", "a run that answered questions", "Evaluate it again.")
    name = arm or next(iter(arms))
    if name not in arms:
        raise DataError(f"no arm {name!r} in {run}", f"one of {', '.join(arms)}", "Correct its name.")
    return arms[name]


def read_arms(run: Path, judge: str = RULES) -> dict[str, Arm]:
    """Read the answers of every arm of a run by its name, with the verdicts of a judge.

    Raises:
        CheckpointError: if the run was not tested.
        DataError: if it has no results of that judge.
    """
    results = {metrics.get("judge", RULES): metrics for metrics in read_results(run)}
    if judge not in results:
        raise DataError(
            f"no results of the judge {judge!r} in {run}", f"one of {', '.join(results)}", "Judge the run first."
        )
    metrics = results[judge]
    file = run / (f"verdicts.{judge}.jsonl" if "judge" in metrics else "verdicts.jsonl")
    verdicts = {(one.arm, one.id): one for one in read_jsonl(file, Verdict)}
    judged: dict[str, dict[str, Judged]] = {name: {} for name in metrics["arms"]}
    for one in read_jsonl(run / "predictions.jsonl", Prediction):
        if (one.arm, one.id) in verdicts:
            judged[one.arm][one.id] = one, verdicts[one.arm, one.id]
    settings = make_settings(metrics)
    return {name: Arm(f"{run} ({name})", metrics["benchmark"], settings, judged[name]) for name in judged}


def find_shared(a: Arm, b: Arm) -> list[str]:
    """Find the ids of the questions that both arms answered: the same text, options and true answer, in any order."""
    return [id for id in a.judged if id in b.judged and _question(a.judged[id][0]) == _question(b.judged[id][0])]


def check_comparable(a: Arm, b: Arm) -> None:
    """Refuse to compare what is not counted alike; raises DataError."""
    kinds = [{"benchmark": arm.benchmark, **arm.settings} for arm in (a, b)]
    unlike = [name for name in REFUSED if None not in (x := [kind.get(name) for kind in kinds]) and x[0] != x[1]]
    if unlike:
        sides = [", ".join(f"{name} {kind[name]}" for name in unlike) for kind in kinds]
        raise DataError(
            f"{a.label} of {sides[0]} and {b.label} of {sides[1]}",
            f"two runs of one {' and one '.join(unlike)}",
            "Compare others, or count the answers of one run again with `dynfocus judge`.",
        )
    if not find_shared(a, b):
        raise DataError(
            f"{a.label} and {b.label}, which share no question", "two runs on the same questions", "Compare others."
        )


def compare_arms(a: Arm, b: Arm) -> list[Comparison]:
    """Compare two arms on the questions that both answered, and of these on what both have a score of.

    Raises:
        DataError: if the two differ in benchmark, protocol, split or judge, or share no question.
    """
    check_comparable(a, b)
    benchmark = find_benchmark(a.benchmark, a.settings["protocol"] or b.settings["protocol"] or "")
    ids = find_shared(a, b)
    sides: list[Values] = []
    for arm in (a, b):
        values = benchmark.list_values(benchmark.list_counted([arm.judged[id] for id in ids]))
        sides.append({(one.key, one.id): one for one in values})
    both = [{key: side[key] for key in sides[0] if key in sides[1]} for side in sides]
    first, second = ({one.name: one for one in make_columns(side.values(), benchmark.columns)} for side in both)
    return [
        Comparison(
            *(name, x.value, second[name].value, compute_difference_interval(x, second[name]), x.n),
            _test_column(benchmark.columns[name], *both),
            compute_detectable_difference(x, second[name]),
        )
        for name, x in first.items()
    ]


def format_comparisons(first: Arm, others: Sequence[Arm]) -> str:
    """Format the comparison of one arm with each of some others; Holm adjusts p for all columns that are shown."""
    compared = [compare_arms(first, other) for other in others]
    known = [one.p for columns in compared for one in columns if one.p is not None]
    adjusted = iter(adjust_holm(known))
    lines = []
    for other, columns in zip(others, compared, strict=True):
        lines += [
            f"a: {first.label}",
            f"b: {other.label}",
            f"{len(find_shared(first, other))} questions that both answered",
        ]
        unlike = [name for name, value in first.settings.items() if value != other.settings.get(name)]
        if unlike:
            sides = [", ".join(f"{name} {arm.settings[name]}" for name in unlike) for arm in (first, other)]
            lines.append(f"they differ: a has {sides[0]}; b has {sides[1]}")
        rows = [["", "a", "b", "a - b", "95 % interval", "n", "p", "p by Holm", "80 % power from"]]
        for one in columns:
            low, high = one.interval
            cells = [f"{one.a:.3f}", f"{one.b:.3f}", f"{one.a - one.b:+.3f}", f"[{low:+.3f}, {high:+.3f}]", str(one.n)]
            tests = ("-", "-") if one.p is None else (f"{one.p:.3g}", f"{next(adjusted):.3g}")
            rows.append([one.name, *cells, *tests, "-" if one.smallest is None else f"{one.smallest:.3f}"])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        cut = ("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
        lines += ["", *cut, ""]
    if known:
        lines.append("p: McNemar's exact test that both are right equally often, each question of a column once")
        lines.append(f"p by Holm: adjusted for the {len(known)} tests above")
    lines.append("intervals: 95 %, by a bootstrap that draws the same clusters, such as videos, for both")
    lines.append("80 % power from: the smallest true difference that four of five such experiments would find")
    return "\n".join(lines).rstrip()


def _question(one: Prediction) -> tuple[str, str, tuple[str, ...]]:
    return one.question, one.truth, tuple(sorted(one.options))


def _test_column(mean: Mean, a: Values, b: Values) -> float | None:
    """McNemar's p-value over the questions of a column; None where values are not 0 and 1."""
    keys = {key for part in mean.parts for key in part}
    pairs = {id: (a[key, id].value, b[key, id].value) for key, id in a if key in keys}
    if any(value not in (0.0, 1.0) for pair in pairs.values() for value in pair):
        return None
    return compute_mcnemar([x == 1.0 for x, _ in pairs.values()], [y == 1.0 for _, y in pairs.values()])
