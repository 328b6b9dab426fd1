"""Arrange the rows of an optimizer step into batches of similar rows, so that one long video raises no memory peak."""

from bisect import bisect
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Int, Integer

Run = tuple[int, int]  # from, to (exclusive) among sorted rows


def arrange(
    costs: Integer[np.ndarray, " n"], kinds: Integer[np.ndarray, " n"], batches: int
) -> list[Int[np.ndarray, " _"]]:
    """Arrange the rows of a step into ``batches`` batches, so that the largest costs as little as can be.

    A batch costs its rows times its longest row, as all are padded to that one. Batches are of one kind wherever
    there are as many batches as kinds.

    Args:
        costs: tokens of each row.
        kinds: 0 text, 1 image, 2 video.
        batches: how many, at most as many as rows.

    Returns:
        The places of each batch's rows, none empty, the largest batch first.
    """
    mixed = batches < len(np.unique(kinds))
    order = np.lexsort((-costs.astype(np.int64), np.zeros_like(kinds) if mixed else kinds))
    sorted_costs = np.maximum(costs[order], 1).tolist()
    borders = [] if mixed else (np.flatnonzero(np.diff(kinds[order])) + 1).tolist()
    ends = [0, *borders, len(sorted_costs)]
    groups = [sorted_costs[first:last] for first, last in pairwise(ends)]
    peak = least_peak(groups, batches)
    runs: list[Run] = []
    for first, group in zip(ends, groups, strict=False):
        runs += [(first + begin, first + end) for begin, end in _fill_batches(group, peak)]
    runs = sorted(_split_largest(runs, sorted_costs, batches), key=lambda run: (-_cost(run, sorted_costs), run))
    return [order[begin:end] for begin, end in runs]


def batches_of_rank(batches: int, share: tuple[int, int]) -> list[int]:
    """Return which of so many batches, the largest first, a process computes, in its order.

    What the processes compute at the same time costs alike; the processes take turns with the largest.
    """
    rank, processes = share
    rounds = range(batches // processes)
    return [n * processes + (processes - 1 - rank if n % 2 else rank) for n in rounds]


def largest_step(costs: Integer[np.ndarray, "s n"], kinds: Integer[np.ndarray, "s n"], batches: int) -> int:
    """Return which of many steps has the largest batch, when each is arranged."""
    costs, kinds = np.maximum(costs.astype(np.int64), 1), kinds.astype(np.int64)
    base = int(costs.max()) + 1
    keys = np.sort(kinds * base + (base - 1 - costs), axis=1)
    parts = np.stack([(kinds <= kind).sum(1) for kind in range(int(kinds.max()) + 1)], 1).tolist()
    peak, position = 0, 0
    for step, ends in enumerate(parts):
        sorted_costs = (base - 1 - keys[step] % base).tolist()
        groups = [sorted_costs[first:last] for first, last in zip([0, *ends], ends, strict=False) if first < last]
        if len(groups) > batches:
            groups = [sorted(sorted_costs, reverse=True)]
        # Only a step that does not fit under the highest peak so far needs its exact peak.
        if not peak or not _fits(groups, peak, batches):
            peak, position = least_peak(groups, batches), step
    return position


def least_peak(groups: Sequence[Sequence[int]], batches: int) -> int:
    """Compute the smallest cost that the largest batch can have.

    Args:
        groups: costs of the rows that may share a batch, falling; at most ``batches`` groups.
        batches: how many there are in all.
    """
    low = max(max(group[0] for group in groups), -(-sum(map(sum, groups)) // batches))
    high = max(len(group) * group[0] for group in groups)
    return low + bisect(range(low, high), False, key=lambda peak: _fits(groups, peak, batches))


def _fits(groups: Sequence[Sequence[int]], peak: int, batches: int) -> bool:
    """Return whether no batch need cost more than ``peak``: filled from the longest row on, each as full as may be."""
    used = 0
    for group in groups:
        start, size = 0, len(group)
        while start < size:
            used += 1
            if used > batches or group[start] > peak:
                return False
            start += peak // group[start]
    return True


def _fill_batches(group: Sequence[int], peak: int) -> list[Run]:
    runs, start = [], 0
    while start < len(group):
        end = min(len(group), start + peak // group[start])
        runs.append((start, end))
        start = end
    return runs


def _cost(run: Run, sorted_costs: Sequence[int]) -> int:
    return (run[1] - run[0]) * sorted_costs[run[0]]


def _split_largest(runs: list[Run], sorted_costs: Sequence[int], batches: int) -> list[Run]:
    """Split the largest batch of more than one row until there are enough."""
    while len(runs) < batches:
        largest = max((run for run in runs if run[1] - run[0] > 1), key=lambda run: _cost(run, sorted_costs))
        middle = sum(largest) // 2
        runs = [*(run for run in runs if run != largest), (largest[0], middle), (middle, largest[1])]
    return runs
