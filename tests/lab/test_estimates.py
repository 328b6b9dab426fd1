"""Intervals over videos and seeds, differences, p-values and power, beside scipy's and beside repeated experiments."""

import numpy as np
import pytest
from scipy import integrate, stats

from dynfocus.evals.scores import Column, compute_difference_interval
from dynfocus.lab.estimates import (
    Estimate,
    compute_p,
    compute_smallest_difference,
    estimate,
    estimate_difference,
    measure_area,
)

VIDEOS = 60


def column(rng: np.random.Generator, mean: float = 0.5, spread: float = 0.2, videos: int = VIDEOS) -> Column:
    """A column whose videos have four values each, all alike: a video counts as one value."""
    values = rng.normal(mean, spread, videos)
    return Column("accuracy", ({f"v{n:03}": (4 * float(value), 4) for n, value in enumerate(values)},))


def means(one: Column) -> np.ndarray:
    return np.array([total / count for total, count in one.parts[0].values()])


def test_of_one_seed_the_intervals_are_those_of_the_tables() -> None:
    rng = np.random.default_rng(3)
    a, b = column(rng), column(rng, 0.4)
    assert estimate([a]).value == pytest.approx(a.value)
    assert estimate([a]).interval == pytest.approx(a.interval())
    assert estimate_difference([a], [b]).interval == pytest.approx(compute_difference_interval(a, b))
    assert (estimate([a]).n, estimate([a]).videos) == (4 * VIDEOS, VIDEOS)


def test_the_interval_over_videos_is_scipys_bootstrap() -> None:
    one = column(np.random.default_rng(4))
    reference = stats.bootstrap((means(one),), np.mean, n_resamples=4000, method="percentile", random_state=5)
    found = estimate([one], draws=4000)
    assert found.interval == pytest.approx(tuple(reference.confidence_interval), abs=0.006)
    assert found.error == pytest.approx(reference.standard_error, rel=0.06)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_error_between_seeds_is_that_of_their_mean(seeds: int) -> None:
    levels = np.random.default_rng(seeds).normal(0.5, 0.1, seeds)
    alike = [Column("a", ({f"v{n}": (float(level), 1) for n in range(VIDEOS)},)) for level in levels]
    assert estimate(alike, draws=8000).error == pytest.approx(stats.sem(levels), rel=0.05)


def test_seeds_make_an_interval_wider_than_one_pool_of_answers() -> None:
    rng = np.random.default_rng(6)
    three = [column(rng, mean) for mean in (0.4, 0.5, 0.6)]
    low, high = estimate(three).interval or (0, 0)
    pooled = Column("pool", ({v: (sum(c.parts[0][v][0] for c in three), 12) for v in three[0].parts[0]},))
    assert high - low > 2 * np.ptp(pooled.interval())
    assert estimate(three).value == pytest.approx(pooled.value)


def test_two_arms_that_answer_alike_differ_in_no_sample() -> None:
    rng = np.random.default_rng(7)
    a = [column(rng), column(rng)]
    same = estimate_difference(a, a)
    assert same.interval == (0, 0)
    assert (compute_p(same), compute_smallest_difference(same)) == (1.0, None)


def test_p_is_that_of_scipys_test_of_paired_means() -> None:
    rng = np.random.default_rng(8)
    a, b = column(rng, 0.5, videos=200), column(rng, 0.46, videos=200)
    reference = stats.ttest_rel(means(a), means(b)).pvalue
    assert 0.001 < reference < 0.6
    assert compute_p(estimate_difference([a], [b])) == pytest.approx(reference, rel=0.2)


def test_few_videos_have_no_test_and_one_has_no_interval() -> None:
    rng = np.random.default_rng(9)
    nine = estimate_difference([column(rng, videos=9)], [column(rng, videos=9)])
    assert (compute_p(nine), compute_smallest_difference(nine)) == (None, None)
    assert nine.interval is not None
    assert estimate([column(rng, videos=1)]).interval is None


def test_four_of_five_experiments_show_the_smallest_difference() -> None:
    rng, videos, experiments = np.random.default_rng(10), 80, 250
    pilot = [column(rng, 0.5, videos=videos) for _ in range(2)]
    smallest = compute_smallest_difference(estimate_difference([pilot[0]], [pilot[1]], draws=4000))
    true_error = 0.2 * np.sqrt(2 / videos)
    assert smallest == pytest.approx((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * true_error, rel=0.2)
    true = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * true_error
    shown = 0
    for _ in range(experiments):
        a, b = column(rng, 0.5 + true, videos=videos), column(rng, 0.5, videos=videos)
        p = compute_p(estimate_difference([a], [b], draws=200))
        shown += p is not None and p < 0.05
    assert shown / experiments == pytest.approx(0.8, abs=0.08)


def test_the_area_is_scipys_over_the_width() -> None:
    rng = np.random.default_rng(11)
    several = [estimate([column(rng, mean)]) for mean in (0.3, 0.6, 0.7)]
    area = measure_area([1, 2, 5], several)
    assert area.value == pytest.approx(integrate.trapezoid([one.value for one in several], [1, 2, 5]) / 4)
    low, high = area.interval or (0, 0)
    assert low < area.value < high


def test_samples_without_a_value_are_left_out() -> None:
    assert Estimate(1.0, np.array([np.nan, 1.0, 1.0]), 1, 12).interval == (1.0, 1.0)
    assert Estimate(1.0, np.array([np.nan]), 1, 12).interval is None
