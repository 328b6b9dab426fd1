"""Sample which rows each process reads, from one order that does not depend on the number of processes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from torch.utils.data import Dataset, Sampler

from datamodules.epoch_order import EpochOrder, Numbers
from datamodules.grouping import arrange, batches_of_rank, largest_step
from dynfocus.errors import ConfigError
from dynfocus.models.collate import Example

Share = tuple[int, int]  # which process this is, of how many


class ResumableBatchSampler(Sampler[list[int]]):
    """This process's batches of an epoch, as lists of row numbers, from the step on that is next.

    The rows of an optimizer step depend on its number alone: the next ``batch_size * accumulate * processes`` rows
    of the epoch's order, however these are shared. Rows that do not fill an epoch's last step are left out. With costs
    and kinds, a step's rows are arranged into batches of one kind that cost alike, of unlike numbers of rows; as a
    step's loss is a sum over all its targets, it learns the same.

    Args:
        epoch_order: the rows of each epoch.
        batch_size: rows in a batch of one process, on average where they are arranged.
        completed_steps: returns how many optimizer steps the run has taken so far; called when an epoch begins.
        accumulate: batches of one process in an optimizer step.
        share: which process this is, of how many.
        costs: tokens of each row of all data sets, where they are known.
        kinds: 0 text, 1 image, 2 video, for each row; given, batches are arranged.

    Raises:
        ConfigError: if an epoch is smaller than one step, or a row that is read has no known cost.
    """

    def __init__(
        self,
        epoch_order: EpochOrder,
        batch_size: int,
        completed_steps: Callable[[], int],
        accumulate: int = 1,
        share: Share = (0, 1),
        costs: Numbers | None = None,
        kinds: Numbers | None = None,
    ) -> None:
        self.epoch_order, self.batch_size, self.completed_steps = epoch_order, batch_size, completed_steps
        self.accumulate, self.share, self.costs, self.kinds = accumulate, share, costs, kinds
        self.batches_per_step = accumulate * share[1]  # batches in a step, of all processes
        self.rows_per_step = batch_size * self.batches_per_step
        if len(epoch_order) < self.rows_per_step:
            raise ConfigError(
                f"{len(epoch_order)} training rows for steps of {self.rows_per_step}: "
                f"{share[1]} x {accumulate} batches of {batch_size}",
                "at least the rows of one optimizer step",
                f"Lower data.init_args.batch_size, data.init_args.global_batch, trainer.accumulate_grad_batches or the "
                f"number of devices, so that their step is at most {len(epoch_order)}.",
            )
        if costs is not None and len(unknown := (used_rows := epoch_order.used_rows)[costs[used_rows] < 0]):
            name, row = epoch_order.find(int(unknown[0]))
            raise ConfigError(
                f"{len(unknown)} training rows whose cost is not known, such as row {row} of {name!r}",
                "the tokens of every row, to group batches by them",
                "Let `dynfocus doctor` look at every row, or set data.init_args.group to false.",
            )

    @property
    def steps(self) -> int:
        """Optimizer steps in an epoch."""
        return len(self.epoch_order) // self.rows_per_step

    def __len__(self) -> int:
        return self.steps * self.accumulate

    def batches(self, step: int) -> list[list[int]]:
        """Return this process's batches of one optimizer step, counted from the run's first."""
        epoch, step = divmod(step, self.steps)
        rows = self.epoch_order.rows(epoch)[step * self.rows_per_step : (step + 1) * self.rows_per_step]
        if self.costs is None or self.kinds is None:
            return rows.reshape(self.accumulate, self.share[1], self.batch_size)[:, self.share[0]].tolist()
        arranged = arrange(self.costs[rows], self.kinds[rows], self.batches_per_step)
        return [rows[arranged[n]].tolist() for n in batches_of_rank(self.batches_per_step, self.share)]

    def __iter__(self) -> Iterator[list[int]]:
        first = self.completed_steps()
        for step in range(first, first + self.steps):
            yield from self.batches(step)

    def most_expensive(self) -> list[int] | None:
        """Return the rows of the batch that costs most in the next epoch, whichever process computes it.

        It is the same for every process, so that all can try it together; None where costs are not known.
        """
        if self.costs is None:
            return None
        rows = self.epoch_order.rows(self.completed_steps() // self.steps)[: self.steps * self.rows_per_step]
        if self.kinds is None:
            alike = rows.reshape(-1, self.batch_size)
            return alike[self.costs[alike].max(1).argmax()].tolist()
        rows = rows.reshape(self.steps, self.rows_per_step)
        step = rows[largest_step(self.costs[rows], self.kinds[rows], self.batches_per_step)]
        return step[arrange(self.costs[step], self.kinds[step], self.batches_per_step)[0]].tolist()


class RankDataset(Dataset):
    """Every n-th row of a data set from this process's own on, equally many in each of n processes.

    Where they do not come out even, rows are repeated as padding, which counts in no result.
    """

    def __init__(self, data: Any, share: Share) -> None:
        self.data, (self.rank, self.processes) = data, share
        self.rows = len(data)

    def __len__(self) -> int:
        return -(-self.rows // self.processes)

    def __getitem__(self, index: int) -> Example:
        row = self.rank + index * self.processes
        return replace(self.data[row % self.rows], is_padding=row >= self.rows)

    def lose(self, index: int) -> Example:
        """Return what stands for a row whose reading crashes a process."""
        row = self.rank + index * self.processes
        return replace(self.data.lose(row % self.rows), is_padding=row >= self.rows)
