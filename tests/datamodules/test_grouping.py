"""Batches that cost alike: the same rows in each step, as even as can be, and the same weights learned from them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import training_ranks
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from training_ranks import NOISY, StepData, TrainingResult, learn, same, several

from datamodules.conversations import ResumableLoader
from datamodules.epoch_order import EpochOrder
from datamodules.grouping import arrange, batches_of_rank, largest_step
from datamodules.sampler import ResumableBatchSampler
from dynfocus.errors import ConfigError
from dynfocus.models.collate import Example

COSTS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=1, max_size=6)


def price(costs: Sequence[int]) -> int:
    return len(costs) * max(1, *costs)


def partitions(rows: list[int], batches: int) -> Iterator[list[list[int]]]:
    """Every way to put rows into so many batches, none empty."""
    if not rows:
        if batches == 0:
            yield []
        return
    first, rest = rows[0], rows[1:]
    for smaller in partitions(rest, batches - 1):
        yield [[first], *smaller]
    for smaller in partitions(rest, batches):
        for n, batch in enumerate(smaller):
            yield [*smaller[:n], [first, *batch], *smaller[n + 1 :]]


@settings(max_examples=100)
@given(rows=COSTS, data=st.data())
def test_no_arrangement_at_all_has_a_cheaper_dearest_batch(rows: list[tuple[int, int]], data: st.DataObject) -> None:
    costs, kinds = (np.array(column) for column in zip(*rows, strict=True))
    batches = data.draw(st.integers(1, len(rows)))
    runs = [run.tolist() for run in arrange(costs, kinds, batches)]
    assert sorted(chain(*runs)) == list(range(len(rows)))
    assert len(runs) == batches
    assert all(runs)
    prices = [price(costs[run].tolist()) for run in runs]
    assert prices == sorted(prices, reverse=True)
    separate = batches >= len(set(kinds.tolist()))
    if separate:
        assert all(len(set(kinds[run].tolist())) == 1 for run in runs)
    assert prices[0] == min(
        max(price(costs[batch].tolist()) for batch in parts)
        for parts in partitions(list(range(len(rows))), batches)
        if not separate or all(len(set(kinds[batch].tolist())) == 1 for batch in parts)
    )


@settings(max_examples=60)
@given(batches=st.integers(1, 4), size=st.integers(1, 4), seed=st.integers(0, 10**6), count=st.integers(1, 9))
def test_the_step_with_the_dearest_batch_is_found(batches: int, size: int, seed: int, count: int) -> None:
    draw = np.random.default_rng(seed)
    costs, kinds = draw.integers(0, 40, (count, batches * size)), draw.integers(0, 3, (count, batches * size))
    dearest = [price(step[arrange(step, kind, batches)[0]].tolist()) for step, kind in zip(costs, kinds, strict=True)]
    assert dearest[largest_step(costs.astype(np.int32), kinds.astype(np.uint8), batches)] == max(dearest)


@settings(max_examples=40)
@given(accumulate=st.integers(1, 6), ranks=st.integers(1, 5))
def test_what_is_computed_at_once_lies_side_by_side(accumulate: int, ranks: int) -> None:
    shares = [batches_of_rank(accumulate * ranks, (rank, ranks)) for rank in range(ranks)]
    rounds = list(zip(*shares, strict=True))
    together = [set(range(n * ranks, (n + 1) * ranks)) for n in range(accumulate)]
    assert [set(places) for places in rounds] == together
    firsts = [places.index(min(places)) for places in rounds]
    assert ranks == 1 or all(one != other for one, other in pairwise(firsts))


def make_sampler(
    size: int, batch: int, accumulate: int, rank: int, ranks: int, seed: int = 0, **options: Any
) -> ResumableBatchSampler:
    draw = np.random.default_rng(seed)
    arrays = {"costs": draw.integers(1, 50, size).astype(np.int32), "kinds": draw.integers(0, 3, size).astype(np.uint8)}
    options = {"completed_steps": lambda: 0} | arrays | options
    return ResumableBatchSampler(
        EpochOrder({"a": size}, seed=seed), batch, accumulate=accumulate, share=(rank, ranks), **options
    )


@settings(max_examples=40)
@given(
    half=st.integers(1, 3), extra=st.integers(0, 30), done=st.integers(0, 9), layout=st.sampled_from([(1, 2), (2, 1)])
)
def test_a_step_holds_the_same_rows_grouped_or_not(half: int, extra: int, done: int, layout: tuple[int, int]) -> None:
    """However many processes share it, and from whichever step on the run goes on."""
    size, (accumulate, ranks) = 4 * half + extra, layout
    plain = make_sampler(size, 4 * half, 1, 0, 1, costs=None, kinds=None)
    shares = []
    for rank in range(ranks):
        order = make_sampler(size, 2 * half, accumulate, rank, ranks, completed_steps=lambda: done)
        batches = list(order)
        assert len(batches) == len(order) == accumulate * order.steps
        shares.append(batches)
    for n in range(plain.steps):
        mine = [batch for share in shares for batch in share[n * accumulate : (n + 1) * accumulate]]
        assert all(mine)
        assert sorted(chain(*mine)) == sorted(plain.batches(done + n)[0])


@pytest.mark.parametrize("kinds", [True, False])
def test_the_most_expensive_batch_is_that_of_the_epoch_of_any_process(kinds: bool) -> None:
    for done in (0, 3, 7):
        options = {"completed_steps": lambda done=done: done} | ({} if kinds else {"kinds": None})
        orders = [make_sampler(50, 3, 2, rank, 2, **options) for rank in range(2)]
        dearest = [order.most_expensive() for order in orders]
        assert dearest[0] == dearest[1] is not None
        epoch = done // orders[0].steps
        first = epoch * orders[0].steps
        batches = [batch for order in orders for n in range(orders[0].steps) for batch in order.batches(first + n)]
        costs = orders[0].costs
        assert price(costs[dearest[0]].tolist()) == max(price(costs[batch].tolist()) for batch in batches)
        assert sorted(dearest[0]) in [sorted(batch) for batch in batches]
    assert make_sampler(50, 3, 2, 0, 2, costs=None, kinds=None).most_expensive() is None


def test_one_long_clip_does_not_set_the_peak() -> None:
    draw = np.random.default_rng(0)
    costs = draw.integers(50, 400, 1280).astype(np.int32)
    costs[draw.choice(1280, 40, replace=False)] = 4000
    options = {"costs": costs, "kinds": np.full(1280, 2, np.uint8)}
    together = [make_sampler(1280, 8, 16, 0, 1, **(options | more)).most_expensive() for more in ({}, {"kinds": None})]
    after, before = (price(costs[batch].tolist()) for batch in together)
    assert before >= 8 * 4000
    assert after < before / 3


def test_rows_of_unknown_cost_are_refused_unless_they_are_left_out() -> None:
    costs, kinds = np.array([5, 3, -1, 4, -1], np.int32), np.zeros(5, np.uint8)
    with pytest.raises(ConfigError, match="2 training rows whose cost is not known, such as row 0 of 'b'"):
        ResumableBatchSampler(EpochOrder({"a": 2, "b": 3}), 1, lambda: 0, costs=costs, kinds=kinds)
    mix = EpochOrder({"a": 2, "b": 3}, left_out={"b": np.array([0, 2])})
    assert len(ResumableBatchSampler(mix, 1, lambda: 0, costs=costs, kinds=kinds)) == 3


# Text alone, images, and videos of any length: no two batches of a step are alike.
COUNTS = [9, 1, 0, 7, 6, 0, 30, 12, 1, 1, 2, 9, 0, 0, 14, 3, 1, 22, 0, 5, 8, 1, 0, 2]
ROWS = [
    tiny.example(n, count or 1, NOISY, media="v.mp4" if count else None, turns=1 if n % 4 else 3)
    for n, count in enumerate(COUNTS)
]


class SampledData(StepData):
    """Rows from the real batch sampler through the real loader, grouped or not."""

    def __init__(self, group: bool, batches: list[list[int]], *options: Any) -> None:
        super().__init__(*options)
        self.group, self.batches = group, batches

    def train_dataloader(self) -> DataLoader:
        assert self.trainer is not None
        rows, processor = list(self.steps[0]), tiny.processor(self.settings, answers=True)
        options: dict[str, Any] = {}
        if self.group:
            options["costs"] = np.array([int(processor([row]).attention_mask.sum()) for row in rows])
            options["kinds"] = np.array([0 if row.row.media is None else 1 if row.length == 1 else 2 for row in rows])
        share = self.trainer.global_rank, self.trainer.world_size
        size = 8 // (self.accumulate * share[1])
        mix = EpochOrder({"rows": len(rows)})
        order = ResumableBatchSampler(mix, size, lambda: self.trainer.global_step, self.accumulate, share, **options)

        def collate(examples: list[Example]) -> Any:
            self.batches.append([example.row.index for example in examples])
            return processor(examples)

        return ResumableLoader(rows, batch_sampler=order, collate_fn=collate)


def learn_in_batches(towers: Path, name: str, group: bool, **options: Any) -> tuple[TrainingResult, list[list[int]]]:
    """What is learned from three steps of eight rows, and this process's batches."""
    batches: list[list[int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_ranks, "StepData", partial(SampledData, group, batches))
        return learn(towers, name, [ROWS], **options), batches


@pytest.mark.parametrize(
    ("name", "accumulate"), [("one", 1), ("one", 4), ("ddp", 1), ("ddp", 2), ("sharded", 2)], ids=str
)
def test_grouped_batches_teach_the_same(towers: Path, name: str, accumulate: int) -> None:
    expected, plain = learn_in_batches(towers, "one", False)
    work = partial(learn_in_batches, towers, name, True, accumulate=accumulate)
    parts = [work()] if name == "one" else several(lambda rank: work())
    same(parts[0][0], expected)
    sizes = [len(batch) for _, batches in parts for batch in batches]
    assert sum(sizes) == sum(map(len, plain)) == 24
    assert len(sizes) == 3 * accumulate * len(parts)
    assert (len(set(sizes)) > 1) == (len(sizes) > 3)
    if len(sizes) >= 9:
        kinds = [{COUNTS[row] and min(2, COUNTS[row]) for row in batch} for _, batches in parts for batch in batches]
        assert all(len(kind) == 1 for kind in kinds)


def test_other_rows_would_teach_something_else(towers: Path) -> None:
    expected, _ = learn_in_batches(towers, "one", False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("test_grouping.ROWS", [*ROWS[1:], replace(ROWS[0])])
        other, _ = learn_in_batches(towers, "one", True)
    with pytest.raises(AssertionError):
        same(other, expected)
