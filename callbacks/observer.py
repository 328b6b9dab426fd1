"""What callbacks share: when observers log, how processes put their numbers together, and where these go."""

from itertools import zip_longest
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from dynfocus.types import Batch


class Observer(Callback):
    """Base of callbacks that watch every batch, and log what they saw after `trainer.log_every_n_steps` optimizer steps
    and after each validation and test. Say `see` and `tell`.

    Every process calls both equally often, so `tell` may ask the others. Nothing of a run is changed.
    """

    logged = 0  # the optimizer step that was logged last

    def see(self, phase: str, pl_module: Any, batch: Batch) -> None:
        """Take note of a batch that was computed."""

    def tell(self, phase: str, trainer: Trainer) -> dict[str, float]:
        """The numbers of what was seen since, by their tags; it begins anew."""
        return {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.logged = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        if not trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return  # nobody would ever ask for what was seen
        self.see("train", pl_module, batch)
        if trainer.global_step != self.logged and due(trainer, trainer.global_step):
            self.logged = trainer.global_step
            log(trainer, self.tell("train", trainer))

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, *_: Any
    ) -> None:
        self.see("val", pl_module, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        told = self.tell("val", trainer)
        if not trainer.sanity_checking:
            log(trainer, told)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, *_: Any
    ) -> None:
        self.see("test", pl_module, batch)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        log(trainer, self.tell("test", trainer))


def due(trainer: Trainer, step: int) -> bool:
    """Whether the optimizer step of this number, counted from 1, is one that is logged."""
    every = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return every > 0 and step % every == 0


def log(trainer: Trainer, values: dict[str, float], before: int = 1) -> None:
    """Give numbers to the run's loggers, where it has any, under the number Lightning gives the step's loss.

    They go there directly: a test would print every number that goes through the module, and checkpoints see none.
    """
    for logger in trainer.loggers if values else ():
        logger.log_metrics(values, step=max(trainer.global_step - before, 0))


def devices(module: LightningModule) -> list[int]:
    """The GPUs whose generators a module's computations may draw from."""
    return [module.device.index or 0] if module.device.type == "cuda" else []


def gathered(trainer: Trainer, own: Any) -> list[Any]:
    """What each process has; all of them have to ask."""
    parts = [own]
    if trainer.world_size > 1:
        parts *= trainer.world_size
        torch.distributed.all_gather_object(parts, own)
    return parts


def added(parts: list[dict[str, list[float]]]) -> dict[str, list[float]]:
    """The sums of lists of numbers, name by name; a name may be missing somewhere, and a list be shorter."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {n: [sum(s) for s in zip_longest(*(part.get(n, []) for part in parts), fillvalue=0.0)] for n in names}
