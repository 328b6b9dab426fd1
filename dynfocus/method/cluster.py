"""Cluster points around density peaks (Eq. 1-3, DPC-KNN): the frames of a video, or the patches of a frame.

A mask is true at real points and false at padding; None says that there is no padding.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dynfocus.device import full_precision
from dynfocus.method.distances import (
    at_points,
    blocks,
    distances_from,
    divide_by_mean,
    equalise_copies,
    first_copies,
    first_near_copies,
    join,
    smallest,
    squared_distances,
    weighted_sums,
)

Neighbourhood = Literal["cluster", "nearest"]
DistanceScale = Literal["width", "video"]


@dataclass
class Clusters:
    """L prototypes of M points, with the numbers of Eq. 1-2 behind them.

    Attributes:
        prototypes: the merged points (Eq. 3), in fp32.
        representatives: the point each prototype grew around, in order; padding comes last.
        first: the first prototype that each is an exact copy of; its own place where there is none before it.
        labels: the nearest representative of each point.
        spread: -log rho (Eq. 1), the mean distance to the nearest: the smaller, the denser.
        distance: delta (Eq. 2).
    """

    prototypes: Float[Tensor, "B L f"]
    representatives: Int[Tensor, "B L"]
    first: Int[Tensor, "B L"]
    labels: Int[Tensor, "B M"]
    spread: Float[Tensor, "B M"]
    distance: Float[Tensor, "B M"]


@torch.no_grad()
def density_peaks(
    points: Float[Tensor, "B M f"],
    count: int,
    neighbours: int,
    mask: Bool[Tensor, "B M"] | None = None,
    neighbourhood: Neighbourhood = "cluster",
    copies: bool = True,
    representatives: Int[Tensor, "B L"] | None = None,
    scale: DistanceScale = "width",
    window: int | None = None,
) -> Clusters:
    """Cluster B sets of at most M points around their min(``count``, M) highest density peaks.

    Everything is computed in fp32 whatever the points' precision. Nothing is random: points of equal density rank by
    their index.

    Args:
        points: one row of f numbers each.
        count: L, the prototypes of each set.
        neighbours: C of Eq. 1.
        mask: which points are real.
        neighbourhood: how Eq. 3 reads N(l): the members of the cluster, or the C nearest points.
        copies: whether points may be exact copies of each other, as the frames of a still scene are; copies then tie in
            everything. Patches carry their position, so that no two are equal.
        representatives: in order, where they were computed before.
        scale: ``video`` divides all distances of a set by their mean.
        window: in sets of more points Eq. 1-2 compare only the points of one window with each other, windows being runs
            of at most so many points; None compares all, in O(M^2 f). With windows it is O(M (window + L) f).

    Paper: Eq. 1-3.
    Departs: with ``scale="video"`` the density is exp(-D / mean D), so that features ten times as large give the same
    events; as printed, exp(-D) of large features ranks by density alone and loses rare frames. With a window a scene
    that returns in another window is dense, and far from what is denser, in both: it may give two representatives.
    """
    index = torch.arange(points.shape[1], device=points.device)
    with full_precision(points.device):
        if window is None or points.shape[1] <= window:
            distances, first, spread, delta = compare_points(points, neighbours, mask, copies, scale)
        else:
            distances, (first, spread, delta) = None, compare_in_windows(points, neighbours, mask, scale, window)
        peak = delta.log() - spread  # the logarithm of rho * delta: it ranks alike and never underflows
        if representatives is None:
            ranking = peak.sort(dim=-1, descending=True, stable=True).indices
            representatives = ranking[:, :count].sort(-1).values
        if distances is None:
            assert first is not None
            from_representatives = distances_from(points, representatives, first, mask)
        else:
            from_representatives = distances.gather(1, representatives[..., None].expand(-1, -1, distances.shape[-1]))
        # Each representative is its own nearest, also where another one is a copy of it.
        from_representatives = from_representatives.scatter_(2, representatives[..., None], -1.0)
        labels, place = from_representatives.argmin(1), index[: representatives.shape[1]]
        if neighbourhood == "cluster":
            outside = labels[:, None] != place[:, None]
        else:
            outside = outside_nearest(from_representatives, neighbours)
        if mask is not None:
            outside = outside | ~mask[:, None]
        prototypes = weighted_sums(merge_weights(peak.exp(), outside), points)
        if neighbourhood == "nearest":  # other representatives may have the same nearest points
            place = first_near_copies(prototypes)
        elif distances is None:
            place = first_copies(at_points(points, representatives))
        elif first is not None:
            place = torch.searchsorted(representatives, first.gather(1, representatives))
    return Clusters(prototypes, representatives, place.expand_as(representatives), labels, spread, delta)


def compare_points(
    points: Float[Tensor, "B M f"],
    neighbours: int,
    mask: Bool[Tensor, "B M"] | None,
    copies: bool,
    scale: DistanceScale,
) -> tuple[Float[Tensor, "B M M"], Int[Tensor, "B M"] | None, Float[Tensor, "B M"], Float[Tensor, "B M"]]:
    """Compare all points: D, with ``copies`` the first point that each is a copy of, -log rho, and delta.

    Paper: Eq. 1-2.
    """
    distances = squared_distances(points, mask)
    first = first_copies(points) if copies else None
    if first is not None:
        if mask is not None:  # padding may look like a blank frame
            first = torch.where(mask, first, torch.arange(points.shape[1], device=points.device))
        distances = equalise_copies(distances, first)
    if scale == "video":
        distances = divide_by_mean(distances, mask)
    spread = mean_distance(distances, neighbours, mask)
    return distances, first, spread, peak_distance(distances, spread, mask)


def compare_in_windows(
    points: Float[Tensor, "B M f"],
    neighbours: int,
    mask: Bool[Tensor, "B M"] | None,
    scale: DistanceScale,
    window: int,
) -> tuple[Int[Tensor, "B M"], Float[Tensor, "B M"], Float[Tensor, "B M"]]:
    """Compare the points of each window as `compare_points` does with ``copies``; windows differ by one point at most.

    Departs: Eq. 1-2 compare every two points.
    """
    first = torch.arange(points.shape[1], device=points.device).repeat(len(points), 1)
    spread = torch.full(first.shape, torch.inf, device=points.device)  # of padding
    delta = torch.zeros_like(spread)
    for n in range(len(points)):
        real = points.shape[1] if mask is None else int(mask[n].sum())
        parts = -(-real // window)
        for start, end in pairwise(real * part // parts for part in range(parts + 1)):
            _, own, *found = compare_points(points[n : n + 1, start:end], neighbours, None, True, scale)
            assert own is not None
            first[n, start:end] = own[0] + start
            spread[n, start:end], delta[n, start:end] = found[0][0], found[1][0]
    return first, spread, delta


def mean_distance(
    distances: Float[Tensor, "B M M"], neighbours: int, mask: Bool[Tensor, "B M"] | None = None
) -> Float[Tensor, "B M"]:
    """-log rho: the mean distance to the C = min(``neighbours``, points) nearest, itself the first of them.

    Padding is infinitely far.

    Paper: Eq. 1.
    """
    near = smallest(distances, min(neighbours, distances.shape[-1]))
    if mask is None:
        return near.mean(-1)
    real = near.isfinite()
    mean = near.masked_fill(~real, 0).sum(-1) / real.sum(-1).clamp(min=1)
    return mean.masked_fill(~mask, torch.inf)


def peak_distance(
    distances: Float[Tensor, "B M M"], spread: Float[Tensor, "B M"], mask: Bool[Tensor, "B M"] | None = None
) -> Float[Tensor, "B M"]:
    """delta: the distance to the nearest point of higher density; the densest gets its largest distance.

    ``spread`` is -log rho: the smaller, the denser.

    Paper: Eq. 2.
    Departs: between equal densities the earlier index counts as the denser; as printed, exact copies would all keep a
    large delta and redundancy would stay.
    """
    order = spread.argsort(dim=-1, stable=True)
    rank = order.argsort(-1)
    rows = zip(blocks(distances), blocks(rank), strict=True)
    nearest = [row.masked_fill(rank[:, None] >= own[..., None], torch.inf).amin(-1) for row, own in rows]
    if mask is None:
        farthest = distances.amax(-1)
    else:
        from_densest = distances.gather(1, order[:, :1, None].expand(-1, -1, distances.shape[-1]))[:, 0]
        farthest = from_densest.masked_fill(~mask, 0).amax(-1, keepdim=True)  # no point's delta is larger
    return torch.minimum(join(nearest), farthest)


def outside_nearest(from_representatives: Float[Tensor, "B L M"], neighbours: int) -> Bool[Tensor, "B L M"]:
    """All but the C nearest points of each representative, itself one of them: N(l) as Eq. 1 reads it."""
    nearest = from_representatives.argsort(dim=-1, stable=True)[..., :neighbours]
    return torch.ones_like(from_representatives, dtype=torch.bool).scatter_(-1, nearest, False)


def merge_weights(peak: Float[Tensor, "B M"], outside: Bool[Tensor, "B L M"]) -> Float[Tensor, "B L M"]:
    """Weights exp(rho * delta) of each prototype's members, normalised to 1.

    Paper: Eq. 3.
    """
    lowest = torch.finfo(peak.dtype).min
    return peak[:, None].expand(outside.shape).masked_fill(outside, lowest).softmax(-1)
