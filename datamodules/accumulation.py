"""How many batches an optimizer step learns from."""

from lightning import Trainer

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


def accumulation(global_batch: int, batch_size: int, processes: int) -> int:
    """Batches that each process adds up, so that an optimizer step learns from ``global_batch`` rows.

    >>> accumulation(128, 8, 4)
    4

    Raises:
        ConfigError: if it does not come out even; it names what would.
    """
    if min(global_batch, batch_size) > 0 and global_batch % (batch_size * processes) == 0:
        return global_batch // (batch_size * processes)
    each, over = divmod(global_batch, processes)
    if over or each < 1:
        near = max(1, round(each / max(1, batch_size))) * max(1, batch_size) * processes
        do = (
            f"Set data.init_args.global_batch to a multiple of {processes}, such as {near}, or run on a number of "
            f"processes that divides {global_batch}: {_listed(global_batch)}."
        )
    else:
        do = f"Set data.init_args.batch_size to one of {_listed(each)}."
    raise ConfigError(
        f"global_batch = {global_batch} with batch_size = {batch_size} and {processes} at a time (devices x nodes)",
        "a global batch that is a whole number of batches of every process",
        do,
    )


def _listed(number: int) -> str:
    return ", ".join(str(divisor) for divisor in range(1, number + 1) if number % divisor == 0) or "none"
