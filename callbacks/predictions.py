"""What a test leaves: predictions.jsonl and metrics.json; a prediction leaves the first alone."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from callbacks.export import FIT_CARD
from dynfocus.evals.score import summary
from dynfocus.records import Prediction, write_jsonl, write_text


class Predictions(Callback):
    """Collect the predictions of a test and write them, with their summary, into the run's folder.

    Args:
        dirpath: where to; the run's own folder if not given.
    """

    def __init__(self, dirpath: Path | None = None) -> None:
        self.dirpath = dirpath
        self.predictions: list[Prediction] = []
        self.started = 0.0

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.predictions, self.started = [], time.monotonic()

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self.predictions += outputs

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.predictions = []

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self.predictions += [Prediction(**fields) for fields in outputs]

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        write_jsonl(self.folder(trainer) / "predictions.jsonl", self.predictions)

    def folder(self, trainer: Trainer) -> Path:
        return Path(self.dirpath or trainer.default_root_dir)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        folder = self.folder(trainer)
        seconds = time.monotonic() - self.started
        if (folder / FIT_CARD).exists():
            seconds += json.loads((folder / FIT_CARD).read_text())["seconds"]
        arms = {
            arm: [p for p in self.predictions if p.arm == arm] for arm in dict.fromkeys(p.arm for p in self.predictions)
        }
        by_arm = {arm: summary(predictions) for arm, predictions in arms.items()}
        first = next(iter(by_arm.values()))
        metrics = first | {
            "seconds": round(seconds, 1),
            "seed": torch.initial_seed(),
            "commit": commit(),
            "arms": by_arm,
        }
        write_jsonl(folder / "predictions.jsonl", self.predictions)
        write_text(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")


def commit() -> str:
    """The git commit of the code that runs, or ``unknown`` where it is not a git checkout."""
    asked = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "unknown"
