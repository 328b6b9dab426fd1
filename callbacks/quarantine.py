"""Rows that could not be used: each is written down once and counted, and too many of them end the run."""

from collections import Counter
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from callbacks.observer import gathered
from dynfocus.errors import ConfigError, DataError
from dynfocus.records.skipped import QUARANTINE, Skipped, append_notes, read_notes

FEW = 256  # rows that have to be read before their share says something, unless the data set holds fewer


class Quarantine(Callback):
    """Write skipped rows into ``quarantine.jsonl``, count them as ``data/skipped``, and end a run with too many.

    All processes take part in the count, so that they stop together; the first one writes.

    Args:
        limit: share of the rows read so far that may be skipped.
        dirpath: where to; the run's own folder if not given.

    Raises:
        ConfigError: if the limit is no share.
        DataError: in a run, once more than that share is skipped; it says what is wrong how often.
    """

    records_skipped = True  # a data module asks for it before it lets a row go

    def __init__(self, limit: float = 0.05, dirpath: Path | None = None) -> None:
        if not 0 <= limit <= 1:
            raise ConfigError(f"limit = {limit}", "a share of rows from 0 to 1", "Set it, such as 0.05.")
        self.limit, self.dirpath = limit, dirpath
        self.read, self.skipped = 0, 0
        self.waiting: list[Skipped] = []
        self.counted = torch.zeros(2, dtype=torch.long)  # rows read and skipped here since the last step
        self.known: dict[tuple[str, int], Skipped] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"read": self.read, "skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.read, self.skipped = state_dict["read"], state_dict["skipped"]

    def file(self, trainer: Trainer) -> Path:
        return Path(self.dirpath or trainer.default_root_dir) / QUARANTINE

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.waiting, self.counted = [], torch.zeros(2, dtype=torch.long)
        noted = read_notes(self.file(trainer), mend=trainer.is_global_zero)
        self.known = {(one.source, one.index): one for one in noted}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.counted += torch.tensor([len(batch.input_ids), len(batch.skipped)])
        self.waiting += batch.skipped

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.waiting += batch.skipped

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        counted = trainer.strategy.reduce(self.counted.to(pl_module.device), reduce_op="sum").tolist()
        self.counted = torch.zeros(2, dtype=torch.long)
        self.read, self.skipped = self.read + counted[0], self.skipped + counted[1]
        pl_module.log("data/skipped", float(self.skipped))
        if not counted[1]:
            return
        self.write(trainer)
        rows = getattr(trainer.datamodule, "training_rows", FEW)  # type: ignore[attr-defined]
        if self.skipped > self.limit * max(self.read, min(FEW, rows)):
            raise self.too_many(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.write(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.write(trainer)
        if self.skipped:
            rank_zero_info(f"{self.skipped} of {self.read} rows were skipped: {self.file(trainer)} says why")

    def write(self, trainer: Trainer) -> None:
        """Add what any process has met and nobody has written yet; every one of them has to ask."""
        parts = gathered(trainer, self.waiting)
        self.waiting = []
        new = {(one.source, one.index): one for part in parts for one in part}
        new = {key: one for key, one in new.items() if key not in self.known}
        self.known |= new
        if trainer.is_global_zero:
            append_notes(self.file(trainer), new.values())

    def too_many(self, trainer: Trainer) -> DataError:
        counts = Counter((one.source, one.fault) for one in self.known.values())
        examples = {(one.source, one.fault): one.cause for one in self.known.values()}
        said = "; ".join(f"{count} of {kind[0]}, such as {examples[kind]}" for kind, count in counts.most_common())
        return DataError(
            f"{self.skipped} of {self.read} rows that had to be skipped, listed in {self.file(trainer)} ({said})",
            f"at most the share of {self.limit:g} that callbacks.quarantine.Quarantine allows",
            "Mend the data or the root; `dynfocus doctor` with the same configs looks at every row beforehand.",
        )
