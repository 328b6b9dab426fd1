"""Measure the reading of annotations, videos and images beside the plain way, in generated files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from perf.annotations import READS, ROWS, bench_annotations
from perf.reading import REPEATS, SECONDS, bench_reading
from perf.table import READING, report

QUICK = 2000  # rows


def bench_data(out: Path, folder: Path, quick: bool) -> None:
    """Print a table, and add one JSON line for each case to ``out``.

    Args:
        out: a file of JSON lines.
        folder: where a gigabyte of generated files is made and stays.
        quick: only small files, and each once.

    Raises:
        DiskError: if ``out`` cannot be written.
    """
    report(_rows(folder, quick), READING, out)


def _rows(folder: Path, quick: bool) -> Iterator[dict[str, Any]]:
    yield from bench_reading(folder / ("short" if quick else "long"), *((1, 2) if quick else (REPEATS, SECONDS)))
    yield from bench_annotations(folder, *((QUICK, QUICK) if quick else (ROWS, READS)))
