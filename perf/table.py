"""Print measured rows as a table, and append each to a file of JSON lines as soon as it is measured."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dynfocus.errors import DiskError
from perf.machine import machine

Row = dict[str, Any]
Columns = dict[str, tuple[int, Callable[[Row], str]]]  # heading -> width, and the cell of a row
GIB = 1 << 30


def number(name: str, form: str, unit: float = 1) -> Callable[[Row], str]:
    """A column of the number ``name`` in some unit; a dash where it was not measured."""
    return lambda row: "-" if row.get(name) is None else format(row[name] if unit == 1 else row[name] / unit, form)


def _case(row: Row) -> str:
    return ", ".join(str(row[name]) for name in ("case", "pass") if row.get(name))


def _operations(row: Row) -> str:
    counts = [row.get(f"operations_{part}") for part in ("forward", "backward")]
    return "-" if counts[0] is None else "/".join(str(count) for count in counts if count is not None)


FASTER = {"faster": (8, number("times_faster", ".1f"))}
CONNECTOR: Columns = {
    "case": (40, _case),
    "T": (6, number("frames", "d")),
    "precision": (9, number("precision", "s")),
    "device": (6, number("device", "s")),
    "seconds": (9, number("seconds", ".4f")),
    "median": (9, number("seconds_median", ".4f")),
    "roofline": (8, number("roofline", ".0%")),
    "extra MB": (9, number("extra_bytes", ".1f", 1e6)),
    "operations": (11, _operations),
    "syncs": (5, number("syncs", "d")),
    "tokens": (6, number("tokens", "d")),
    "GFLOP": (8, number("flops", ".1f", 1e9)),
    **FASTER,
}
AGAINST: Columns = {
    "T": (5, number("frames", "d")),
    "seconds": (8, number("seconds", ".3f")),
    "other": (8, number("seconds_other", ".3f")),
    "ratio": (6, number("ratio", ".2f")),
    "least": (6, number("ratio_least", ".2f")),
    "most": (6, number("ratio_most", ".2f")),
    "peak MB": (8, number("extra_bytes", ".0f", 1e6)),
    "other MB": (8, number("extra_bytes_other", ".0f", 1e6)),
    "roofline": (8, number("roofline", ".0%")),
    "tokens": (7, number("tokens", "d")),
    "other tokens": (12, number("tokens_other", "d")),
}
READING: Columns = {
    "case": (46, _case),
    "seconds": (10, number("seconds", ".4f")),
    "median": (9, number("seconds_median", ".4f")),
    "rows/s": (10, number("rows_per_second", ".1f")),
    "extra MB": (10, number("extra_bytes", ".1f", 1e6)),
    **FASTER,
}
TRAINING: Columns = {
    "case": (14, number("case", "s")),
    "T": (5, number("frames", "d")),
    "rows": (4, number("rows", "d")),
    "tokens": (6, number("tokens", "d")),
    "seconds": (8, number("seconds_median", ".3f")),
    "tokens/s": (9, number("tokens_per_second", ".0f")),
    "TFLOP": (8, number("flops", ".1f", 1e12)),
    "MFU": (6, number("mfu", ".1%")),
    "peak GiB": (8, number("peak_bytes", ".2f", GIB)),
    "plan GiB": (8, number("planned_bytes", ".2f", GIB)),
}


def heading(columns: Columns) -> str:
    """The table's first two lines."""
    names = _align({name: name for name in columns}, columns)
    return f"{names}\n{'-' * len(names)}"


def line(row: Row, columns: Columns) -> str:
    """One row as a line."""
    return _align({name: cell(row) for name, (_, cell) in columns.items()}, columns)


def _align(cells: dict[str, str], columns: Columns) -> str:
    places = {name: f"{'<' if name == 'case' else '>'}{width}" for name, (width, _) in columns.items()}
    return " ".join(format(cells[name], place) for name, place in places.items())


def report(rows: Iterable[Row], columns: Columns, out: Path, say: Callable[[str], None] = tqdm.write) -> None:
    """Print a table of the rows, and add each with what it was measured on to the file ``out``; raises DiskError."""
    about = machine()
    append(out, [])
    say(", ".join(f"{name} {value}" for name, value in about.items() if value is not None))
    say(heading(columns))
    for row in rows:
        append(out, [{**about, **row}])
        say(line(row, columns))


def append(out: Path, rows: list[Row]) -> None:
    """Add JSON lines to a file; raises DiskError if it cannot be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("a", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(row)}\n" for row in rows)
    except OSError as error:
        raise DiskError(
            f"{out}, which could not be written ({error})", "a writable file", "Choose another --out."
        ) from error
