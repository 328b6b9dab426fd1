"""Format the table at the end of a run."""

import json
from pathlib import Path
from typing import Any

from dynfocus.errors import CheckpointError

COLUMNS = ("detail", "correspondence", "temporal")


def read_metrics(run: Path) -> dict[str, Any]:
    """Read a run's metrics.json; raises CheckpointError if there is none."""
    path = Path(run) / "metrics.json"
    if not path.exists():
        raise CheckpointError(f"no {path}", "a tested run", "Run `make stage2` first.")
    return json.loads(path.read_text())


def format_results(metrics: dict[str, Any]) -> str:
    """Format the accuracy of each arm by kind of question, with 95 % intervals, hit rate and tokens."""
    lines = [["kept frames", "balanced", *COLUMNS, "hit rate", "tokens"]]
    for name, arm in metrics["arms"].items():
        cells = [_cell(arm, kind) for kind in COLUMNS]
        hit = "-" if arm["hit_rate"] is None else f"{arm['hit_rate']:.3f}"
        lines.append([name, f"{arm['balanced']:.3f}", *cells, hit, f"{arm['visual_tokens']:.0f}"])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    types = ", ".join(f"{type} {share:.2f}" for type, share in metrics["accuracy_by_type"].items())
    foot = f"{metrics['n']} questions, seed {metrics['seed']}, {metrics['seconds']:.0f} s; by type: {types}"
    return "\n".join([rows[0], "-" * len(rows[0]), *rows[1:], "", foot])


def _cell(arm: dict[str, Any], kind: str) -> str:
    if kind not in arm["accuracy_by_kind"]:
        return "-"
    low, high = arm["intervals"][kind]
    return f"{arm['accuracy_by_kind'][kind]:.3f} [{low:.3f}, {high:.3f}]"
