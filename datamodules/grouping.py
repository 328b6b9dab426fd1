"""Batches of one optimizer step in which no long video sets the memory peak: rows alike lie together."""

from bisect import bisect
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Int, Integer

Run = tuple[int, int]  # from, to (exclusive) among sorted rows


def arrange(
    costs: Integer[np.ndarray, " n"], kinds: Integer[np.ndarray, " n"], batches: int
) -> list[Int[np.ndarray, " _"]]:
    """Share the rows of a step out to ``batches`` batches, whose dearest is as cheap as can be.

    A batch costs its rows times its longest row, as all are padded to that one. Batches are of one kind wherever
    there are as many batches as kinds.

    Args:
        costs: tokens of each row.
        kinds: 0 text, 1 image, 2 video.
        batches: how many, at most as many as rows.

    Returns:
        The places of each batch's rows, none empty, the dearest batch first.
    """
    one = batches < len(np.unique(kinds))
    order = np.lexsort((-costs.astype(np.int64), np.zeros_like(kinds) if one else kinds))
    tall = np.maximum(costs[order], 1).tolist()
    ends = [0, len(tall)] if one else [0, *(np.flatnonzero(np.diff(kinds[order])) + 1).tolist(), len(tall)]
    groups = [tall[first:last] for first, last in pairwise(ends)]
    most = least_peak(groups, batches)
    runs: list[Run] = []
    for first, group in zip(ends, groups, strict=False):
        runs += [(first + begin, first + end) for begin, end in _runs(group, most)]
    runs = sorted(_halved(runs, tall, batches), key=lambda run: (-_cost(run, tall), run))
    return [order[begin:end] for begin, end in runs]


def deal(batches: int, share: tuple[int, int]) -> list[int]:
    """Which of so many batches, the dearest first, are one process's, in the order in which it computes them.

    What the processes compute at the same time costs alike; who has the dearest takes turns.
    """
    rank, processes = share
    rounds = range(batches // processes)
    return [n * processes + (processes - 1 - rank if n % 2 else rank) for n in rounds]


def dearest_step(costs: Integer[np.ndarray, "s n"], kinds: Integer[np.ndarray, "s n"], batches: int) -> int:
    """Which of many steps has the dearest batch, when each is arranged."""
    costs, kinds = np.maximum(costs.astype(np.int64), 1), kinds.astype(np.int64)
    wide = int(costs.max()) + 1
    keys = np.sort(kinds * wide + (wide - 1 - costs), axis=1)
    parts = np.stack([(kinds <= kind).sum(1) for kind in range(int(kinds.max()) + 1)], 1).tolist()
    best, where = 0, 0
    for step, ends in enumerate(parts):
        tall = (wide - 1 - keys[step] % wide).tolist()
        groups = [tall[first:last] for first, last in zip([0, *ends], ends, strict=False) if first < last]
        if len(groups) > batches:
            groups = [sorted(tall, reverse=True)]
        # Only a step that does not fit beneath the dearest so far is looked at closely.
        if not best or not _fits(groups, best, batches):
            best, where = least_peak(groups, batches), step
    return where


def least_peak(groups: Sequence[Sequence[int]], batches: int) -> int:
    """What the dearest batch costs at least.

    Args:
        groups: costs of the rows that may share a batch, falling; at most ``batches`` groups.
        batches: how many there are in all.
    """
    low = max(max(group[0] for group in groups), -(-sum(map(sum, groups)) // batches))
    high = max(len(group) * group[0] for group in groups)
    return low + bisect(range(low, high), False, key=lambda most: _fits(groups, most, batches))


def _fits(groups: Sequence[Sequence[int]], most: int, batches: int) -> bool:
    """Whether no batch need cost more than ``most``: longest rows first, as many beside each as may be."""
    used = 0
    for group in groups:
        start, size = 0, len(group)
        while start < size:
            used += 1
            if used > batches or group[start] > most:
                return False
            start += most // group[start]
    return True


def _runs(group: Sequence[int], most: int) -> list[Run]:
    runs, start = [], 0
    while start < len(group):
        end = min(len(group), start + most // group[start])
        runs.append((start, end))
        start = end
    return runs


def _cost(run: Run, tall: Sequence[int]) -> int:
    return (run[1] - run[0]) * tall[run[0]]


def _halved(runs: list[Run], tall: Sequence[int], batches: int) -> list[Run]:
    """Split the dearest batch that has more than one row until there are enough."""
    while len(runs) < batches:
        dear = max((run for run in runs if run[1] - run[0] > 1), key=lambda run: _cost(run, tall))
        middle = sum(dear) // 2
        runs = [*(run for run in runs if run != dear), (dear[0], middle), (middle, dear[1])]
    return runs
