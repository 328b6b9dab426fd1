"""Write down and count rows that could not be used; end the run where they are too many."""

from collections import Counter
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from callbacks.observer import gather_objects
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
        DataError: in a run, once more than that share is skipped; it counts the causes.
    """

    records_skipped = True  # a data module skips rows only if some callback has this mark

    def __init__(self, limit: float = 0.05, dirpath: Path | None = None) -> None:
        if not 0 <= limit <= 1:
            raise ConfigError(f"limit = {limit}", "a share of rows from 0 to 1", "Set it, such as 0.05.")
        self.limit, self.dirpath = limit, dirpath
        self.read, self.skipped = 0, 0
        self.unwritten: list[Skipped] = []
        self.counts = torch.zeros(2, dtype=torch.long)  # rows read and skipped here since the last step
        self.records: dict[tuple[str, int], Skipped] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"read": self.read, "skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.read, self.skipped = state_dict["read"], state_dict["skipped"]

    def file(self, trainer: Trainer) -> Path:
        return Path(self.dirpath or trainer.default_root_dir) / QUARANTINE

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.unwritten, self.counts = [], torch.zeros(2, dtype=torch.long)
        notes = read_notes(self.file(trainer), mend=trainer.is_global_zero)
        self.records = {(one.source, one.index): one for one in notes}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.counts += torch.tensor([len(batch.input_ids), len(batch.skipped)])
        self.unwritten += batch.skipped

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.unwritten += batch.skipped

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        counts = trainer.strategy.reduce(self.counts.to(pl_module.device), reduce_op="sum").tolist()
        self.counts = torch.zeros(2, dtype=torch.long)
        self.read, self.skipped = self.read + counts[0], self.skipped + counts[1]
        pl_module.log("data/skipped", float(self.skipped))
        if not counts[1]:
            return
        self.write(trainer)
        rows = getattr(trainer.datamodule, "training_rows", FEW)  # type: ignore[attr-defined]
        if self.skipped > self.limit * max(self.read, min(FEW, rows)):
            raise self.too_many_error(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.write(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.write(trainer)
        if self.skipped:
            rank_zero_info(f"{self.skipped} of {self.read} rows were skipped: {self.file(trainer)} says why")

    def write(self, trainer: Trainer) -> None:
        """Write the skipped rows of all processes that are not written yet; every process has to call this."""
        parts = gather_objects(trainer, self.unwritten)
        self.unwritten = []
        new = {(one.source, one.index): one for part in parts for one in part}
        new = {key: one for key, one in new.items() if key not in self.records}
        self.records |= new
        if trainer.is_global_zero:
            append_notes(self.file(trainer), new.values())

    def too_many_error(self, trainer: Trainer) -> DataError:
        counts = Counter((one.source, one.fault) for one in self.records.values())
        examples = {(one.source, one.fault): one.cause for one in self.records.values()}
        details = "; ".join(f"{count} of {kind[0]}, such as {examples[kind]}" for kind, count in counts.most_common())
        return DataError(
            f"{self.skipped} of {self.read} rows that had to be skipped, listed in {self.file(trainer)} ({details})",
            f"at most the share of {self.limit:g} that callbacks.quarantine.Quarantine allows",
            "Mend the data or the root; `dynfocus doctor` with the same configs looks at every row beforehand.",
        )
