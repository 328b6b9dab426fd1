"""Measure the connector: every case in turn."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from dynfocus.device import one_thread
from dynfocus.errors import ConfigError
from dynfocus.plan.connector_flops import Sizes
from dynfocus.settings import ConnectorSettings
from perf.cases import Bench, measure
from perf.long import measure_clustering, measure_long_video, measure_top_k
from perf.machine import bf16_units
from perf.roofline import Roofline
from perf.table import CONNECTOR, report
from perf.world import world_steps

QUICK = 64  # frames
LONG = 10_000
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Without units for it bf16 was measured 5 to 7 times slower than fp32 forward, and 29 times with gradients at T = 1.
SLOW = "bfloat16 forward only up to T = 64, and backward at T = 1: this CPU has no bf16 units"


def bench_connector(
    out: Path,
    frames: list[int],
    quick: bool,
    settings: ConnectorSettings = ConnectorSettings(),  # noqa: B008 (frozen)
    sizes: Sizes = Sizes(),  # noqa: B008 (frozen)
    say: Callable[[str], None] = tqdm.write,
) -> None:
    """Measure the connector, print a table as it goes, and add one JSON line for each case to ``out``.

    Args:
        out: a file of JSON lines.
        frames: the numbers of frames T to measure.
        quick: only T <= 64 in fp32, and none of the rows that take minutes.
        settings, sizes: the paper's.
        say: takes each line of the table.

    Raises:
        ConfigError: if no number of frames is left to measure.
        DiskError: if ``out`` cannot be written.
    """
    counts = choose_counts(frames, quick)
    with one_thread():
        report(rows(counts, quick, settings, sizes, say), CONNECTOR, out, say)


def choose_counts(frames: list[int], quick: bool) -> list[int]:
    """Choose the numbers of frames to measure; raises ConfigError if none is left, or one is below 1."""
    counts = [count for count in frames if not quick or count <= QUICK]
    if not counts or min(counts) < 1:
        raise ConfigError(
            f"frames {frames}{' with --quick' if quick else ''}",
            f"numbers of at least 1{f' and at most {QUICK}' if quick else ''}",
            "Correct --frames.",
        )
    return counts


def rows(
    frames: list[int], quick: bool, settings: ConnectorSettings, sizes: Sizes, say: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """Every row, in the table's order."""
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        for name in ["float32"] if quick else PRECISIONS:
            slow = name == "bfloat16" and device == "cpu" and not bf16_units()
            if slow:
                say(SLOW)
            most = (QUICK, 1) if slow else (max(frames), max(frames))
            cases = [(backward, t) for backward in (False, True) for t in frames if t <= most[backward]]
            yield from connector_rows(name, device, cases, settings, sizes)
        yield from length_rows(quick, device, settings, sizes)
    if not quick:
        yield from world_steps()


def connector_rows(
    precision: str, device: str, cases: list[tuple[bool, int]], settings: ConnectorSettings, sizes: Sizes
) -> Iterator[dict[str, Any]]:
    """One precision's rows: each of ``cases`` is whether backward runs too, and T."""
    bench = Bench(settings, sizes, PRECISIONS[precision], device)
    roofline = Roofline(bench.dtype, device, sizes)
    for backward, count in cases:
        yield measure(bench, roofline, count, backward)


def length_rows(quick: bool, device: str, settings: ConnectorSettings, sizes: Sizes) -> Iterator[dict[str, Any]]:
    """The rows about long videos; a quick run leaves out those that take minutes."""
    roofline = Roofline(torch.float32, device, sizes)
    for count in (1000,) if quick else (1000, LONG):
        yield measure_clustering(count, roofline, settings, sizes, device)
    yield measure_top_k(1000, 450, 500, device)
    for precision in () if quick else ("float32", "float16"):
        yield measure_long_video(Bench(replace(settings, sketch_dtype=precision), sizes, device=device), roofline, LONG)
