"""The numbers of a table, their intervals, and comparisons of two sets of answers."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dynfocus.evals.protocol import Mean, Value
from dynfocus.evals.scores import (
    Column,
    adjust_holm,
    compute_detectable,
    compute_detectable_difference,
    compute_difference_interval,
    compute_mcnemar,
    make_columns,
)


def column(outcomes: Sequence[tuple[str, float]]) -> Column:
    (made,) = make_columns([Value("a", *one) for one in outcomes], {"accuracy": Mean((("a",),))})
    return made


def test_columns_by_hand() -> None:
    values = [Value("a", "1", 1.0), Value("a", "2", 0.0), Value("b", "1", 1.0), Value("b", "1", 1.0)]
    values += [Value("c", "3", 0.0), Value("c", "3", 1.0), Value("c", "3", 0.0), Value("c", "4", 0.0)]
    means = {
        "pooled": Mean((("a", "b", "c"),)),
        "mean of three": Mean((("a",), ("b",), ("c",)), scale=100),
        "a with b, c": Mean((("a", "b"), ("c",))),
        "incomplete": Mean((("a",), ("absent",))),
        "absent": Mean((("absent",),)),
    }
    result = {one.name: (one.value, one.n) for one in make_columns(values, means)}
    assert result == {
        "pooled": (4 / 8, 8),
        "mean of three": (pytest.approx(100 * (0.5 + 1 + 0.25) / 3), 8),
        "a with b, c": ((0.75 + 0.25) / 2, 8),
    }


@given(st.lists(st.tuples(st.sampled_from("12345"), st.sampled_from([0.0, 1.0])), min_size=1, max_size=30))
def test_an_interval_lies_in_zero_to_one_and_is_the_same_twice(outcomes: list[tuple[str, float]]) -> None:
    low, high = column(outcomes).interval(draws=100)
    assert 0 <= low <= high <= 1
    assert (low, high) == column(outcomes[::-1]).interval(draws=100)
    if len({correct for _, correct in outcomes}) == 1:
        assert low == high == outcomes[0][1]
    if len({video for video, _ in outcomes}) == 1:  # one video: nothing to draw from
        assert low == high


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """400 sets of 60 videos with one question each: 95 % of the intervals, plus or minus four standard errors."""
    rng, inside = np.random.default_rng(0), 0
    for _ in range(400):
        outcomes = (rng.random(60) < 0.7).astype(float)
        low, high = column([(str(n), correct) for n, correct in enumerate(outcomes.tolist())]).interval(draws=200)
        inside += low <= 0.7 <= high
    assert abs(inside / 400 - 0.94) < 4 * (0.05 * 0.95 / 400) ** 0.5


def test_questions_of_one_video_are_drawn_together() -> None:
    """Ten equal answers to each of 20 videos tell no more than one does."""
    outcomes = [float(n % 3 == 0) for n in range(20)]
    one = [(str(n), correct) for n, correct in enumerate(outcomes)]
    ten = [(str(n), correct) for n, correct in enumerate(outcomes) for _ in range(10)]
    apart = [(str(100 * k + n), correct) for n, correct in enumerate(outcomes) for k in range(10)]
    width = {name: np.ptp(column(rows).interval()) for name, rows in (("one", one), ("ten", ten), ("apart", apart))}
    assert width["ten"] == pytest.approx(width["one"])
    assert width["apart"] < 0.5 * width["one"]


def test_two_runs_that_are_right_alike_differ_by_nothing() -> None:
    """The same videos are drawn for both: what both have in common does not widen the interval of their difference."""
    outcomes = [(str(n), float(n % 3 == 0)) for n in range(60)]
    better = [(video, 1.0 if n == 1 else correct) for n, (video, correct) in enumerate(outcomes)]
    assert compute_difference_interval(column(outcomes), column(outcomes)) == (0, 0)
    low, high = compute_difference_interval(column(better), column(outcomes))
    assert 0 == low < 1 / 60 < high < 0.06
    alone = column(outcomes).interval()
    assert high - low < 0.3 * (alone[1] - alone[0])


def test_a_difference_that_can_be_detected_is_found_by_four_of_five_tests() -> None:
    """By the normal test's own power, and over experiments that are drawn anew."""
    assert stats.norm.sf(stats.norm.ppf(0.975) - (compute_detectable(0.1, 10) or 0) / 0.1) == pytest.approx(0.8)
    assert compute_detectable(0.1, 9) is None
    assert compute_detectable(0.0, 99) is None
    rng, videos = np.random.default_rng(0), [str(n) for n in range(100)]
    base = column([(video, 0.0) for video in videos])
    drawn = column(list(zip(videos, rng.normal(0, 1, 100).tolist(), strict=True)))
    smallest = compute_detectable_difference(drawn, base)
    assert smallest == pytest.approx((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * 0.1, rel=0.15)
    found = [stats.ttest_1samp(rng.normal(0.28, 1, 100), 0).pvalue < 0.05 for _ in range(2000)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.04)  # 0.28 is 2.8 errors of 0.1


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40))
def test_mcnemar_is_the_two_sided_binomial_test_of_what_differs(pairs: list[tuple[bool, bool]]) -> None:
    wins, losses = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    expected = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert compute_mcnemar([a for a, _ in pairs], [b for _, b in pairs]) == pytest.approx(expected)


def test_holm_by_hand() -> None:
    assert adjust_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjust_holm([0.6, 0.5]) == [1.0, 1.0]
    assert adjust_holm([]) == []
