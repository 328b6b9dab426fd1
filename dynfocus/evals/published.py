"""Read the published numbers that lie beside our own in tables, and check what their averages follow from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynfocus.evals.benchmarks import find_benchmark
from dynfocus.evals.protocol import Value
from dynfocus.evals.scores import make_columns

FILE = Path(__file__).with_name("published.json")


@dataclass(frozen=True)
class PublishedRow:
    """One line of a published table.

    Attributes:
        benchmark: its name here.
        model: who answered.
        source: where it is published.
        values: the numbers by the benchmark's columns, as they are printed.
        frames, judge: as published; None where it is not known.
        read_in: where it was read, if not in the source itself.
    """

    benchmark: str
    model: str
    source: str
    values: Mapping[str, str]
    frames: str | None = None
    judge: str | None = None
    read_in: str | None = None


def read_published(benchmark: str) -> list[PublishedRow]:
    """Read the published rows of a benchmark, in the order in which they are published."""
    return [PublishedRow(**row) for row in _read_file()["rows"] if row["benchmark"] == benchmark]


def read_notes(benchmark: str) -> list[str]:
    """Read where the sources of a benchmark's published rows disagree."""
    return list(_read_file()["notes"].get(benchmark, ()))


def recompute_averages(row: PublishedRow) -> dict[str, float]:
    """Recompute each average of a row from its other columns, as this project averages answers.

    Each part of a column stands in for its answers as one number, so that columns of equally many questions are assumed
    where an average is over questions.
    """
    means = find_benchmark(row.benchmark).columns
    keys = {name: {key for part in means[name].parts for key in part} for name in row.values}
    averages = {}
    for average, needed in keys.items():
        others = [name for name, own in keys.items() if own < needed]
        if set().union(*(keys[name] for name in others)) != needed:
            continue
        values = [
            Value(key, name, float(row.values[name]) / means[name].scale) for name in others for key in keys[name]
        ]
        (column,) = make_columns(values, {average: means[average]})
        averages[average] = column.value
    return averages


def list_mismatches(row: PublishedRow) -> list[str]:
    """List the averages of a row that do not follow from its columns to the printed digit."""
    return [name for name, value in recompute_averages(row).items() if not _rounds_to(value, row.values[name])]


def _rounds_to(value: float, printed: str) -> bool:
    digits = len(printed.partition(".")[2])
    return abs(value - float(printed)) <= 0.5 * 10**-digits + 1e-9


def _read_file() -> Any:
    return json.loads(FILE.read_text(encoding="utf-8"))
