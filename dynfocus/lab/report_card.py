"""Make the report card of ways to keep frames: every number with its interval, or why it is missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dynfocus.errors import DataError
from dynfocus.evals.benchmarks import find_benchmark
from dynfocus.evals.protocol import Mean, Value
from dynfocus.evals.scores import FEWEST, Column, adjust_holm, compute_mcnemar, make_columns
from dynfocus.lab.card_entries import Entry
from dynfocus.lab.card_metrics import (
    FRAME_METRICS,
    UNTESTED,
    list_agreements,
    list_frame_values,
    list_sensitivities,
)
from dynfocus.lab.estimates import (
    Estimate,
    compute_p,
    compute_smallest_difference,
    estimate,
    estimate_difference,
    list_clusters,
    measure_area,
)

COMPARED = ("accuracy", "hit_rate")
COSTS = {  # of which each is measured apart
    "decode": "seconds to read a video's candidate frames, and to resize them",
    "encode": "seconds to encode a video's candidate frames into what the selector reads",
    "select": "seconds to choose the frames for a question",
    "prefill": "seconds until the first word of an answer",
    "answer": "seconds for the further words of an answer",
}
ABOUT = {  # of what is not a number of single questions: what it says, and what is better
    "accuracy": ("share of right answers, in the benchmark's headline column", "high"),
    "question_sensitivity": ("share of pairs of questions about one video for which other frames are kept", ""),
    "question_distance": ("Jaccard distance of the frames kept for two questions about one video", ""),
    "regret": ("accuracy that the oracle's frames would have brought", "low"),
    "sufficiency": ("accuracy with the kept frames alone: the others give no tokens", "high"),
    "necessity": ("accuracy that is lost where the kept frames are left out and others kept instead", "high"),
    "seed_stability": ("Jaccard index of the frames that two seeds keep for a question", "high"),
    "jitter_stability": ("Jaccard index, in time, of the frames kept with and without the video's first frame", "high"),
    **{f"seconds_{part}": (about, "low") for part, about in COSTS.items()},
}
ANSWERED = (  # what an answering model is needed for
    *("accuracy", "visual_tokens", "regret", "sufficiency", "necessity"),
    *("seconds_prefill", "seconds_answer"),
)
MEASURE = "Runs do not record it. `dynfocus report-card {} --model RUN/model --on FOLDER` measures it."
NO_MODEL = "No language model was asked. `dynfocus test ... --model.arms '[SELECTOR]'` asks one."


@dataclass(frozen=True)
class Cell:
    """One number of an entry, or why it is missing and what makes it."""

    estimate: Estimate | None
    seeds: int = 0
    missing: str | None = None


@dataclass(frozen=True)
class Comparison:
    """Two entries on one metric, on the same questions.

    Attributes:
        metric, a, b: what is compared, and the entries' labels.
        difference: a minus b.
        p, p_holm: that it is 0, and adjusted for all comparisons of the card; None of fewer than ten videos.
        mcnemar: McNemar's exact p-value over single questions, of right and wrong answers of one seed.
        smallest: the smallest difference that these videos and seeds show with 80 % power.
        tokens: visual tokens a video, of each; None where no language model reads them.
    """

    metric: str
    a: str
    b: str
    difference: Estimate
    p: float | None
    p_holm: float | None
    mcnemar: float | None
    smallest: float | None
    tokens: tuple[float, float] | None


@dataclass(frozen=True)
class Curve:
    """Accuracy over K of one arm, or hit rate where nothing was answered: its points, and the area over its width."""

    arm: str
    metric: str
    points: tuple[tuple[int, Estimate], ...]
    area: Estimate | None
    missing: str | None = None


@dataclass(frozen=True)
class ReportCard:
    """All that is known of some entries.

    Attributes:
        facts: the benchmark, split, protocol, headline column, tolerance, and whether a language model answered.
        entries: in their order.
        cells: of each entry's label, its numbers by name.
        curves, comparisons: over entries.
        missing: what could not be compared, and why.
    """

    facts: Mapping[str, Any]
    entries: Sequence[Entry]
    cells: Mapping[str, Mapping[str, Cell]]
    curves: Sequence[Curve] = ()
    comparisons: Sequence[Comparison] = ()
    missing: Mapping[str, str] = field(default_factory=dict)


def make_card(entries: Sequence[Entry], tolerance: float = 1.0, against: str | None = None) -> ReportCard:
    """Make a report card.

    Args:
        entries: at least one, that may be compared.
        tolerance: seconds within which a frame counts as near.
        against: the arm that others are compared with; the first one if not named.

    Raises:
        DataError: if there is no such arm.
    """
    first = entries[0].sides[0].arm
    benchmark = find_benchmark(first.benchmark, first.settings["protocol"] or "")
    headline = next(iter(benchmark.columns))
    columns = {entry.label: list_columns(entry, tolerance, headline) for entry in entries}
    reference = against or entries[0].arm
    if reference not in {entry.arm for entry in entries}:
        raise DataError(
            f"no arm {reference!r} in these runs",
            f"one of {', '.join(dict.fromkeys(entry.arm for entry in entries))}",
            "Correct --against.",
        )
    compared = compare_entries(entries, columns, reference)
    return ReportCard(
        {
            "benchmark": first.benchmark,
            "split": first.settings.get("split"),
            "protocol": first.settings["protocol"],
            "headline": headline,
            "tolerance": tolerance,
            "against": reference,
            "answers": any(entry.is_tested for entry in entries),
        },
        entries,
        {entry.label: make_cells(entry, entries, columns) for entry in entries},
        [make_curve(arm, entries, columns) for arm in dict.fromkeys(entry.arm for entry in entries if entry.keep)],
        compared,
        explain_gaps(compared) if compared else {"comparisons": explain_no_comparison(entries, reference)},
    )


def list_columns(entry: Entry, tolerance: float, headline: str) -> dict[str, list[Column]]:
    """List the columns of an entry by metric, one a seed that has values of it."""
    found: dict[str, list[Column]] = {}
    for side in entry.sides:
        for name, column in side.list_columns().items():
            if "/" not in name:
                found.setdefault("accuracy" if name == headline else f"accuracy/{name}", []).append(column)
        metrics = [metric for metric in FRAME_METRICS if entry.is_tested or metric.name != "visual_tokens"]
        values = [value for metric in metrics for value in list_frame_values(metric, side.predictions, tolerance)]
        values += [value for values_of in list_sensitivities(side.predictions) for value in values_of]
        values += [value for several in side.measured.values() for value in several]
        for column in _make_plain_columns(values):
            found.setdefault(column.name, []).append(column)
    if len(entry.sides) > 1:
        agreements = list_agreements("seed_stability", [side.predictions for side in entry.sides])
        found |= {column.name: [column] for column in _make_plain_columns(agreements)}
    return found


def make_cells(
    entry: Entry, entries: Sequence[Entry], columns: Mapping[str, Mapping[str, list[Column]]]
) -> dict[str, Cell]:
    """Make all numbers of an entry; each that is missing says why."""
    own = columns[entry.label]
    predictions = [one for side in entry.sides for one in side.predictions]
    reasons = {metric.name: metric.explain_absence(predictions, entry.is_tested) for metric in FRAME_METRICS}
    reasons |= dict.fromkeys(
        ("question_sensitivity", "question_distance"), "No video has two questions with kept frames."
    )
    reasons["accuracy"] = "No answer was asked for: `dynfocus test` or `dynfocus evaluate` asks for them."
    seeds = "One seed. Give the folders of runs with other seeds too: `dynfocus report-card RUN RUN2`."
    seeds = seeds if entry.is_tested else "One seed. Draw with others too: --seeds 0,1,2."
    reasons["seed_stability"] = seeds if len(entry.sides) < 2 else "No frame is kept."
    reasons["jitter_stability"] = "Every video has one frame alone."
    reasons |= {f"seconds_{part}": "It was not measured." for part in COSTS}
    if entry.is_tested:
        makes = MEASURE.format(entry.selector) if entry.keep else "No frame is kept."
        reasons |= dict.fromkeys(("jitter_stability", *(f"seconds_{part}" for part in COSTS)), makes)
        ask = "Runs do not record it. `dynfocus ask VIDEO QUESTION --json` times one answer."
        reasons |= dict.fromkeys(("seconds_prefill", "seconds_answer"), ask)
    else:
        reasons |= dict.fromkeys(ANSWERED, NO_MODEL)
    names = [*(name for name in own if name.startswith("accuracy")), *reasons]
    cells = {
        name: Cell(estimate(own[name]), len(own[name])) if own.get(name) else Cell(None, missing=reasons[name])
        for name in dict.fromkeys(["accuracy", *names])
    }
    if not entry.is_tested:
        return cells
    if not entry.keep:
        none = "No frame is kept."
        return cells | {name: Cell(None, missing=none) for name in ("regret", "sufficiency", "necessity")}
    return cells | {
        "regret": _subtract(_find(entries, entry, arm="oracle"), entry, columns, "oracle"),
        "sufficiency": _measure_sufficiency(entry, entries, columns),
        "necessity": _measure_necessity(entry, entries, columns),
    }


def make_curve(arm: str, entries: Sequence[Entry], columns: Mapping[str, Mapping[str, list[Column]]]) -> Curve:
    """Make the curve of accuracy over K of an arm, with its area where it was run with several K.

    Where no language model answered it is the curve of the hit rate.

    Source: ours; the area is the trapezoid rule's.
    """
    own = [entry for entry in entries if entry.arm == arm and entry.keep]
    is_tested = any(entry.is_tested for entry in own)
    metric = "accuracy" if is_tested else "hit_rate"
    ran = [entry for entry in own if metric in columns[entry.label]]
    ran = sorted((one for one in ran if one.alone == ran[0].alone), key=lambda entry: entry.keep)
    clusters = list_clusters([column for entry in ran for column in columns[entry.label][metric]])
    points = [(entry.keep, estimate(columns[entry.label][metric], clusters)) for entry in ran]
    if len(points) < 2:
        makes = "Give runs with another K too: `--model.connector.events L --model.connector.keep K/L`."
        makes = makes if is_tested else "Measure it with others too, such as --keep 1 2 4."
        none = "No answers." if is_tested else UNTESTED["hit"]
        return Curve(arm, metric, tuple(points), None, f"One K. {makes}" if points else none)
    return Curve(arm, metric, tuple(points), measure_area([keep for keep, _ in points], [one for _, one in points]))


def compare_entries(
    entries: Sequence[Entry], columns: Mapping[str, Mapping[str, list[Column]]], reference: str
) -> list[Comparison]:
    """Compare every entry with the reference at the same K, on accuracy and hit rate; Holm adjusts for all of them."""
    rows: list[dict[str, Any]] = []
    for other in entries:
        first = next(
            (x for x in entries if x.arm == reference and (x.keep, x.alone) == (other.keep, other.alone)), None
        )
        if first is None or other is first:
            continue
        for metric in COMPARED:
            a, b = (columns[entry.label].get(metric, []) for entry in (first, other))
            if a and b:
                difference = estimate_difference(a, b)
                rows.append(
                    {"metric": metric, "a": first.label, "b": other.label, "difference": difference}
                    | {"p": compute_p(difference), "smallest": compute_smallest_difference(difference)}
                    | {"mcnemar": _test_answers(first, other) if metric == "accuracy" else None}
                    | {"tokens": _count_tokens(first, other, columns)}
                )
    adjusted = iter(adjust_holm([row["p"] for row in rows if row["p"] is not None]))
    return [Comparison(**row, p_holm=None if row["p"] is None else next(adjusted)) for row in rows]


def explain_no_comparison(entries: Sequence[Entry], reference: str) -> str:
    """Explain why no two entries are compared, and what makes them comparable."""
    if any(
        entry.arm == reference and entry.keep == other.keep
        for entry in entries
        for other in entries
        if other is not entry
    ):
        return "The entries share neither answers nor questions that say which frames they need."
    makes = f"Add an arm: `dynfocus test ... --model.arms '[{reference},uniform]'`."
    makes = makes if entries[0].is_tested else f"Name another selector too: `dynfocus report-card {reference} uniform`."
    return f"One arm at each K: nothing is compared. {makes}"


def explain_gaps(compared: Sequence[Comparison]) -> dict[str, str]:
    """Explain the numbers that some comparisons lack."""
    gaps = {}
    if any(one.p is None for one in compared):
        gaps["p and 80 % power of some comparisons"] = f"Fewer than {FEWEST} videos. Test on more of them."
    if any(one.p is not None and one.smallest is None for one in compared):
        gaps["80 % power of some comparisons"] = "The two never differ, so it is not known how much they vary."
    if any(one.mcnemar is None and one.metric == "accuracy" for one in compared):
        gaps["McNemar's p of some comparisons"] = "Several seeds, or answers of other scores than right and wrong."
    return gaps


def _count_tokens(a: Entry, b: Entry, columns: Mapping[str, Mapping[str, list[Column]]]) -> tuple[float, float] | None:
    """Visual tokens a video, of both; None where no language model reads them."""
    first, second = (columns[entry.label].get("visual_tokens") for entry in (a, b))
    return (estimate(first).value, estimate(second).value) if first and second else None


def _make_plain_columns(values: Sequence[Value]) -> list[Column]:
    return make_columns(values, {name: Mean(((name,),)) for name in dict.fromkeys(value.key for value in values)})


def _find(entries: Sequence[Entry], like: Entry, **wanted: Any) -> Entry | None:
    """The first entry with the same K as another that has these attributes."""
    same = (entry for entry in entries if entry.keep == like.keep and entry is not like)
    return next((entry for entry in same if all(getattr(entry, k) == v for k, v in wanted.items())), None)


def _subtract(a: Entry | None, b: Entry, columns: Mapping[str, Mapping[str, list[Column]]], arm: str) -> Cell:
    """The accuracy of ``a`` minus that of ``b``."""
    if b.arm == arm:
        return Cell(None, missing="It is the oracle itself.")
    if a is None:
        return Cell(
            None, missing=f"No arm `{arm}` at K = {b.keep}. `dynfocus test ... --model.arms '[{b.arm},{arm}]'`."
        )
    first, second = (columns[entry.label].get("accuracy", []) for entry in (a, b))
    if not first or not second:
        return Cell(None, missing="No answers to compare.")
    return Cell(estimate_difference(first, second), min(len(first), len(second)))


def _measure_sufficiency(
    entry: Entry, entries: Sequence[Entry], columns: Mapping[str, Mapping[str, list[Column]]]
) -> Cell:
    """Accuracy where the kept frames alone give tokens.

    Source: the sufficiency of ERASER (DeYoung et al. 2020), as accuracy. Departs: the model was trained without the
    other frames' tokens, so that it is not asked about inputs of a form it has never seen.
    """
    alone = entry if entry.alone else _find(entries, entry, arm=entry.arm, alone=True)
    if alone is None or not columns[alone.label].get("accuracy"):
        makes = "Train and test a run with `--model.connector.redundant_tokens 0`, and give it too."
        return Cell(None, missing=f"No run in which the kept frames alone give tokens. {makes}")
    return Cell(estimate(columns[alone.label]["accuracy"]), len(columns[alone.label]["accuracy"]))


def _measure_necessity(
    entry: Entry, entries: Sequence[Entry], columns: Mapping[str, Mapping[str, list[Column]]]
) -> Cell:
    """Accuracy that is lost where the kept frames are left out.

    Source: the comprehensiveness of ERASER (DeYoung et al. 2020), as accuracy.
    """
    if entry.spoils is not None:
        return Cell(None, missing="It is itself the arm without another one's frames.")
    without = next((x for x in entries if x.spoils == entry.selector and x.alone == entry.alone), None)
    if without is None or not columns[without.label].get("accuracy") or not columns[entry.label].get("accuracy"):
        arms = f"[{entry.arm},{{class_path: inverted, init_args: {{of: {entry.selector}}}}}]"
        return Cell(None, missing=f"No arm without the kept frames. `dynfocus test ... --model.arms '{arms}'`.")
    a, b = columns[entry.label]["accuracy"], columns[without.label]["accuracy"]
    return Cell(estimate_difference(a, b), min(len(a), len(b)))


def _test_answers(a: Entry, b: Entry) -> float | None:
    """McNemar's p-value over the questions that both answered; None of several seeds, or of graded scores."""
    if len(a.sides) > 1 or len(b.sides) > 1:
        return None
    first, second = (entry.sides[0].arm.judged for entry in (a, b))
    pairs = [(first[id][1].scores.get("correct"), second[id][1].scores.get("correct")) for id in first if id in second]
    if any(score not in (0.0, 1.0) for pair in pairs for score in pair):
        return None
    return compute_mcnemar([x == 1.0 for x, _ in pairs], [y == 1.0 for _, y in pairs])
