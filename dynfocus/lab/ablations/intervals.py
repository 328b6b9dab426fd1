"""Compare rows on the seeds and questions that both have, and compute how far an order agrees with another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import nan, sqrt

import numpy as np
from numpy.typing import NDArray

from dynfocus.evals.scores import Column
from dynfocus.lab.estimates import (
    Estimate,
    Samples,
    compute_p,
    compute_smallest_difference,
    estimate,
    estimate_difference,
    list_clusters,
)

Interval = tuple[float, float]
UNKNOWN: Interval = (nan, nan)


@dataclass(frozen=True)
class Measure:
    """One number of a row: of each seed's run the column that it is the mean of."""

    by_seed: Mapping[int, Column]

    @cached_property
    def estimate(self) -> Estimate:
        """The number with its samples, over videos and seeds."""
        return estimate(self.choose(sorted(self.by_seed)))

    @property
    def value(self) -> float:
        """The mean over all answers of all seeds, part by part."""
        return self.estimate.value

    @property
    def interval(self) -> Interval:
        """The 95 % interval; NaN where it is unknown."""
        return self.estimate.interval or UNKNOWN

    def choose(self, seeds: Sequence[int]) -> list[Column]:
        """The columns of some seeds."""
        return [self.by_seed[seed] for seed in seeds]


@dataclass(frozen=True)
class Difference:
    """What one row has more than another, on the seeds and questions of both.

    Attributes:
        value, interval: the difference.
        p: that it is 0; None of fewer than ten videos.
        smallest: the smallest true difference that these videos and seeds show with 80 % power; None where that is not
            known.
    """

    value: float
    interval: Interval
    p: float | None = None
    smallest: float | None = None

    @property
    def is_resolved(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.interval[0] > 0 or self.interval[1] < 0


def compare(a: Measure, b: Measure) -> Difference | None:
    """Compare two rows by a paired bootstrap over videos and seeds; None where they share no seed."""
    seeds = sorted(a.by_seed.keys() & b.by_seed.keys())
    if not seeds:
        return None
    difference = estimate_difference(a.choose(seeds), b.choose(seeds))
    about = compute_p(difference), compute_smallest_difference(difference)
    return Difference(difference.value, difference.interval or UNKNOWN, *about)


def compute_agreement(measures: Sequence[Measure]) -> tuple[float, Interval] | None:
    """Compute Kendall's tau between the order in which rows stand, from the best, and that of their numbers.

    Returns:
        tau and its 95 % interval, by the same draws for all rows; None where the rows share no seed.
    """
    seeds = sorted(set.intersection(*({*one.by_seed} for one in measures)))
    if len(measures) < 2 or not seeds:
        return None
    rows = [one.choose(seeds) for one in measures]
    clusters = list_clusters([column for row in rows for column in row])
    estimates = [estimate(row, clusters) for row in rows]
    places = -np.arange(len(measures), dtype=np.float64)
    taus = np.array([compute_kendall_tau(places, draw) for draw in np.stack([one.samples for one in estimates]).T])
    tau = compute_kendall_tau(places, np.array([one.value for one in estimates]))
    return tau, Estimate(tau, taus, len(measures), len(clusters)).interval or UNKNOWN


def compute_kendall_tau(a: Samples, b: Samples) -> float:
    """Compute Kendall's tau-b, which counts a tie on one side neither for nor against; NaN where one side is constant.

    Source: M. G. Kendall, The treatment of ties in ranking problems, Biometrika 33, 1945.
    """
    upper = np.triu_indices(len(a), 1)
    signs: list[NDArray[np.float64]] = [np.sign(np.subtract.outer(one, one)[upper].round(12)) for one in (a, b)]
    untied = sqrt(float((signs[0] != 0).sum()) * float((signs[1] != 0).sum()))
    return float((signs[0] * signs[1]).sum()) / untied if untied else nan
