"""Collect the rows of tables: results of runs beside published numbers, with marks where their settings differ."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynfocus.evals.benchmarks import PUBLISHED, find_benchmark, find_split
from dynfocus.evals.benchmarks.world import WORLD
from dynfocus.evals.protocol import UPSTREAM, Benchmark
from dynfocus.evals.published import PublishedRow, list_mismatches, read_notes, read_published
from dynfocus.evals.results_table import read_metrics

UNKNOWN = "not stated"
MARKS = "abcdefghijklmnopqrstuvwxyz"
ASTERISK = "*"


@dataclass(frozen=True)
class Cell:
    """One number: as it is printed, with its 95 % interval and the number of values behind it, where they are known."""

    text: str
    interval: tuple[str, str] | None = None
    n: int | None = None


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        label: a run and its arm, or a published model.
        source: where it is from.
        settings: what numbers of one column have to share; None where a source does not state it.
        facts: what else belongs to the numbers.
        cells: the numbers, by column.
    """

    label: str
    source: str
    settings: Mapping[str, str | None]
    facts: Mapping[str, str]
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class Table:
    """The table of one benchmark.

    Attributes:
        benchmark: its name.
        columns: those of the page; a row may have more.
        rows: published rows in their own order, then our own.
        marks: of each row, the signs behind its numbers.
        notes: what the signs mean, and what else has to be said.
    """

    benchmark: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    marks: tuple[str, ...]
    notes: tuple[str, ...]


def build_tables(runs: Sequence[Path]) -> list[Table]:
    """Build a table for each benchmark of some runs, in the paper's order; raises CheckpointError where one is none."""
    rows: dict[str, list[Row]] = {}
    for run in runs:
        for metrics in read_results(run):
            rows.setdefault(metrics["benchmark"], []).extend(make_rows(run, metrics))
    return [build_table(one, rows[one.name]) for one in (*PUBLISHED, WORLD) if one.name in rows]


def read_results(run: Path) -> list[dict[str, Any]]:
    """Read the results of a run: its own first, then those of every time it was judged."""
    results = [read_metrics(run)]
    for path in sorted(run.glob("metrics.*.json")):
        metrics = json.loads(path.read_text(encoding="utf-8"))
        if metrics.get("judge") == path.name.removeprefix("metrics.").removesuffix(".json"):  # else an older result
            results.append({**results[0], **metrics, "judged_as": metrics["judge"]})
    return results


def make_settings(metrics: Mapping[str, Any]) -> dict[str, str | None]:
    """Say in words what results were made and judged with; None where they do not state it."""
    benchmark = find_benchmark(metrics["benchmark"])
    rule = metrics.get("frame_rule") or metrics.get("made_by", {}).get("settings", {}).get("frame_rule")
    return {
        "protocol": metrics["protocol"],
        "split": metrics.get("split"),
        "judge": metrics["judge"] if metrics.get("judge_model") else "rules",
        "frames": describe_frames(rule),
        "subtitles": "yes" if metrics.get("subtitles", benchmark.subtitled) else "no",
        "options": "shuffled" if metrics.get("options_shuffled") else "in order",
    }


def make_rows(run: Path, metrics: Mapping[str, Any]) -> list[Row]:
    """Make a row of each arm of a run's results."""
    benchmark, settings = find_benchmark(metrics["benchmark"]), make_settings(metrics)
    seed = metrics.get("seed", metrics.get("sampling", {}).get("seed"))
    facts = {"seed": "-" if seed is None else str(seed), "commit": str(metrics.get("commit", "-"))[:9]}
    rows = []
    for arm, one in metrics["arms"].items():
        own = {"questions": str(one["n"])}
        shares = {"unparsed": f"{one['unparsed']:.1%}", "failed": f"{one['failed']:.1%}"}
        tokens = {"tokens": "-" if "samples" in metrics else f"{one['visual_tokens']:.0f}"}
        cells = {name: make_cell(column, benchmark, name) for name, column in one["columns"].items()}
        name = f"{arm}, judged as {metrics['judged_as']}" if "judged_as" in metrics else arm
        rows.append(Row(f"{run} ({name})", "ours", settings | own, tokens | facts | shares, cells))
    return rows


def describe_frames(rule: Mapping[str, Any] | None) -> str | None:
    """Say which frames a rule takes, in the words of published tables; None where there is no rule."""
    if rule is None:
        return None
    most = None if rule.get("frames") is None else f"{rule['frames']} frames"
    rate = None if rule.get("fps") is None else f"{rule['fps']:g} a second"
    return " of ".join(filter(None, (most, rate))) or "every frame"


def make_cell(column: Mapping[str, Any], benchmark: Benchmark, name: str) -> Cell:
    """Print a number with its interval: percentages to one digit, all others to three."""
    digits = 1 if benchmark.columns[name].scale == 100 else 3
    value, low, high = (f"{number:.{digits}f}" for number in (column["value"], *column["interval"]))
    return Cell(value, (low, high), column["n"])


def make_published_row(row: PublishedRow) -> Row:
    """Make a row of a published one. Published numbers are made by the code of the benchmarks themselves."""
    benchmark = find_benchmark(row.benchmark)
    settings: dict[str, str | None] = {
        "protocol": UPSTREAM if benchmark.upstream else benchmark.protocol,
        "split": find_split(row.benchmark, None),
        "judge": row.judge,
        "frames": row.frames,
        "subtitles": "yes" if benchmark.subtitled else "no",
        "options": "in order",
        "questions": None,
    }
    source = f"{row.source}, read in {row.read_in}" if row.read_in else row.source
    facts = dict.fromkeys(("tokens", "seed", "commit", "unparsed", "failed"), "-")
    return Row(row.model, source, settings, facts, {name: Cell(value) for name, value in row.values.items()})


def build_table(benchmark: Benchmark, own: Sequence[Row]) -> Table:
    """Build the table of one benchmark: the first of our own rows is what the others are compared with."""
    published = read_published(benchmark.name)
    rows = (*map(make_published_row, published), *own)
    shown = [name for name in benchmark.columns if "/" not in name]
    columns = tuple(name for name in shown if any(name in row.cells for row in rows))
    differences = [list_differences(row, own[0]) for row in rows]
    letters = {text: MARKS[n % len(MARKS)] * (n // len(MARKS) + 1) for n, text in enumerate(list_once(differences))}
    wrong = [bool(row) for row in map(list_mismatches, published)] + [False] * len(own)
    marks = [letters.get(text, "") + ASTERISK * off for text, off in zip(differences, wrong, strict=True)]
    base = ", ".join(f"{name} {value or UNKNOWN}" for name, value in own[0].settings.items())
    notes = [f"Numbers without a letter: {base}."]
    notes += [f"{letter}: {text}." for text, letter in letters.items()]
    notes += [f"{ASTERISK}: the published average does not follow from its columns."] if any(wrong) else []
    return Table(benchmark.name, columns, rows, tuple(marks), (*notes, *read_notes(benchmark.name)))


def list_differences(row: Row, base: Row) -> str:
    """Say in which settings a row differs from another one, or does not state them; empty where in none."""
    if row is base:
        return ""
    unlike = {name: value for name, value in row.settings.items() if value is None or value != base.settings.get(name)}
    return ", ".join(f"{name} {value or UNKNOWN}" for name, value in unlike.items())


def list_once(texts: Iterable[str]) -> list[str]:
    """List texts once, in the order in which they come first, without empty ones."""
    return list(dict.fromkeys(filter(None, texts)))
