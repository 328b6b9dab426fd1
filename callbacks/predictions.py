"""What a test leaves: predictions.jsonl and metrics.json; a prediction leaves the first alone."""

import json
import subprocess
import time
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from callbacks.export import FIT_CARD
from callbacks.observer import gathered
from dynfocus.evals.score import summary
from dynfocus.records.atomic import write_text
from dynfocus.records.jsonl import write_jsonl
from dynfocus.records.predictions import Prediction


class Predictions(Callback):
    """Collect the predictions of a test and write them, with their summary, into the run's folder.

    Many processes give the files of one: arm after arm in the order of the data set's rows, which are shared out as
    `datamodules.order.Shared` does it. The first process writes.

    Args:
        dirpath: where to; the run's own folder if not given.
    """

    def __init__(self, dirpath: Path | None = None) -> None:
        self.dirpath = dirpath
        self.rows = 0
        self.placed: list[tuple[int, Prediction]] = []
        self.started = 0.0

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.rows, self.placed, self.started = 0, [], time.monotonic()

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self.place(trainer, outputs, batch)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.rows, self.placed = 0, []

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self.place(trainer, [Prediction(**fields) for fields in outputs], batch)

    def place(self, trainer: Trainer, predictions: list[Prediction], batch: Any) -> None:
        """Note in which row of the data set each prediction of this process's next batch stands."""
        asked = [n for n, record in enumerate(batch.records, self.rows) if record is not None]
        rows = cycle(trainer.global_rank + n * trainer.world_size for n in asked)
        self.placed += zip(rows, predictions, strict=False)
        self.rows += len(batch.records)

    def gathered(self, trainer: Trainer) -> list[Prediction]:
        """The predictions of all processes; every one of them has to ask."""
        parts = gathered(trainer, self.placed)
        arms = {arm: n for n, arm in enumerate(dict.fromkeys(p.arm for part in parts for _, p in part))}
        placed = [one for part in parts for one in part]
        return [p for _, p in sorted(placed, key=lambda one: (arms[one[1].arm], one[0]))]

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        predictions = self.gathered(trainer)
        if trainer.is_global_zero:
            write_jsonl(self.folder(trainer) / "predictions.jsonl", predictions)

    def folder(self, trainer: Trainer) -> Path:
        return Path(self.dirpath or trainer.default_root_dir)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        predictions = self.gathered(trainer)
        if not trainer.is_global_zero:
            return
        folder = self.folder(trainer)
        seconds = time.monotonic() - self.started
        if (folder / FIT_CARD).exists():
            seconds += json.loads((folder / FIT_CARD).read_text())["seconds"]
        arms = dict.fromkeys(p.arm for p in predictions)
        by_arm = {arm: summary([p for p in predictions if p.arm == arm]) for arm in arms}
        first = next(iter(by_arm.values()))
        metrics = first | {
            "seconds": round(seconds, 1),
            "seed": torch.initial_seed(),
            "commit": commit(),
            "arms": by_arm,
        }
        write_jsonl(folder / "predictions.jsonl", predictions)
        write_text(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")


def commit() -> str:
    """The git commit of the code that runs, or ``unknown`` where it is no git checkout, or there is no git."""
    try:
        asked = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except OSError:
        return "unknown"
    return asked.stdout.strip() or "unknown"
