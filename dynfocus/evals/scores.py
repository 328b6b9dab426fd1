"""Compute the numbers of a table with their intervals, and compare two sets of answers (no torch)."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import comb, nan
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from dynfocus.evals.protocol import Mean, Value

DRAWS = 1000
NORMAL = NormalDist()
LEVEL, POWER = 0.05, 0.8  # of two-sided tests
FEWEST = 10  # videos: the error of fewer is itself too uncertain for a test
ROUNDING = 1e-12  # below it an error is that of adding floating-point numbers

Sums = Mapping[str, tuple[float, int]]


@dataclass(frozen=True)
class Column:
    """One number of a table: the unweighted mean of its parts, each of which is a mean over answers.

    A pooled number has one part. Questions about one video are not independent, so sums are kept for each cluster,
    which is a video unless the benchmark says otherwise: intervals draw whole clusters.

    Attributes:
        name: the column's heading.
        parts: of each part, the sum and the number of its values in each cluster.
        scale: what the number is multiplied by: 100 for a percentage.
    """

    name: str
    parts: tuple[Sums, ...]
    scale: float = 1.0

    @property
    def n(self) -> int:
        """Values in all parts."""
        return sum(count for sums in self.parts for _, count in sums.values())

    @property
    def value(self) -> float:
        """The number itself."""
        return self.scale * float(np.mean([_mean(sums.values()) for sums in self.parts]))

    def interval(self, draws: int = DRAWS) -> tuple[float, float]:
        """Compute the 95 % bootstrap interval, drawing whole clusters."""
        return _percentiles(self._samples(self._clusters(), draws))

    def _clusters(self) -> list[str]:
        return sorted({cluster for sums in self.parts for cluster in sums})

    def _samples(self, clusters: list[str], draws: int) -> NDArray[np.float64]:
        """The number in each of ``draws`` samples of the clusters; the same draws for the same number of clusters."""
        drawn = np.random.default_rng(0).integers(0, len(clusters), (draws, len(clusters))) if clusters else None
        if drawn is None:
            return np.full(draws, nan)
        means = []
        for sums in self.parts:
            totals = np.array([sums.get(cluster, (0.0, 0)) for cluster in clusters], dtype=np.float64)
            picked = totals[drawn].sum(1)
            with np.errstate(invalid="ignore"):  # a sample may hold no value of a part
                means.append(picked[:, 0] / picked[:, 1])
        return self.scale * np.mean(means, axis=0)


def make_columns(values: Iterable[Value], means: Mapping[str, Mean]) -> list[Column]:
    """Make the columns of a table from values; one is left out where any of its parts has no value."""
    sums: dict[str, dict[str, tuple[float, int]]] = defaultdict(lambda: defaultdict(lambda: (0.0, 0)))
    for one in values:
        total, count = sums[one.key][one.cluster]
        sums[one.key][one.cluster] = total + one.value, count + 1
    columns = [
        Column(name, tuple(_pool(sums, part) for part in mean.parts), mean.scale) for name, mean in means.items()
    ]
    return [column for column in columns if all(column.parts)]


def compute_difference_interval(a: Column, b: Column, draws: int = DRAWS) -> tuple[float, float]:
    """Compute the 95 % interval of a minus b on the same questions: both are drawn with the same clusters."""
    clusters = sorted({*a._clusters(), *b._clusters()})
    return _percentiles(a._samples(clusters, draws) - b._samples(clusters, draws))


def compute_detectable(error: float, clusters: int) -> float | None:
    """Compute the smallest true difference that a test of the 5 % level finds with 80 % power.

    Args:
        error: the standard error of the difference.
        clusters: what was drawn, such as videos.

    Returns:
        None of fewer than ten clusters, whose error is too uncertain itself, and where the two never differed: then
        nothing is known about how much they vary.

    Source: the minimum detectable effect, (z_0.975 + z_0.8) standard errors (Bloom 1995).
    """
    if clusters < FEWEST or error < ROUNDING:
        return None
    return (NORMAL.inv_cdf(1 - LEVEL / 2) + NORMAL.inv_cdf(POWER)) * error


def compute_detectable_difference(a: Column, b: Column, draws: int = DRAWS) -> float | None:
    """Compute the smallest true a minus b that these clusters show with 80 % power; None as `compute_detectable`."""
    clusters = sorted({*a._clusters(), *b._clusters()})
    samples = a._samples(clusters, draws) - b._samples(clusters, draws)
    known = np.isfinite(samples)
    return compute_detectable(float(np.std(samples[known])) if known.any() else 0.0, len(clusters))


def compute_mcnemar(a: Sequence[bool], b: Sequence[bool]) -> float:
    """Compute the two-sided p-value of McNemar's exact test that two sets of answers are right equally often.

    Args:
        a, b: whether each answer to the same questions is right, in the same order.
    """
    wins = sum(x and not y for x, y in zip(a, b, strict=True))
    losses = sum(y and not x for x, y in zip(a, b, strict=True))
    n = wins + losses
    tail = sum(comb(n, k) for k in range(min(wins, losses) + 1)) / 2**n
    return min(1.0, 2 * tail)


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values of several tests with Holm's method, which keeps the chance of any false finding."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, highest = [1.0] * len(p_values), 0.0
    for rank, n in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[n]))
        adjusted[n] = highest
    return adjusted


def _pool(sums: Mapping[str, Sums], keys: Iterable[str]) -> Sums:
    pooled: dict[str, tuple[float, int]] = {}
    for cluster, (total, count) in (one for key in keys for one in sums.get(key, {}).items()):
        before = pooled.get(cluster, (0.0, 0))
        pooled[cluster] = before[0] + total, before[1] + count
    return pooled


def _mean(sums: Iterable[tuple[float, int]]) -> float:
    pairs = list(sums)
    count = sum(n for _, n in pairs)
    return sum(total for total, _ in pairs) / count if count else nan


def _percentiles(samples: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.nanpercentile(samples, (2.5, 97.5)) if np.isfinite(samples).any() else (nan, nan)
    return float(low), float(high)
