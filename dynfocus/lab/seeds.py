"""Repeat the embedded world's result over seeds, beside the average-pooling baseline, on shared towers."""

import os
import re
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from dynfocus.errors import UsageError
from dynfocus.evals.results_table import read_metrics
from dynfocus.lab.gates import find_failed_gates

RUNS = Path("runs/world/seeds")
BASELINE = ("--model.connector.encoder", "average_pooling", "--model.arms", "[learned, blind]")
ENTRANTS: dict[str, tuple[str, ...]] = {"dynfocus": (), "average_pooling": BASELINE}
COLUMNS = ("balanced", "detail", "correspondence", "temporal")
LEAST_LOSS = 0.12  # of average pooling on detail


def repeat(text: str) -> tuple[str, list[str]]:
    """Train and test every entrant with every seed, such as those of ``0,1,2``, except what is done already.

    Returns:
        the table, and each gate that was not reached.

    Raises:
        UsageError: if the text is no list of seeds.
    """
    seeds = read_seeds(text)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ENTRANTS}
    for seed in seeds:
        for name, options in ENTRANTS.items():
            folder = RUNS / str(seed) / name
            if not (folder / "stage2" / "metrics.json").exists():
                for verb, stage in (("fit", "stage1"), ("fit", "stage2"), ("test", "stage2")):
                    _call(verb, stage, folder / stage, seed, options)
            runs[name].append(read_metrics(folder / "stage2"))
    by_seed = zip(seeds, runs["dynfocus"], strict=True)
    failures = [f"seed {seed}: {gate}" for seed, run in by_seed for gate in find_failed_gates(run)]
    loss = mean(_detail(run) for run in runs["dynfocus"]) - mean(_detail(run) for run in runs["average_pooling"])
    if loss < LEAST_LOSS:
        failures.append(f"average pooling loses {loss:.3f} on detail, below {LEAST_LOSS}")
    return f"{_table(runs)}\nseeds {', '.join(map(str, seeds))}: average pooling loses {loss:.3f} on detail", failures


def read_seeds(text: str) -> tuple[int, ...]:
    """Read the seeds of a text such as ``0,1,2``; raises UsageError."""
    if not re.fullmatch("[0-9]+(,[0-9]+)*", text):
        raise UsageError(f"--seeds {text}", "whole numbers with commas between them", "Correct it, such as 0,1,2.")
    return tuple(dict.fromkeys(int(seed) for seed in text.split(",")))


def _table(runs: dict[str, list[dict[str, Any]]]) -> str:
    lines = [f"{'':16} " + " ".join(f"{name:>15}" for name in COLUMNS) + "  tokens"]
    for name, results in runs.items():
        columns = [[run["columns"][column]["value"] for run in results] for column in COLUMNS]
        cells = [f"{mean(column):.3f} +- {stdev(column) if len(column) > 1 else 0:.3f}" for column in columns]
        tokens = mean(run["visual_tokens"] for run in results)
        lines.append(f"{name:16} {' '.join(f'{cell:>15}' for cell in cells)} {tokens:7.0f}")
    return "\n".join(lines)


def _detail(run: dict[str, Any]) -> float:
    return run["columns"]["detail"]["value"]


def _call(verb: str, stage: str, folder: Path, seed: int, options: tuple[str, ...]) -> None:
    configs = [part for name in (stage, "world") for part in ("--config", f"lightning_configs/{name}.yaml")]
    own = ["--trainer.default_root_dir", str(folder), "--seed_everything", str(seed)]
    one_thread = {"OMP_NUM_THREADS": "1"} | os.environ  # a second one costs models of this size more than it brings
    subprocess.run([sys.executable, "-m", "dynfocus", verb, *configs, *own, *options], check=True, env=one_thread)
