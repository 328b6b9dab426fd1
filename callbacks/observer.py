"""Define what callbacks share: when observers log, how processes gather their numbers, and where these go."""

from itertools import zip_longest
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info

from dynfocus.types import Batch


class Observer(Callback):
    """Base of callbacks that watch every batch, and log numbers after `trainer.log_every_n_steps` optimizer steps and
    after each validation and test. Subclasses define `update` and `compute`, as metrics of torchmetrics do.

    Every process calls both equally often, so `compute` may gather from the others. A run is not changed.
    """

    last_logged_step = 0  # the optimizer step of the last log

    def update(self, phase: str, pl_module: Any, batch: Batch) -> None:
        """Update the numbers with a batch that was computed."""

    def compute(self, phase: str, trainer: Trainer) -> dict[str, float]:
        """Return the numbers since the last call, by their tags, and reset them."""
        return {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.last_logged_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        if not trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return  # nothing is ever logged
        self.update("train", pl_module, batch)
        if trainer.global_step != self.last_logged_step and is_due(trainer, trainer.global_step):
            self.last_logged_step = trainer.global_step
            log(trainer, self.compute("train", trainer))

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, *_: Any
    ) -> None:
        self.update("val", pl_module, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        values = self.compute("val", trainer)
        if not trainer.sanity_checking:
            log(trainer, values)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, *_: Any
    ) -> None:
        self.update("test", pl_module, batch)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        log(trainer, self.compute("test", trainer))


def is_due(trainer: Trainer, step: int) -> bool:
    """Return whether the optimizer step of this number, counted from 1, is logged."""
    every = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return every > 0 and step % every == 0


def log(trainer: Trainer, values: dict[str, float], before: int = 1) -> None:
    """Give numbers to the run's loggers, where it has any, under the number Lightning gives the step's loss.

    They go there directly: a test would print every number that goes through the module, and checkpoints see none.
    """
    for logger in trainer.loggers if values else ():
        logger.log_metrics(values, step=max(trainer.global_step - before, 0))


def say_what_is_not_logged(trainer: Trainer, what: str, where: str) -> None:
    """Say which of the run's loggers are given numbers alone, and where else is ``what`` they are not given."""
    others = sorted({type(logger).__name__ for logger in trainer.loggers if not isinstance(logger, TensorBoardLogger)})
    if others:
        rank_zero_info(f"{' and '.join(others)}: given numbers alone; {what} go to a TensorBoardLogger, and {where}")


def rng_devices(module: LightningModule) -> list[int]:
    """List the GPUs whose random generators a module's computations may use."""
    return [module.device.index or 0] if module.device.type == "cuda" else []


def gather_objects(trainer: Trainer, own: Any) -> list[Any]:
    """Gather an object from each process; every process has to call this."""
    parts = [own]
    if trainer.world_size > 1:
        parts *= trainer.world_size
        torch.distributed.all_gather_object(parts, own)
    return parts


def add_by_name(parts: list[dict[str, list[float]]]) -> dict[str, list[float]]:
    """Add lists of numbers name by name; a part may lack a name, and a list may be shorter."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {n: [sum(s) for s in zip_longest(*(part.get(n, []) for part in parts), fillvalue=0.0)] for n in names}
