"""`dynfocus bench --data`: what it costs to read annotations, videos and images."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from perf.annotations import bench_annotations
from perf.machine import machine
from perf.reading import bench_reading
from perf.run import append

QUICK = 2000  # rows
COLUMNS = {"case": 46, "seconds": 10, "rows/s": 10, "extra MB": 10, "faster": 8}


def data(out: Path, folder: Path, quick: bool, say: Callable[[str], None] = tqdm.write) -> None:
    """See `perf.bench_data`; ``say`` takes each line of the table."""
    about = machine()
    append(out, [])
    folder.mkdir(parents=True, exist_ok=True)
    names = "".join(name.ljust(width) if name == "case" else name.rjust(width) for name, width in COLUMNS.items())
    say(f"{names}\n{'-' * len(names)}")
    measures: list[Callable[[], list[dict[str, Any]]]] = [
        partial(bench_reading, folder / ("short" if quick else "long"), *((1, 2) if quick else ())),
        partial(bench_annotations, folder, *((QUICK, QUICK) if quick else ())),
    ]
    for measure in measures:
        rows = measure()
        append(out, [{**about, **row} for row in rows])
        for row in rows:
            say(line(row))


def line(row: dict[str, Any]) -> str:
    """One row; what was not measured stays a dash."""
    cells = {
        "case": ", ".join(str(row[name]) for name in ("case", "pass") if row.get(name)),
        "seconds": f"{row.get('seconds_median', row['seconds']):.4f}",
        "rows/s": f"{row['rows_per_second']:.1f}" if "rows_per_second" in row else "-",
        "extra MB": "-" if row.get("extra_bytes") is None else f"{row['extra_bytes'] / 1e6:.1f}",
        "faster": f"{row['times_faster']:.1f} x" if row.get("times_faster") else "-",
    }
    return "".join(
        cells[name].ljust(width) if name == "case" else cells[name].rjust(width) for name, width in COLUMNS.items()
    )
