"""`make bench`: every case in turn, each a line of the table and a line of the file as soon as it is measured."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from dynfocus.device import one_thread
from dynfocus.errors import ConfigError, DiskError
from dynfocus.plan.connector_flops import Sizes
from dynfocus.settings import ConnectorSettings
from perf.cases import Bench, measure
from perf.long import long_video, perturbed, temporal
from perf.machine import bf16_units, machine
from perf.roofline import Roofline
from perf.table import heading, line
from perf.world import world_steps

QUICK = 64  # frames
LONG = 10_000
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Without units for it bf16 was measured 5 to 7 times slower than fp32 forward, and 29 times with gradients at T = 1.
SLOW = "bfloat16 forward only up to T = 64, and backward at T = 1: this CPU has no bf16 units"


def run(
    out: Path,
    frames: list[int],
    quick: bool,
    settings: ConnectorSettings = ConnectorSettings(),  # noqa: B008 (frozen)
    sizes: Sizes = Sizes(),  # noqa: B008 (frozen)
    say: Callable[[str], None] = tqdm.write,
) -> None:
    """See `perf.bench`; ``settings`` and ``sizes`` are the paper's, ``say`` takes each line of the table."""
    wanted = [count for count in frames if not quick or count <= QUICK]
    if not wanted or min(wanted) < 1:
        raise ConfigError(
            f"frames {frames}{' with --quick' if quick else ''}",
            f"numbers of at least 1{f' and at most {QUICK}' if quick else ''}",
            "Correct --frames.",
        )
    with one_thread():
        about = machine()
        append(out, [])
        say(", ".join(f"{name} {value}" for name, value in about.items() if value is not None))
        say(heading())
        for row in rows(wanted, quick, settings, sizes, say):
            append(out, [{**about, **row}])
            say(line(row))


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
            wanted = [(backward, t) for backward in (False, True) for t in frames if t <= most[backward]]
            yield from connector(name, device, wanted, settings, sizes)
        yield from length(quick, device, settings, sizes)
    if not quick:
        yield from world_steps()


def connector(
    precision: str, device: str, wanted: list[tuple[bool, int]], settings: ConnectorSettings, sizes: Sizes
) -> Iterator[dict[str, Any]]:
    """One precision's rows: each ``wanted`` is whether backward runs too, and T."""
    bench = Bench(settings, sizes, PRECISIONS[precision], device)
    roofline = Roofline(bench.dtype, device, sizes)
    for backward, count in wanted:
        yield measure(bench, roofline, count, backward)


def length(quick: bool, device: str, settings: ConnectorSettings, sizes: Sizes) -> Iterator[dict[str, Any]]:
    """The rows about length; the minutes-long ones are left out of a quick run."""
    roofline = Roofline(torch.float32, device, sizes)
    for count in (1000,) if quick else (1000, LONG):
        yield temporal(count, roofline, settings, sizes, device)
    yield perturbed(1000, 450, 500, device)
    for precision in () if quick else ("float32", "float16"):
        yield long_video(Bench(replace(settings, sketch_dtype=precision), sizes, device=device), roofline, LONG)


def append(out: Path, rows: list[dict[str, Any]]) -> None:
    """Add JSON lines to a file; raises DiskError if it cannot be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("a", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(row)}\n" for row in rows)
    except OSError as error:
        raise DiskError(
            f"{out}, which could not be written ({error})", "a writable file", "Choose another --out."
        ) from error
