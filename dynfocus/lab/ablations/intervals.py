"""Compute intervals over questions, clustered by video, and over seeds; and how far an order agrees with another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
from numpy.typing import NDArray

from dynfocus.evals.scores import Column

DRAWS = 1000
Samples = NDArray[np.float64]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Measure:
    """One number of a row: of each seed's run the column that it is the mean of."""

    by_seed: Mapping[int, Column]

    @property
    def value(self) -> float:
        """The mean over all answers of all seeds, part by part."""
        seeds = sorted(self.by_seed)
        return float(self.draw(seeds, sorted(self.clusters), draws=0)[0])

    @property
    def clusters(self) -> set[str]:
        """The videos that questions are about."""
        return {cluster for column in self.by_seed.values() for sums in column.parts for cluster in sums}

    def interval(self) -> Interval:
        """Compute the 95 % interval, with the videos and the seeds drawn anew."""
        return find_percentiles(self.draw(sorted(self.by_seed), sorted(self.clusters))[1:])

    def draw(self, seeds: Sequence[int], clusters: Sequence[str], draws: int = DRAWS) -> Samples:
        """Compute the number itself and then in each of some samples: whole videos are drawn, and whole seeds.

        Every seed answers the same questions, so that one draw takes the same videos of each of its seeds. The same
        seeds and clusters are drawn for every row, which pairs the samples of two rows.

        Returns:
            one number and those of the samples, [1 + draws].
        """
        rng = np.random.default_rng(0)
        videos = np.vstack([np.ones(len(clusters)), _count_draws(rng, len(clusters), draws)])
        repeats = np.vstack([np.ones(len(seeds)), _count_draws(rng, len(seeds), draws)])
        means = []
        for part in range(len(self.by_seed[seeds[0]].parts)):
            sums = [[self.by_seed[seed].parts[part].get(cluster, (0.0, 0)) for cluster in clusters] for seed in seeds]
            totals = np.einsum("ds,sck,dc->dk", repeats, np.array(sums, np.float64), videos, optimize=True)
            with np.errstate(invalid="ignore"):  # a sample may hold no value of a part
                means.append(totals[:, 0] / totals[:, 1])
        return np.asarray(self.by_seed[seeds[0]].scale * np.mean(means, axis=0), np.float64)


@dataclass(frozen=True)
class Difference:
    """What one row has more than another, on the seeds and questions of both."""

    value: float
    interval: Interval

    @property
    def is_resolved(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.interval[0] > 0 or self.interval[1] < 0


def compare(a: Measure, b: Measure) -> Difference | None:
    """Compare two rows by a paired bootstrap over videos and seeds; None where they share no seed."""
    seeds = sorted(a.by_seed.keys() & b.by_seed.keys())
    if not seeds:
        return None
    clusters = sorted(a.clusters | b.clusters)
    samples = a.draw(seeds, clusters) - b.draw(seeds, clusters)
    return Difference(float(samples[0]), find_percentiles(samples[1:]))


def compute_agreement(measures: Sequence[Measure]) -> tuple[float, Interval] | None:
    """Compute Kendall's tau between the order in which rows stand, from the best, and that of their numbers.

    Returns:
        tau and its 95 % interval, by the same draws for all rows; None where the rows share no seed.
    """
    seeds = sorted(set.intersection(*({*one.by_seed} for one in measures)))
    if len(measures) < 2 or not seeds:
        return None
    clusters = sorted(set().union(*(one.clusters for one in measures)))
    samples = np.stack([one.draw(seeds, clusters) for one in measures])
    places = -np.arange(len(measures), dtype=np.float64)
    taus = np.array([compute_kendall_tau(places, column) for column in samples.T])
    return float(taus[0]), find_percentiles(taus[1:])


def compute_kendall_tau(a: Samples, b: Samples) -> float:
    """Compute Kendall's tau-b, which counts a tie on one side neither for nor against; NaN where one side is constant.

    Source: M. G. Kendall, The treatment of ties in ranking problems, Biometrika 33, 1945.
    """
    upper = np.triu_indices(len(a), 1)
    x, y = (np.sign(one[:, None] - one[None, :])[upper] for one in (a, b))
    untied = sqrt(float((x != 0).sum()) * float((y != 0).sum()))
    return float((x * y).sum()) / untied if untied else nan


def find_percentiles(samples: Samples) -> Interval:
    """Find the 95 % interval of samples; NaN where no sample is a number."""
    low, high = np.nanpercentile(samples, (2.5, 97.5)) if np.isfinite(samples).any() else (nan, nan)
    return float(low), float(high)


def _count_draws(rng: np.random.Generator, size: int, draws: int) -> Samples:
    """How often each of some things is drawn, with replacement, as often as there are things, [draws, size]."""
    return rng.multinomial(size, np.full(size, 1 / size), draws).astype(np.float64)
