"""Set how many batches an optimizer step learns from."""

from lightning import Trainer

from dynfocus.errors import ConfigError


def accumulate_to(global_batch: int | None, trainer: Trainer | None, batch_size: int) -> None:
    """Let the trainer accumulate batches up to the global batch, where one is set.

    Raises:
        ConfigError: if it is no whole number of batches, or the trainer has another number set, or none.
    """
    if trainer is not None and trainer.accumulate_grad_batches < 1:
        given = f"trainer.accumulate_grad_batches = {trainer.accumulate_grad_batches}"
        raise ConfigError(given, "at least 1", "Raise it, or leave it out.")
    if trainer is None or global_batch is None:
        return
    batches = count_accumulated(global_batch, batch_size, trainer.world_size)
    if (current := trainer.accumulate_grad_batches) not in (1, batches):
        raise ConfigError(
            f"trainer.accumulate_grad_batches = {current} beside global_batch = {global_batch}, which takes {batches}",
            "one of the two",
            "Leave trainer.accumulate_grad_batches out, or set data.init_args.global_batch to null.",
        )
    trainer.accumulate_grad_batches = batches


def count_accumulated(global_batch: int, batch_size: int, processes: int) -> int:
    """Count the batches that each process accumulates, so that an optimizer step learns from ``global_batch`` rows.

    >>> accumulation(128, 8, 4)
    4

    Raises:
        ConfigError: if it is no whole number; it names settings that give one.
    """
    if min(global_batch, batch_size) > 0 and global_batch % (batch_size * processes) == 0:
        return global_batch // (batch_size * processes)
    rows_each, remainder = divmod(global_batch, processes)
    if remainder or rows_each < 1:
        nearest = max(1, round(rows_each / max(1, batch_size))) * max(1, batch_size) * processes
        hint = (
            f"Set data.init_args.global_batch to a multiple of {processes}, such as {nearest}, or run on a number of "
            f"processes that divides {global_batch}: {_list_divisors(global_batch)}."
        )
    else:
        hint = f"Set data.init_args.batch_size to one of {_list_divisors(rows_each)}."
    raise ConfigError(
        f"global_batch = {global_batch} with batch_size = {batch_size} and {processes} at a time (devices x nodes)",
        "a global batch that is a whole number of batches of every process",
        hint,
    )


def _list_divisors(number: int) -> str:
    return ", ".join(str(divisor) for divisor in range(1, number + 1) if number % divisor == 0) or "none"
