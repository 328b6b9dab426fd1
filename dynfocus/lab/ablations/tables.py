"""Lay out the rows of a study with intervals, which pairs of rows differ, and whether the paper's order holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

from dynfocus.evals.benchmarks import find_benchmark
from dynfocus.evals.protocol import Mean, Value
from dynfocus.evals.results_table import read_metrics
from dynfocus.evals.scores import LEVEL, Column, adjust_holm, make_columns
from dynfocus.lab.ablations.intervals import Difference, Interval, Measure, compare, compute_agreement
from dynfocus.lab.ablations.studies import Row, Study
from dynfocus.records.jsonl import read_jsonl
from dynfocus.records.predictions import UNTRAINED, Prediction, Verdict

HIT = "hit rate"
SHOWN = ("balanced", "detail", "correspondence", "temporal", HIT)
Answers = dict[str, dict[str, Column]]  # of one run: by arm and column


@dataclass(frozen=True)
class Result:
    """A row of a study, as it was measured.

    Attributes:
        row: which.
        measures: its numbers by column; none where no run of it was tested.
        tokens: visual tokens of a video.
        seeds: the seeds that were tested.
        paper: its place in the paper's order, where the paper ranks the rows.
    """

    row: Row
    measures: Mapping[str, Measure]
    tokens: float | None
    seeds: tuple[int, ...]
    paper: int | None


@dataclass(frozen=True)
class Pair:
    """Two rows and what the first has more in the study's column.

    Attributes:
        first, second: the rows.
        difference: None where they share no seed.
        p_holm: the difference's p, adjusted for all pairs of the table; None where it has none.
    """

    first: Result
    second: Result
    difference: Difference | None
    p_holm: float | None = None


@dataclass(frozen=True)
class Table:
    """A study with its results.

    Attributes:
        study: what was compared.
        results: of its rows.
        pairs: neighbours, or the row that all are compared with and each other one.
        agreement: Kendall's tau with the paper's order and its interval; None where there is none.
    """

    study: Study
    results: tuple[Result, ...]
    pairs: tuple[Pair, ...]
    agreement: tuple[float, Interval] | None

    def say(self, pair: Pair) -> str:
        """Say whether the difference of a pair is resolved, and which way."""
        if pair.difference is None:
            return "not measured"
        if not pair.difference.is_resolved:
            return "open"
        first_is_higher = pair.difference.value > 0
        if self.study.ranked:
            return f"resolved, {'in' if first_is_higher else 'against'} the paper's order"
        return f"resolved, {'the first' if first_is_higher else 'the second'} is higher"

    def list_notes(self) -> list[str]:
        """List what the table says as a whole."""
        notes = []
        if self.study.ranked:
            resolved = [pair for pair in self.pairs if pair.difference is not None and pair.difference.is_resolved]
            right = sum(pair.difference.value > 0 for pair in resolved if pair.difference is not None)
            notes.append(
                f"{right} of {len(self.pairs)} adjacent pairs are resolved in the paper's order, "
                f"{len(resolved) - right} against it."
            )
            if self.agreement is None:
                notes.append("Kendall's tau with the paper's order is not computed: the rows share no seed.")
            else:
                tau, (low, high) = self.agreement
                notes.append(f"Kendall's tau with the paper's order: {tau:.2f} [{low:.2f}, {high:.2f}].")
        compared = [pair for pair in self.pairs if pair.p_holm is not None]
        if compared:
            found = sum(pair.p_holm < LEVEL for pair in compared if pair.p_holm is not None)
            notes.append(f"{found} of {len(compared)} pairs differ at the 5 % level by Holm's method over these pairs.")
        known = [pair.difference.smallest for pair in self.pairs if pair.difference is not None]
        smallest = [one for one in known if one is not None]
        if smallest:
            notes.append(
                "Power: in four of five such experiments a pair is found to differ if its true difference is at least "
                f"{min(smallest):.3f} to {max(smallest):.3f}, by the pair. A smaller one may stay open."
            )
        return notes


def build_table(study: Study, folders: Mapping[str, Mapping[int, Path]], known: dict[Path, Answers]) -> Table:
    """Build the table of a study.

    Args:
        study: what was compared.
        folders: of each variant's tested runs, by seed.
        known: answers that were read already, which the tables of one call share.
    """
    results = {}
    for place, row in enumerate(study.rows, 1):
        found = {}
        for seed, folder in folders[row.variant.name].items():
            if not (folder / "metrics.json").is_file():
                continue
            if folder not in known:
                known[folder] = read_answers(folder)
            if row.arm in known[folder]:
                found[seed] = known[folder][row.arm]
        columns = set.intersection(*({*columns} for columns in found.values())) if found else set()
        tokens = [columns["tokens"].value for columns in found.values()]
        results[row] = Result(
            row,
            {name: Measure({seed: found[seed][name] for seed in found}) for name in SHOWN if name in columns},
            mean(tokens) if tokens else None,
            tuple(sorted(found)),
            place if study.ranked else None,
        )
    pairs = adjust_pairs(
        [Pair(results[a], results[b], _compare(results[a], results[b], study.column)) for a, b in study.pairs]
    )
    measures = [result.measures[study.column] for result in results.values() if study.column in result.measures]
    whole = study.ranked and len(measures) == len(study.rows)
    return Table(study, tuple(results.values()), pairs, compute_agreement(measures) if whole else None)


def adjust_pairs(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    """Adjust the p-values of pairs for their number, by Holm's method."""
    tested = [n for n, pair in enumerate(pairs) if pair.difference is not None and pair.difference.p is not None]
    adjusted = dict(zip(tested, adjust_holm([pairs[n].difference.p for n in tested]), strict=True))  # type: ignore
    return tuple(replace(pair, p_holm=adjusted.get(n)) for n, pair in enumerate(pairs))


