"""Each number of the frames that were kept, beside scipy's or one that is counted by hand."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial.distance import jaccard

from dynfocus.lab import frame_metrics as fm

T = 12
frames = st.lists(st.integers(0, T - 1), min_size=1, max_size=T, unique=True).map(sorted)
segments = st.lists(frames, min_size=1, max_size=4)
times = st.lists(st.integers(1, 40), min_size=T, max_size=T).map(lambda steps: tuple(np.cumsum(steps) / 10))
scores = st.lists(st.integers(-3, 3).map(float), min_size=T, max_size=T)
few = settings(max_examples=60, deadline=None)


def needed_by(parts: list[list[int]]) -> list[int]:
    return sorted({frame for part in parts for frame in part})


@few
@given(frames, segments)
def test_precision_and_frames_per_segment_are_those_counted_by_hand(kept: list[int], parts: list[list[int]]) -> None:
    inside = [frame for frame in kept if any(frame in part for part in parts)]
    assert fm.measure_precision(kept, parts) == len(inside) / len(kept)
    hits = [(frame, n) for frame, n in product(kept, range(len(parts))) if frame in parts[n]]
    assert fm.count_frames_per_segment(kept, parts) == pytest.approx(len(hits) / len(parts))


@few
@given(frames, segments)
def test_balance_is_scipys_entropy_over_its_largest_value(kept: list[int], parts: list[list[int]]) -> None:
    counts = [len(set(kept) & set(part)) for part in parts]
    balance = fm.measure_balance(kept, parts)
    if len(parts) < 2 or sum(counts) == 0:
        assert balance is None
    else:
        assert balance == pytest.approx(stats.entropy(counts, base=len(parts)), abs=1e-12)
    assert fm.measure_balance([0, 5], [[0], [5]]) == pytest.approx(1)
    assert fm.measure_balance([0, 1], [[0, 1], [5]]) == 0


@few
@given(frames, segments, times, st.sampled_from([0.0, 0.5, 1.0, 4.0]))
def test_times_are_matched_as_loops_match_them(
    kept: list[int], parts: list[list[int]], seconds: tuple[float, ...], tolerance: float
) -> None:
    needed, near = needed_by(parts), tolerance + 1e-9
    precision = sum(any(abs(seconds[k] - seconds[n]) <= near for n in needed) for k in kept) / len(kept)
    recall = sum(any(abs(seconds[k] - seconds[n]) <= near for k in kept) for n in needed) / len(needed)
    f1 = stats.hmean([precision, recall]) if precision and recall else 0.0
    assert fm.match_times(kept, parts, seconds, tolerance) == pytest.approx((precision, recall, f1))
    if tolerance == 0:
        assert precision == fm.measure_precision(kept, parts)


@few
@given(frames, times, st.sampled_from([0.0, 1.0, 4.0]))
def test_coverage_redundancy_and_gap_are_those_of_loops(
    kept: list[int], seconds: tuple[float, ...], tolerance: float
) -> None:
    near = tolerance + 1e-9
    covered = [t for t in seconds if any(abs(t - seconds[k]) <= near for k in kept)]
    assert fm.measure_coverage(kept, seconds, tolerance) == pytest.approx(len(covered) / T)
    follow = [k for k in kept if any(j < k and seconds[k] - seconds[j] <= near for j in kept)]
    assert fm.measure_redundancy(kept, seconds, tolerance) == pytest.approx(len(follow) / len(kept))
    free = [
        seconds[b] - seconds[a]
        for a, b in product(range(T), repeat=2)
        if a <= b and not any(a < k < b for k in kept)  # no kept frame lies strictly between
    ]
    assert fm.measure_largest_gap(kept, seconds) == pytest.approx(max(free))


@few
@given(scores, segments)
def test_scores_are_judged_as_scipy_judges_them(values: list[float], parts: list[list[int]]) -> None:
    needed = np.isin(np.arange(T), needed_by(parts))
    assert fm.rank_values(values).tolist() == stats.rankdata(values).tolist()
    auroc, correlation = fm.measure_auroc(values, parts), fm.measure_rank_correlation(values, parts)
    if needed.all():
        assert auroc is None
        assert correlation is None
        return
    inside, outside = np.array(values)[needed], np.array(values)[~needed]
    u = stats.mannwhitneyu(inside, outside, method="asymptotic").statistic
    assert auroc == pytest.approx(u / (len(inside) * len(outside)))
    if len(set(values)) == 1:
        assert auroc == 0.5
        assert correlation is None
    else:
        assert correlation == pytest.approx(stats.spearmanr(values, needed).statistic)


@few
@given(frames, frames)
def test_the_distance_of_two_choices_is_scipys(a: list[int], b: list[int]) -> None:
    marks = [np.isin(np.arange(T), one) for one in (a, b)]
    assert fm.measure_distance(a, b) == pytest.approx(jaccard(*marks))


@few
@given(times, frames, frames, st.sampled_from([0.0, 0.3, 1.0, 4.0]))
def test_two_choices_agree_on_as_many_frames_as_scipy_can_pair(
    seconds: tuple[float, ...], a: list[int], b: list[int], tolerance: float
) -> None:
    first, second = ([seconds[frame] for frame in one] for one in (a, b))
    near = np.abs(np.subtract.outer(first, second)) <= tolerance + 1e-9
    pairs = int((maximum_bipartite_matching(csr_array(near)) >= 0).sum())
    assert fm.measure_agreement(first, second, tolerance) == pytest.approx(pairs / (len(a) + len(b) - pairs))
    if tolerance == 0:
        assert fm.measure_agreement(first, second, 0) == pytest.approx(1 - fm.measure_distance(a, b))


def test_what_is_not_defined_is_none_and_no_number() -> None:
    assert fm.measure_precision([], [[1]]) is None
    assert fm.measure_precision([1], []) is None
    assert fm.count_frames_per_segment([], [[1]]) is None
    assert fm.match_times([1], [], (0.0, 1.0), 1) is None
    assert fm.measure_coverage([], (0.0,), 1) is None
    assert fm.measure_redundancy([0], (), 1) is None
    assert fm.measure_largest_gap([0], ()) is None
    assert fm.measure_rank_correlation((), [[1]]) is None
    assert fm.measure_distance([], []) is None
    assert fm.measure_agreement([], [1.0], 1) is None
