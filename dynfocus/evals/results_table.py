"""Format the table at the end of a run."""

import json
from pathlib import Path
from typing import Any

from dynfocus.errors import CheckpointError
from dynfocus.evals.benchmarks import find_benchmark
from dynfocus.evals.protocol import OWN
from dynfocus.records.predictions import TEXT_PRIOR


def read_metrics(run: Path) -> dict[str, Any]:
    """Read a run's metrics.json; raises CheckpointError if there is none, or one of an older form.

    Results from before there were protocols are of the one that was the only one.
    """
    path = Path(run) / "metrics.json"
    if not path.exists():
        raise CheckpointError(f"no {path}", "a tested run", "Run `make stage2` first.")
    metrics = json.loads(path.read_text())
    if "benchmark" not in metrics:
        raise CheckpointError(f"{path}, of an older version of this project", "a test of today", "Test the run again.")
    return {"protocol": OWN, **metrics}


def format_results(metrics: dict[str, Any]) -> str:
    """Format each arm's columns with 95 % intervals, its hit rate and tokens; single groups stand below the table.

    Where it is known, the last line is the text prior: what the questions' text alone answers.
    """
    names = [name for name in find_benchmark(metrics["benchmark"]).columns if "/" not in name]
    names = [name for name in names if any(name in arm["columns"] for arm in metrics["arms"].values())]
    lines = [["kept frames", *names, "hit rate", "tokens"]]
    for label, arm in metrics["arms"].items():
        hit = "-" if arm["hit_rate"] is None else f"{arm['hit_rate']:.3f}"
        shown = (_format_cell(arm["columns"].get(name)) for name in names)
        lines.append([label, *shown, hit, f"{arm['visual_tokens']:.0f}"])
    if prior := metrics.get("text_prior"):
        lines.append([TEXT_PRIOR, *(_format_cell(prior.get(name)) for name in names), "-", "0"])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    groups = [f"{name} {one['value']:.2f}" for name, one in metrics["columns"].items() if "/" in name]
    facts = [f"{metrics['n']} questions"]
    facts += [f"protocol {metrics['protocol']}"] if metrics["protocol"] != OWN else []
    facts += [f"seed {metrics['seed']}", f"{metrics['seconds']:.0f} s"] if "seed" in metrics else []
    facts += [f"{metrics['unparsed']:.1%} of the answers could not be read"] if metrics.get("unparsed") else []
    facts += [f"{metrics['failed']:.1%} have no verdict of {metrics['judge']}"] if metrics.get("failed") else []
    foot = ", ".join(facts)
    foot += f"; by type: {', '.join(groups)}".replace("type/", "") if groups else ""
    return "\n".join([rows[0], "-" * len(rows[0]), *rows[1:], "", foot])


def _format_cell(column: dict[str, Any] | None) -> str:
    if column is None:
        return "-"
    low, high = column["interval"]
    return f"{column['value']:.3f} [{low:.3f}, {high:.3f}]"
