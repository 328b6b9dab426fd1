"""Estimate means over videos and seeds with their intervals, differences of two with p-values, and their power.

The questions of one video are not independent, and neither are the runs of one seed: a sample draws whole videos, and
whole runs where there are several.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import erfc, sqrt

import numpy as np
from numpy.typing import NDArray

from dynfocus.evals.scores import DRAWS, FEWEST, LEVEL, ROUNDING, Column, compute_detectable

Samples = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number with its samples, from which intervals of it and of differences follow.

    Attributes:
        value: the number itself, over all videos and seeds.
        samples: the number in each bootstrap sample; NaN where a sample holds no value.
        n: values behind it, of all seeds.
        videos: clusters behind it.
    """

    value: float
    samples: Samples
    n: int
    videos: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % percentile interval; None of a single video, which says nothing about others."""
        if self.videos < 2 or not np.isfinite(self.samples).any():
            return None
        low, high = np.nanpercentile(self.samples, (100 * LEVEL / 2, 100 - 100 * LEVEL / 2))
        return float(low), float(high)

    @property
    def error(self) -> float:
        """The standard error: the standard deviation of the samples."""
        return float(np.nanstd(self.samples)) if np.isfinite(self.samples).any() else float("inf")


def list_clusters(columns: Sequence[Column]) -> list[str]:
    """List the clusters of columns in their order."""
    return sorted({cluster for column in columns for sums in column.parts for cluster in sums})


def estimate(columns: Sequence[Column], clusters: Sequence[str] | None = None, draws: int = DRAWS) -> Estimate:
    """Estimate one number from one column a seed, drawing videos and, independently of them, seeds.

    Of S > 1 seeds S - 1 are drawn, so that the variance between seeds is not underestimated: S draws would give
    (S - 1) / S of it. Of one seed the interval is that of `dynfocus.evals.scores.Column`.

    Args:
        columns: the same column of each seed.
        clusters: what is drawn from, if not the columns' own clusters: two estimates of the same clusters and number
            of seeds have the same draws.
        draws: how many samples.

    Source: the pigeonhole bootstrap (Owen 2007); n - 1 draws: Rao and Wu 1988.
    """
    names = list(list_clusters(columns) if clusters is None else clusters)
    scale, parts = columns[0].scale, range(len(columns[0].parts))
    drawn = np.random.default_rng(0).integers(0, len(names), (draws, len(names)))
    seeds = np.random.default_rng(1).integers(0, len(columns), (draws, max(1, len(columns) - 1)))
    weights = np.stack([np.bincount(row, minlength=len(names)) for row in drawn])
    shares = np.stack([np.bincount(row, minlength=len(columns)) for row in seeds])
    sampled, values = [], []
    for part in parts:
        totals = np.array([[column.parts[part].get(name, (0.0, 0)) for name in names] for column in columns])
        summed = np.einsum("ds,dv,svk->dk", shares, weights, totals, optimize=True)
        with np.errstate(invalid="ignore"):  # a sample may hold no value of a part
            sampled.append(summed[:, 0] / summed[:, 1])
        values.append(totals[..., 0].sum() / totals[..., 1].sum())
    n, own = sum(column.n for column in columns), len(list_clusters(columns))
    return Estimate(scale * float(np.mean(values)), scale * np.mean(sampled, axis=0), n, own)


def estimate_difference(a: Sequence[Column], b: Sequence[Column], draws: int = DRAWS) -> Estimate:
    """Estimate a minus b on the same draws of videos, and of seeds where both have equally many.

    Source: the paired bootstrap (Efron and Tibshirani 1993, ch. 8) over clusters.
    """
    clusters = sorted({*list_clusters(a), *list_clusters(b)})
    first, second = estimate(a, clusters, draws), estimate(b, clusters, draws)
    shared = len({*list_clusters(a)} & {*list_clusters(b)})
    return Estimate(first.value - second.value, first.samples - second.samples, min(first.n, second.n), shared)


def measure_area(places: Sequence[float], estimates: Sequence[Estimate]) -> Estimate:
    """Measure the area under a curve through points, divided by its width: the mean height, by the trapezoid rule.

    Args:
        places: of the points on the axis, ascending, at least two.
        estimates: the height of each, of the same clusters and number of seeds.
    """
    steps = np.diff(np.asarray(places, dtype=float)) / (places[-1] - places[0])
    weights = (np.append(steps, 0) + np.insert(steps, 0, 0)) / 2
    value = float(weights @ [one.value for one in estimates])
    samples = weights @ np.stack([one.samples for one in estimates])
    return Estimate(value, samples, sum(one.n for one in estimates), min(one.videos for one in estimates))


def compute_p(difference: Estimate) -> float | None:
    """Compute the two-sided p-value that a difference is 0, by its bootstrap error; None of fewer than ten videos.

    Source: the Wald test with a bootstrap standard error (Efron and Tibshirani 1993, ch. 12).
    """
    if difference.videos < FEWEST:
        return None
    if difference.error < ROUNDING:  # the two differ alike in every sample
        return 1.0 if abs(difference.value) < 1e-12 else 0.0
    return erfc(abs(difference.value) / difference.error / sqrt(2))  # exact where it is tiny, unlike 1 - cdf


def compute_smallest_difference(difference: Estimate) -> float | None:
    """Compute the smallest true difference that these videos and seeds show with 80 % power at the 5 % level.

    None of fewer than ten videos, and where the two never differed: then nothing is known about how much they vary.
    """
    return compute_detectable(difference.error, difference.videos)
