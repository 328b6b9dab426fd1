"""Order the rows of several data sets in each epoch, from a seed and the epoch's number alone."""

from bisect import bisect
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from math import isfinite
from zlib import crc32

import numpy as np
import torch
from jaxtyping import Integer

from dynfocus.errors import ConfigError, DataError

Numbers = Integer[np.ndarray, " _"]


class EpochOrder:
    """The rows of several data sets, numbered one after the other, each set as often in an epoch as its weight says.

    An epoch holds ``round(weight * rows)`` of every set. They are the next ones of an endless stream of passes over the
    set, each pass in an order of its own, so that all rows are read equally often up to one: with weight 0.5, two
    epochs read every row once. The order over all sets is one permutation. Nothing is computed row by row.

    Args:
        sizes: rows of each data set, by its name; their order numbers the rows.
        weights: how often an epoch reads each row of a set, 1 where none is given, 0 for never.
        seed: keys all orders.
        left_out: numbers, within their set, of rows that are never read, as a quarantine holds them.

    Attributes:
        starts: the number of each set's first row.
        counts: rows of each set in an epoch.

    Raises:
        ConfigError: if a weight is of no set, is negative or not finite, or is too small for a single row.
        DataError: if a row to leave out is not in its set, or none of a set's rows would be left.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        weights: Mapping[str, float] | None = None,
        seed: int = 0,
        left_out: Mapping[str, Numbers] | None = None,
    ) -> None:
        self.seed, weights, left_out = seed, weights or {}, left_out or {}
        for values, what in ((weights, "a weight"), (left_out, "a quarantine")):
            if unknown := sorted(values.keys() - sizes.keys()):
                raise ConfigError(
                    f"{what} of the data set {unknown[0]!r}",
                    f"one of {', '.join(sizes)}",
                    "Correct data.init_args.weights, or name the set among the sources.",
                )
        ends = np.cumsum([0, *sizes.values()]).tolist()
        self.starts = dict(zip(sizes, ends[:-1], strict=True))
        self.size = ends[-1]
        self.rows_of_set: dict[str, Numbers] = {}
        self.counts: dict[str, int] = {}
        for name, size in sizes.items():
            weight = weights.get(name, 1.0)
            rows = _remaining_rows(name, size, left_out.get(name, np.empty(0, np.int64)))
            self.counts[name] = _count(name, len(rows), weight)
            if self.counts[name]:
                self.rows_of_set[name] = rows + self.starts[name]
        # Two epochs: after a resume, the steps of both may be needed.
        self._cached_shuffle = lru_cache(maxsize=2)(self._shuffle)

    def __len__(self) -> int:
        """Rows of an epoch."""
        return sum(self.counts.values())

    @property
    def used_rows(self) -> Numbers:
        """The numbers of all rows that some epoch reads."""
        return np.concatenate([np.empty(0, np.int64), *self.rows_of_set.values()])

    @property
    def stamp(self) -> str:
        """A digest that changes when any epoch holds other rows, or in another order."""
        fields = [self.seed, list(self.counts.items()), sha256(self.used_rows.astype(np.int64).tobytes()).hexdigest()]
        return sha256(repr(fields).encode()).hexdigest()

    def find(self, row: int) -> tuple[str, int]:
        """Find the data set of a row, and its number there."""
        name = list(self.starts)[bisect(list(self.starts.values()), row) - 1]
        return name, row - self.starts[name]

    def rows(self, epoch: int) -> Numbers:
        """Return the numbers of an epoch's rows, in its order; not to be written to."""
        return self._cached_shuffle(epoch)

    def _shuffle(self, epoch: int) -> Numbers:
        rows = np.concatenate([np.empty(0, np.int64), *(self._take_part(name, epoch) for name in self.rows_of_set)])
        key = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        return rows[torch.randperm(len(rows), generator=key).numpy()]

    def _take_part(self, name: str, epoch: int) -> Numbers:
        """Take this epoch's part of a set's endless stream."""
        rows, count = self.rows_of_set[name], self.counts[name]
        first, last, parts = epoch * count, (epoch + 1) * count, []
        while first < last:
            pass_, start = divmod(first, len(rows))
            end = min(len(rows), start + last - first)
            if end - start == len(rows):
                parts.append(rows)  # a whole pass needs no order: the epoch's own follows
            else:
                key = np.random.default_rng((self.seed, crc32(name.encode()), pass_))
                parts.append(rows[key.permutation(len(rows))[start:end]])
            first += end - start
        return np.concatenate(parts)


def _remaining_rows(name: str, size: int, left_out: Numbers) -> Numbers:
    if len(left_out) and not 0 <= left_out.min() <= left_out.max() < size:
        number = left_out.max() if left_out.min() >= 0 else left_out.min()
        raise DataError(
            f"row {number} of the data set {name!r} in a quarantine, where the set has {size} rows",
            "a quarantine of the files as they are now",
            "Check the set anew with `dynfocus doctor`, or delete its quarantine.",
        )
    return np.delete(np.arange(size), left_out)


def _count(name: str, rows: int, weight: float) -> int:
    if not (isfinite(weight) and weight >= 0):
        raise ConfigError(
            f"the weight {weight} of the data set {name!r}",
            "how often an epoch reads each of its rows: 0 or more",
            f"Correct data.init_args.weights.{name}.",
        )
    if weight and not rows:
        raise DataError(
            f"the data set {name!r}, of which no row is left",
            "a row that can be read",
            f"See its quarantine for what is wrong with them, or set data.init_args.weights.{name} to 0.",
        )
    count = round(weight * rows)
    if weight and not count:
        raise ConfigError(
            f"the weight {weight} of the data set {name!r} of {rows} rows, which gives an epoch none of them",
            "a weight that gives at least one row, or 0",
            f"Set data.init_args.weights.{name} to {1 / rows:.2g} or more, or to 0.",
        )
    return count