def read_answers(folder: Path) -> Answers:
    """Read the columns of every arm of a tested run, with the shares of needed segments that were kept, and tokens."""
    metrics = read_metrics(folder)
    benchmark = find_benchmark(metrics["benchmark"], metrics["protocol"])
    verdicts = {(one.arm, one.id): one for one in read_jsonl(folder / "verdicts.jsonl", Verdict)}
    arms: dict[str, list[Prediction]] = {}
    for one in read_jsonl(folder / "predictions.jsonl", Prediction):
        arms.setdefault(one.arm, []).append(one)
    means = {**benchmark.columns, HIT: Mean(((HIT,),)), "tokens": Mean((("tokens",),))}
    answers = {}
    for arm, predictions in arms.items():
        judged = [(one, verdicts[one.arm, one.id]) for one in predictions]
        values = list(benchmark.list_values(benchmark.list_counted(judged)))
        values += [Value(HIT, one.video, one.hit, one.id) for one in predictions if one.hit is not None]
        values += [Value("tokens", one.video, float(one.visual_tokens), one.id) for one in predictions]
        answers[arm.removesuffix(UNTRAINED)] = {one.name: one for one in make_columns(values, means)}
    return answers


def _compare(a: Result, b: Result, column: str) -> Difference | None:
    if column not in a.measures or column not in b.measures:
        return None
    return compare(a.measures[column], b.measures[column])


def list_facts(recipe: str, seeds: Sequence[int], steps: int | None) -> list[str]:
    """List what all tables have in common."""
    length = "one whole epoch" if steps is None else f"at most {steps} steps"
    return [
        f"The embedded world, recipe {recipe}; seeds {', '.join(map(str, seeds))}; stage 2 of {length}.",
        "Each variant starts from the stage 1 of its seed, and is tested on the same questions.",
        "Intervals are of 95 %, by a bootstrap that draws videos with all their questions, and seeds; pairs are drawn "
        "together. Intervals are not adjusted for the number of pairs; p by Holm is, for the pairs of one table. Three "
        "seeds tell little of what seeds change.",
        "The paper's numbers are not stored here: of Table 6 the paper's order stands in the column paper. These are "
        "the embedded world's numbers; they say nothing about a 7B model.",
    ]
