"""Time a training step on the embedded world with the sketch cache and without, through the real command line."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from dynfocus.errors import ConfigError
from dynfocus.world.dataset import write_world
from dynfocus.world.towers.tower_settings import LanguageSettings, TowerSettings, VisionSettings
from dynfocus.world.towers.train import train_towers
from perf.machine import ROOT

WORLD = Path("cache/world")
CONFIGS = ROOT / "lightning_configs"
STEPS = 20
# The actions of Lightning's profiler that make up a step.
ACTIONS = {"seconds_fetching": "train_dataloader_next", "seconds_learning": "run_training_batch"}
OVERLAY = """
model:
  init_from: null
  encoders: {towers}/instructblip
  language_model: {towers}/llm
data:
  init_args:
    root: {data}
    sketch_cache: {cache}
    num_workers: 0
    check: false
    world_seed: {seed}
    videos: {videos}
    val: {val}
    test: {test}
trainer:
  default_root_dir: {run}
  max_steps: {steps}
  limit_val_batches: 0
  enable_progress_bar: false
  enable_model_summary: false
  logger: false
  callbacks: null
  profiler:
    class_path: lightning.pytorch.profilers.SimpleProfiler
    init_args:
      dirpath: {run}
      filename: steps
      extended: true
"""


def world_steps(place: Path = WORLD, steps: int = STEPS) -> list[dict[str, Any]]:
    """Seconds of a training step of stage 2, batch and backward included: without the cache, then with it.

    The world and towers in ``place`` are used where they are; else a small world and towers of nearly random weights,
    which cost as much, are made in a temporary folder.

    Raises:
        ConfigError: if the training does not run.
    """
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        made = (place / "data/world.json").exists() and (place / "towers/llm").exists()
        world = place if made else write_small_world(scratch)
        without = step_seconds(world, scratch / "without", None, steps)
        cached = step_seconds(world, scratch / "with", scratch / "sketches", steps)
    common = {"pass": "training step", "frames": 20, "precision": "float32", "device": "cpu"}
    faster = {"times_faster": without["seconds"] / cached["seconds"]}
    return [
        {"case": "world, no sketch cache", **common, **without},
        {"case": "world, sketch cache", **common, **cached, **faster},
    ]


def write_small_world(folder: Path) -> Path:
    """A world of few videos, and towers that were trained for one step."""
    data = write_world(folder / "data", videos=64, val=2, test=2, workers=0, progress=False)
    short = TowerSettings(VisionSettings(steps=1, videos=8, images=8), LanguageSettings(steps=1, pool=64, asked=1))
    train_towers(data, folder / "towers", settings=short, workers=0, progress=False)
    return folder


def step_seconds(place: Path, run: Path, cache: Path | None, steps: int) -> dict[str, float]:
    """Mean seconds of ``steps`` steps, in all and by their parts, in a process of its own with one thread."""
    run.mkdir(parents=True)
    world = json.loads((place / "data/world.json").read_text())
    overlay = run / "overlay.yaml"
    paths = {"data": (place / "data").resolve(), "towers": (place / "towers").resolve(), "run": run}
    counts = {name: world[name] for name in ("seed", "videos", "val", "test")}
    overlay.write_text(OVERLAY.format(**paths, **counts, cache=cache or "null", steps=steps))
    configs = [CONFIGS / "stage2.yaml", CONFIGS / "world.yaml", overlay]
    flags = [part for config in configs for part in ("--config", str(config))]
    done = subprocess.run(
        [sys.executable, "-m", "dynfocus", "fit", *flags],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["without an error message"]
        failed = f"a training on the embedded world that failed ({lines[-1]})"
        raise ConfigError(failed, "one that runs", "See what `make stage2` says.")
    report = next(run.glob("*steps*.txt")).read_text()
    parts = {name: mean_seconds(report, action) for name, action in ACTIONS.items()}
    return {"seconds": sum(parts.values()), **parts}


def mean_seconds(report: str, action: str) -> float:
    """The mean duration of an action in the report of Lightning's simple profiler."""
    match = re.search(rf"^\|[^|\n]*{action}\s*\|\s*([\d.e+-]+)\s*\|", report, flags=re.M)
    if not match:
        raise ConfigError(f"a profile without {action}", "a profile of Lightning 2.5 or newer", "Update lightning.")
    return float(match[1])
