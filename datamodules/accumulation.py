"""How many batches an optimizer step learns from."""

from lightning import Trainer

from datamodules.order import accumulation
from dynfocus.errors import ConfigError


def accumulate_to(global_batch: int | None, trainer: Trainer | None, batch_size: int) -> None:
    """Let the trainer accumulate batches up to the global batch, where one is asked for.

    Raises:
        ConfigError: if it does not come out even, or the trainer was told another number.
    """
    if trainer is None or global_batch is None:
        return
    batches = accumulation(global_batch, batch_size, trainer.world_size)
    if (told := trainer.accumulate_grad_batches) not in (1, batches):
        raise ConfigError(
            f"trainer.accumulate_grad_batches = {told} beside global_batch = {global_batch}, which takes {batches}",
            "one of the two",
            "Leave trainer.accumulate_grad_batches out, or set data.init_args.global_batch to null.",
        )
    trainer.accumulate_grad_batches = batches
