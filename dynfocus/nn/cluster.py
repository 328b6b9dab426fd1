"""Eq. 1-3: density peaks with K nearest neighbours (DPC-KNN), over the frames of a video and the patches of a frame."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Neighbourhood = Literal["cluster", "nearest"]


@dataclass
class Clusters:
    """L prototypes of M points, and how they were found.

    Attributes:
        prototypes: the merged points (Eq. 3).
        representatives: the point each prototype grew around, in order.
        mask: true at real prototypes.
        labels: the nearest representative of each point.
        log_density: log rho (Eq. 1).
        distance: delta (Eq. 2).
    """

    prototypes: Float[Tensor, "B L f"]
    representatives: Int[Tensor, "B L"]
    mask: Bool[Tensor, "B L"]
    labels: Int[Tensor, "B M"]
    log_density: Float[Tensor, "B M"]
    distance: Float[Tensor, "B M"]


def density_peaks(
    points: Float[Tensor, "B M f"],
    count: int,
    neighbours: int,
    mask: Bool[Tensor, "B M"] | None = None,
    neighbourhood: Neighbourhood = "cluster",
) -> Clusters:
    """Cluster B sets of at most M points around their min(``count``, M) highest density peaks.

    Distances and densities are computed in fp32 whatever the points' precision. Nothing is random: points of equal
    density rank by their index.

    Paper: Eq. 1-3.
    """
    mask = torch.ones(points.shape[:2], dtype=torch.bool, device=points.device) if mask is None else mask
    with torch.no_grad(), torch.autocast(points.device.type, enabled=False):
        gaps = squared_distances(points.float(), mask)
        log_density = density(gaps, mask, neighbours)
        distance = peak_distance(gaps, log_density, mask)
        chosen, real = representatives(log_density, distance, mask, min(count, points.shape[1]))
        to_chosen = gaps.gather(1, chosen[..., None].expand(-1, -1, gaps.shape[-1]))
        labels = nearest(to_chosen, chosen, real)
        if neighbourhood == "cluster":
            member = labels[:, None] == torch.arange(chosen.shape[1], device=labels.device)[:, None]
        else:
            member = within(to_chosen, chosen, neighbours)
        weights = merge_weights(log_density, distance, member & mask[:, None])
        prototypes = (weights @ points.float()).to(points.dtype)
    return Clusters(prototypes, chosen, real, labels, log_density, distance)


def squared_distances(points: Float[Tensor, "B M f"], mask: Bool[Tensor, "B M"]) -> Float[Tensor, "B M M"]:
    """D: the squared distance of every two points, averaged over their f numbers; infinite at padding.

    Differences are taken number by number, not through a Gram matrix, whose rounding depends on where a point stands:
    exact copies are at distance 0 and tie in everything, and padding or other videos of the batch move no bit.

    Departs: the paper divides by the number of rows P alone; at width 1408 every density then underflows to zero and
    all points tie, so the width divides too.
    """
    gaps = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").square() / points.shape[-1]
    return gaps.masked_fill(~(mask[:, None] & mask[..., None]), torch.inf)


def density(gaps: Float[Tensor, "B M M"], mask: Bool[Tensor, "B M"], neighbours: int) -> Float[Tensor, "B M"]:
    """log rho: minus the mean distance to the C = min(``neighbours``, points) nearest, itself the first of them.

    Padding gets minus infinity. The logarithm ranks alike and never underflows.

    Paper: Eq. 1.
    """
    near = gaps.topk(min(neighbours, gaps.shape[-1]), largest=False).values
    counted = near.isfinite()
    mean = near.masked_fill(~counted, 0).sum(-1) / counted.sum(-1).clamp(min=1)
    return (-mean).masked_fill(~mask, -torch.inf)


def peak_distance(
    gaps: Float[Tensor, "B M M"], log_density: Float[Tensor, "B M"], mask: Bool[Tensor, "B M"]
) -> Float[Tensor, "B M"]:
    """delta: the distance to the nearest point of higher density; the densest gets its largest distance.

    Paper: Eq. 2.
    Departs: between equal densities the earlier index counts as the denser; as printed, exact copies would all keep a
    large delta and redundancy would stay.
    """
    mine, other = log_density[..., None], log_density[:, None]
    index = torch.arange(gaps.shape[-1], device=gaps.device)
    denser = ((other > mine) | ((other == mine) & (index < index[:, None]))) & mask[:, None]
    nearest_denser = gaps.masked_fill(~denser, torch.inf).amin(-1)
    farthest = gaps.masked_fill(~mask[:, None], 0).amax(-1)
    distance = torch.where(nearest_denser.isfinite(), nearest_denser, farthest)
    return distance.masked_fill(~mask, 0)


def representatives(
    log_density: Float[Tensor, "B M"], distance: Float[Tensor, "B M"], mask: Bool[Tensor, "B M"], count: int
) -> tuple[Int[Tensor, "B L"], Bool[Tensor, "B L"]]:
    """The ``count`` points of the largest rho * delta, in order of their index; unused slots are masked and hold 0."""
    peak = (log_density + distance.log()).masked_fill(~mask, -torch.inf)
    best = peak.argsort(dim=-1, descending=True, stable=True)[:, :count]
    real = mask.gather(1, best)
    chosen = best.masked_fill(~real, log_density.shape[1]).sort(-1).values
    real = chosen < log_density.shape[1]
    return chosen.masked_fill(~real, 0), real


def nearest(
    to_chosen: Float[Tensor, "B L M"], chosen: Int[Tensor, "B L"], real: Bool[Tensor, "B L"]
) -> Int[Tensor, "B M"]:
    """For each point its nearest representative; a representative is always its own, even among exact copies."""
    own = _own(to_chosen, chosen)
    reach = to_chosen.masked_fill(own, -1).masked_fill(~real[..., None], torch.inf)
    return reach.argmin(1)


def within(to_chosen: Float[Tensor, "B L M"], chosen: Int[Tensor, "B L"], neighbours: int) -> Bool[Tensor, "B L M"]:
    """N(l) read by Eq. 1's letter: the C nearest points of each representative, itself the first of them."""
    order = to_chosen.masked_fill(_own(to_chosen, chosen), -1).argsort(dim=-1, stable=True)
    best = order[..., :neighbours]
    return torch.zeros_like(to_chosen, dtype=torch.bool).scatter_(-1, best, True)


def merge_weights(
    log_density: Float[Tensor, "B M"], distance: Float[Tensor, "B M"], member: Bool[Tensor, "B L M"]
) -> Float[Tensor, "B L M"]:
    """Weights exp(rho * delta) of each prototype's members, normalised to 1; zero rows for unused prototypes.

    Paper: Eq. 3.
    """
    peak = (log_density.exp() * distance)[:, None].expand(member.shape)
    lowest = torch.finfo(peak.dtype).min
    return peak.masked_fill(~member, lowest).softmax(-1) * member


def _own(to_chosen: Float[Tensor, "B L M"], chosen: Int[Tensor, "B L"]) -> Bool[Tensor, "B L M"]:
    return chosen[..., None] == torch.arange(to_chosen.shape[-1], device=chosen.device)
