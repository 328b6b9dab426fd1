"""Repeat the embedded world's result over seeds, beside the average-pooling baseline, on shared towers."""

import os
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

from dynfocus.evals.table import read_metrics

RUNS = Path("runs/world/seeds")
BASELINE = ("--model.connector.encoder", "average_pooling", "--model.arms", "[learned, blind]")
ENTRANTS: dict[str, tuple[str, ...]] = {"dynfocus": (), "average_pooling": BASELINE}
COLUMNS = ("detail", "correspondence", "temporal")


def repeat(seeds: list[int]) -> str:
    """Train and test every entrant with every seed, those that are done already left out; returns the table."""
    for seed in seeds:
        for name, options in ENTRANTS.items():
            folder = RUNS / str(seed) / name
            if not (folder / "stage2" / "metrics.json").exists():
                for verb, stage in (("fit", "stage1"), ("fit", "stage2"), ("test", "stage2")):
                    _call(verb, stage, folder / stage, seed, options)
    return summary(seeds)


def summary(seeds: list[int]) -> str:
    """Mean and standard deviation over the seeds, and what the baseline loses on detail."""
    lines = [f"{'':16} {'balanced':>15} {'detail':>15} {'correspondence':>15} {'temporal':>15} {'tokens':>7}"]
    detail = {}
    for name in ENTRANTS:
        runs = [read_metrics(RUNS / str(seed) / name / "stage2") for seed in seeds]
        columns = [[run["balanced"] for run in runs]]
        columns += [[run["accuracy_by_kind"][kind] for run in runs] for kind in COLUMNS]
        detail[name] = mean(columns[1])
        cells = [f"{mean(column):.3f} +- {stdev(column) if len(column) > 1 else 0:.3f}" for column in columns]
        lines.append(
            f"{name:16} {' '.join(f'{cell:>15}' for cell in cells)} {mean(r['visual_tokens'] for r in runs):7.0f}"
        )
    lines.append(f"seeds {seeds}: average pooling loses {detail['dynfocus'] - detail['average_pooling']:.3f} on detail")
    return "\n".join(lines)


def _call(verb: str, stage: str, folder: Path, seed: int, options: tuple[str, ...]) -> None:
    configs = [part for name in (stage, "world") for part in ("--config", f"lightning_configs/{name}.yaml")]
    own = ["--trainer.default_root_dir", str(folder), "--seed_everything", str(seed)]
    one_thread = {"OMP_NUM_THREADS": "1"} | os.environ  # a second one costs models of this size more than it brings
    subprocess.run([sys.executable, "-m", "dynfocus", verb, *configs, *own, *options], check=True, env=one_thread)
