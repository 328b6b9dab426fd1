"""Measured rows as lines of a table."""

from typing import Any

COLUMNS = {
    "case": 38,
    "T": 6,
    "precision": 9,
    "device": 6,
    "seconds": 9,
    "median": 9,
    "roofline": 8,
    "extra MB": 9,
    "operations": 11,
    "syncs": 5,
    "tokens": 6,
    "GFLOP": 8,
}


def heading() -> str:
    """The table's first two lines."""
    names = " ".join(name.ljust(width) if name == "case" else name.rjust(width) for name, width in COLUMNS.items())
    return f"{names}\n{'-' * len(names)}"


def line(row: dict[str, Any]) -> str:
    """One row; what was not measured stays a dash."""
    cells = {
        "case": " ".join(str(row[name]) for name in ("case", "pass") if row.get(name)),
        "T": _cell(row.get("frames"), "d"),
        "precision": row.get("precision", "-"),
        "device": row.get("device", "-"),
        "seconds": _cell(row.get("seconds"), ".4f"),
        "median": _cell(row.get("seconds_median"), ".4f"),
        "roofline": _cell(row.get("roofline"), ".0%"),
        "extra MB": _cell(row.get("extra_bytes"), ".1f", 1e6),
        "operations": _operations(row),
        "syncs": _cell(row.get("syncs"), "d"),
        "tokens": _cell(row.get("tokens"), "d"),
        "GFLOP": _cell(row.get("flops"), ".1f", 1e9),
    }
    drawn = " ".join(
        cells[name].ljust(width) if name == "case" else cells[name].rjust(width) for name, width in COLUMNS.items()
    )
    faster = row.get("times_faster")
    return drawn if faster is None else f"{drawn}  {faster:.1f} times faster"


def _cell(value: Any, form: str, unit: float = 1) -> str:
    return "-" if value is None else format(value / unit if unit != 1 else value, form)


def _operations(row: dict[str, Any]) -> str:
    counts = [row.get(f"operations_{part}") for part in ("forward", "backward")]
    return "-" if counts[0] is None else "/".join(str(count) for count in counts if count is not None)
