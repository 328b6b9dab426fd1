"""Which rows each process reads: one order of them all, whoever computes them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache

import torch
from torch.utils.data import Dataset, Sampler

from dynfocus.errors import ConfigError
from dynfocus.processor import Example

Share = tuple[int, int]  # which process this is, of how many


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


class ResumableOrder(Sampler[int]):
    """This process's rows in a random order of each epoch, keyed by (seed, epoch), from the step on that is next.

    What an optimizer step learns from hangs on its number alone: the next ``batch_size * accumulate * processes`` rows
    of the epoch's order, however these are shared. Rows that do not fill an epoch's last step are left out.

    Args:
        size: rows of the data set.
        batch_size: rows in a batch of one process.
        seed: keys the orders.
        learned: says how many optimizer steps the run has taken so far, asked when an epoch begins.
        accumulate: batches of one process in an optimizer step.
        share: which process this is, of how many.

    Raises:
        ConfigError: if the data set is smaller than one step.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        seed: int,
        learned: Callable[[], int],
        accumulate: int = 1,
        share: Share = (0, 1),
    ) -> None:
        self.size, self.batch_size, self.seed, self.learned = size, batch_size, seed, learned
        self.accumulate, (self.rank, self.processes) = accumulate, share
        self.together = batch_size * accumulate * self.processes
        if size < self.together:
            raise ConfigError(
                f"{size} training rows for steps of {self.together}: {self.processes} x {accumulate} batches of "
                f"{batch_size}",
                "at least the rows of one optimizer step",
                f"Lower data.init_args.batch_size, data.init_args.global_batch, trainer.accumulate_grad_batches or the "
                f"number of devices, so that their step is at most {size}.",
            )

    @property
    def steps(self) -> int:
        """Optimizer steps in an epoch."""
        return self.size // self.together

    def __len__(self) -> int:
        return self.steps * self.accumulate * self.batch_size

    def rows(self, step: int) -> list[int]:
        """This process's rows of one optimizer step, counted from the run's first."""
        epoch, step = divmod(step, self.steps)
        rows = _order(self.size, self.seed, epoch)[step * self.together : (step + 1) * self.together]
        batches = rows.unflatten(0, (self.accumulate, self.processes, self.batch_size))
        return batches[:, self.rank].flatten().tolist()

    def __iter__(self) -> Iterator[int]:
        done = self.learned()
        for step in range(done, done + self.steps):
            yield from self.rows(step)


@lru_cache(maxsize=2)
def _order(size: int, seed: int, epoch: int) -> torch.Tensor:
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))


class Shared(Dataset):
    """Every n-th row of a data set from this process's own on, equally many in each of n processes.

    Where they do not come out even, rows are repeated as extra ones, which are counted nowhere.
    """

    def __init__(self, data: Dataset, share: Share) -> None:
        self.data, (self.rank, self.processes) = data, share
        self.rows = len(data)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return -(-self.rows // self.processes)

    def __getitem__(self, index: int) -> Example:
        row = self.rank + index * self.processes
        return replace(self.data[row % self.rows], extra=row >= self.rows)
