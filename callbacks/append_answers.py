"""Append answers to a file as they come, so that a killed evaluation goes on without asking twice."""

from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from dynfocus.records.jsonl import append_jsonl
from dynfocus.records.predictions import ANSWERS


class AppendAnswers(Callback):
    """Append the predictions of each batch to a file of this process, in the run's folder."""

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        append_jsonl(Path(trainer.default_root_dir) / ANSWERS / f"{trainer.global_rank}.jsonl", outputs)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.strategy.barrier("answers")  # the first process reads the files of all
