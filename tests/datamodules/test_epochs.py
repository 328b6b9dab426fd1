"""What an epoch of several data sets holds: counted over any number of epochs, and by weight."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.epoch_order import EpochOrder
from dynfocus.errors import ConfigError, DataError


@st.composite
def mixes(draw: st.DrawFn) -> tuple[dict[str, int], dict[str, float], dict[str, np.ndarray]]:
    names = draw(st.lists(st.sampled_from("abcd"), min_size=1, unique=True))
    sizes = {name: draw(st.integers(3, 30)) for name in names}
    weights = {name: draw(st.sampled_from([0.0, 0.3, 0.5, 1.0, 1.5, 2.0, 3.25])) for name in names}
    drawn = {name: draw(st.lists(st.integers(0, sizes[name] - 1), max_size=6)) for name in names}
    left_out = {name: np.array(rows, np.int64) for name, rows in drawn.items() if len(set(rows)) < sizes[name] - 2}
    return sizes, weights, left_out


@settings(max_examples=60)
@given(mixed=mixes(), seed=st.integers(0, 3), count=st.integers(1, 9))
def test_every_set_is_read_by_its_weight_and_evenly(
    mixed: tuple[dict[str, int], dict[str, float], dict[str, np.ndarray]], seed: int, count: int
) -> None:
    sizes, weights, left_out = mixed
    if any(
        weights[name] and not round(weights[name] * (sizes[name] - len(set(left_out.get(name, ()))))) for name in sizes
    ):
        return
    mix, counts, start = EpochOrder(sizes, weights, seed, left_out), Counter[int](), 0
    for epoch in range(count):
        rows = mix.rows(epoch).tolist()
        assert len(rows) == len(mix)
        counts.update(rows)
        for name, size in sizes.items():
            left = size - len(set(left_out.get(name, ())))
            assert sum(start <= row - mix.starts[name] < size for row in rows) == round(weights[name] * left)
    for name, size in sizes.items():
        times = [counts[mix.starts[name] + n] for n in range(size) if n not in left_out.get(name, ())]
        assert max(times) - min(times) <= 1
        assert not any(counts[mix.starts[name] + n] for n in left_out.get(name, ()))
        assert [mix.find(mix.starts[name] + n) for n in range(size)] == [(name, n) for n in range(size)]
    assert set(counts) <= set(mix.used_rows.tolist())
    again = EpochOrder(sizes, weights, seed, left_out)
    assert again.rows(count - 1).tolist() == mix.rows(count - 1).tolist()


def test_half_a_weight_reads_the_other_half_in_the_epoch_after() -> None:
    mix = EpochOrder({"a": 10, "b": 6}, {"a": 0.5, "b": 2.0}, seed=3)
    first, second = (Counter(mix.rows(epoch).tolist()) for epoch in range(2))
    assert first.keys() - range(10, 16) != second.keys() - range(10, 16)
    assert {row: times for row, times in (first + second).items() if row < 10} == dict.fromkeys(range(10), 1)
    assert {row: times for row, times in first.items() if row >= 10} == dict.fromkeys(range(10, 16), 2)
    halves = {tuple(sorted(EpochOrder({"a": 10}, {"a": 0.5}, seed).rows(0).tolist())) for seed in range(4)}
    assert len(halves) == 4


def test_the_order_goes_over_all_sets_at_once() -> None:
    """Runs of one set are as long as chance makes them: about two of two sets alike, not a thousand."""
    sides = EpochOrder({"a": 1000, "b": 1000}).rows(0) >= 1000
    assert 900 < np.count_nonzero(np.diff(sides)) < 1100


def test_one_set_has_the_order_that_runs_began_with() -> None:
    """A checkpoint of a run on one data set goes on with the rows that the run would have read."""
    rows = torch.randperm(50, generator=torch.Generator().manual_seed(7 * 1_000_003 + 2))
    assert EpochOrder({"rows": 50}, seed=7).rows(2).tolist() == rows.tolist()


def test_a_set_beside_another_keeps_its_own_halves() -> None:
    alone, beside = EpochOrder({"b": 20}, {"b": 0.25}), EpochOrder({"a": 7, "b": 20}, {"b": 0.25})
    for epoch in range(5):
        shifted = {row - 7 for row in beside.rows(epoch).tolist() if row >= 7}
        assert shifted == set(alone.rows(epoch).tolist())


@pytest.mark.parametrize("weight", [Fraction(1, 3), Fraction(5, 2)])
def test_four_million_rows_take_numbers_and_nothing_row_by_row(weight: Fraction) -> None:
    mix = EpochOrder(
        {"a": 3_000_000, "b": 1_000_000}, {"b": float(weight)}, left_out={"a": np.arange(0, 3_000_000, 10)}
    )
    rows = mix.rows(1)
    assert isinstance(rows, np.ndarray)
    assert rows.dtype == np.int64
    assert len(rows) == 2_700_000 + round(1_000_000 * weight)
    assert not (rows[rows < 3_000_000] % 10 == 0).any()


def test_what_leads_nowhere_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"a weight of the data set 'c'.*one of a, b"):
        EpochOrder({"a": 3, "b": 4}, {"c": 1.0})
    with pytest.raises(ConfigError, match="a quarantine of the data set 'c'"):
        EpochOrder({"a": 3}, left_out={"c": np.array([1])})
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match=f"the weight {weight} of the data set 'a'"):
            EpochOrder({"a": 3}, {"a": weight})
    with pytest.raises(ConfigError, match=r"weights.a to 0.01 or more"):
        EpochOrder({"a": 100}, {"a": 0.001})
    for wrong in (3, -1):
        with pytest.raises(DataError, match=f"row {wrong} of the data set 'a' in a quarantine"):
            EpochOrder({"a": 3}, left_out={"a": np.array([0, wrong])})
    with pytest.raises(DataError, match="'a', of which no row is left"):
        EpochOrder({"a": 3, "b": 1}, left_out={"a": np.array([0, 2, 1, 1])})
    assert EpochOrder({"a": 3, "b": 1}, {"a": 0.0}, left_out={"a": np.arange(3)}).rows(0).tolist() == [3]
