"""Eq. 1-3: density peaks with K nearest neighbours (DPC-KNN), over the frames of a video and the patches of a frame.

Where padding is spoken of, a mask of None says that there is none.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dynfocus.device import full_precision

Neighbourhood = Literal["cluster", "nearest"]
BLOCK = 512  # points that are in fp32 at once, and rows of distances that are compared at once


@dataclass
class Clusters:
    """L prototypes of M points, and how they were found.

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
    chosen: Int[Tensor, "B L"] | None = None,
) -> Clusters:
    """Cluster B sets of at most M points around their min(``count``, M) highest density peaks.

    Everything is computed in fp32 whatever the points' precision. Nothing is random: points of equal density rank by
    their index. ``copies`` says whether points may be exact copies of each other, as the frames of a still scene are:
    they then tie in everything. Patches, which hold their places, are never alike. ``chosen`` gives the
    representatives where they were found before, in order.

    Paper: Eq. 1-3.
    """
    with full_precision(points.device):
        gaps = squared_distances(points, mask)
        index = torch.arange(points.shape[1], device=points.device)
        if copies:
            first = first_copies(points)
            first = first if mask is None else torch.where(mask, first, index)  # padding may look like a blank frame
            gaps = as_of_first(gaps, first)
        spread = mean_gap(gaps, neighbours, mask)
        distance = peak_distance(gaps, spread, mask)
        peak = distance.log() - spread  # the logarithm of rho * delta: it ranks alike and never underflows
        if chosen is None:
            chosen = peak.sort(dim=-1, descending=True, stable=True).indices[:, :count].sort(-1).values
        to_chosen = gaps.gather(1, chosen[..., None].expand(-1, -1, gaps.shape[-1]))
        to_chosen = to_chosen.scatter_(2, chosen[..., None], -1.0)  # each is its own nearest, also among copies
        labels, place = to_chosen.argmin(1), index[: chosen.shape[1]]
        outside = labels[:, None] != place[:, None] if neighbourhood == "cluster" else beyond(to_chosen, neighbours)
        if mask is not None:
            outside = outside | ~mask[:, None]
        prototypes = merge(merge_weights(peak.exp(), outside), points)
        if neighbourhood == "nearest":
            place = first_alike(prototypes)
        elif copies:
            place = torch.searchsorted(chosen, first.gather(1, chosen))
    return Clusters(prototypes, chosen, place.expand_as(chosen), labels, spread, distance)


def squared_distances(
    points: Float[Tensor, "B M f"], mask: Bool[Tensor, "B M"] | None = None
) -> Float[Tensor, "B M M"]:
    """D: the squared distance of every two points, averaged over their f numbers; infinite at padding.

    Taken from Gram matrices of the points about their centre, block by block, so that few points are in fp32 at once.

    Departs: the paper divides by the number of rows P alone; at width 1408 every density then underflows to zero and
    all points tie, so the width divides too.
    """
    parts = points.split(BLOCK, 1)
    if mask is None:
        means = [part.mean(1, keepdim=True, dtype=torch.float32) for part in parts]
        centre = means[0] if len(means) == 1 else sum(means) / len(means)  # near the mean is near enough
    else:
        centre = merge((mask / mask.sum(-1, keepdim=True))[:, None], points)

    def block(n: int) -> tuple[Float[Tensor, "B m f"], Float[Tensor, "B m"]]:
        x = parts[n].float() - centre
        lengths = torch.linalg.vector_norm(x, dim=-1).square()
        return x, lengths if mask is None else lengths.masked_fill(~mask[:, n * BLOCK : (n + 1) * BLOCK], torch.inf)

    if len(parts) == 1:
        return _within(*block(0))
    gaps = torch.empty(len(points), points.shape[1], points.shape[1], device=points.device)
    for i in range(len(parts)):
        here, (x, lengths) = slice(i * BLOCK, (i + 1) * BLOCK), block(i)
        gaps[:, here, here] = _within(x, lengths)
        for j in range(i):
            there = slice(j * BLOCK, (j + 1) * BLOCK)
            gaps[:, here, there] = _between(x, lengths, *block(j))
            gaps[:, there, here] = gaps[:, here, there].mT
    return gaps


def _within(x: Float[Tensor, "B a f"], lengths: Float[Tensor, "B a"]) -> Float[Tensor, "B a a"]:
    gaps = _between(x, lengths, x, lengths)
    gaps = torch.maximum(gaps, gaps.mT)  # a product is not symmetric to the bit, but both ends of a distance must tie
    gaps.diagonal(dim1=1, dim2=2).zero_()
    return gaps


def _between(
    x: Float[Tensor, "B a f"],
    x_lengths: Float[Tensor, "B a"],
    y: Float[Tensor, "B b f"],
    y_lengths: Float[Tensor, "B b"],
) -> Float[Tensor, "B a b"]:
    gaps = torch.baddbmm(y_lengths[:, None], x, y.mT, beta=1 / x.shape[-1], alpha=-2 / x.shape[-1])
    return gaps.add_(x_lengths[..., None], alpha=1 / x.shape[-1]).clamp_(min=0)


def squared_distances_ref(points: Float[Tensor, "B M f"]) -> Float[Tensor, "B M M"]:
    """D as it is defined, from differences number by number."""
    return (points[:, None] - points[:, :, None]).square().mean(-1)


def first_copies(points: Float[Tensor, "B M f"]) -> Int[Tensor, "B M"]:
    """The first point that each point is an exact copy of; itself where there is none before it.

    Points are compared by a digest of their bits, which no rounding touches.
    """
    rows = points.contiguous()
    size = rows.shape[-1] * rows.element_size()
    words = rows.view(torch.int64 if size % 8 == 0 else torch.int32 if size % 4 == 0 else torch.int16)
    key = torch.Generator().manual_seed(0)
    weights = torch.randint(2**62, (words.shape[-1],), generator=key).to(rows.device)
    mixed = (part.long().bitwise_right_shift(29).bitwise_xor_(part) for part in words.split(BLOCK, 1))
    digest = _stack([part.mul_(weights).sum(-1) for part in mixed])
    return _stack([(part[..., None] == digest[:, None]).byte().argmax(-1) for part in digest.split(BLOCK, 1)])


def first_copies_ref(points: Float[Tensor, "B M f"]) -> Int[Tensor, "B M"]:
    """The first point that each point equals, number by number."""
    return (points[:, :, None] == points[:, None]).all(-1).byte().argmax(-1)


def first_alike(prototypes: Float[Tensor, "B L f"]) -> Int[Tensor, "B L"]:
    """The first prototype that each is equal to but for rounding, as those with the same neighbours are."""
    apart = torch.cdist(prototypes, prototypes, compute_mode="donot_use_mm_for_euclid_dist")
    length = torch.linalg.vector_norm(prototypes, dim=-1, keepdim=True)
    return (apart <= 1e-5 * length).byte().argmax(-1)


def as_of_first(gaps: Float[Tensor, "B M M"], first: Int[Tensor, "B M"]) -> Float[Tensor, "B M M"]:
    """D with every distance taken between the first copies of its two points; large ones are written over.

    The rounding of a matrix product depends on where a row stands in it: only so copies tie in everything.
    """
    if gaps.shape[1] <= BLOCK:
        return gaps.gather(2, first[:, None].expand_as(gaps)).gather(1, first[..., None].expand_as(gaps))
    for n in range(0, gaps.shape[1], BLOCK):
        rows = gaps[:, n : n + BLOCK]
        rows.copy_(rows.gather(2, first[:, None].expand_as(rows)))
    for n in range(0, gaps.shape[1], BLOCK):
        rows = gaps[:, n : n + BLOCK]
        rows.copy_(gaps.gather(1, first[:, n : n + BLOCK, None].expand_as(rows)))
    return gaps


def mean_gap(
    gaps: Float[Tensor, "B M M"], neighbours: int, mask: Bool[Tensor, "B M"] | None = None
) -> Float[Tensor, "B M"]:
    """-log rho: the mean distance to the C = min(``neighbours``, points) nearest, itself the first of them.

    Padding is infinitely far.

    Paper: Eq. 1.
    """
    near = smallest(gaps, min(neighbours, gaps.shape[-1]))
    if mask is None:
        return near.mean(-1)
    counted = near.isfinite()
    mean = near.masked_fill(~counted, 0).sum(-1) / counted.sum(-1).clamp(min=1)
    return mean.masked_fill(~mask, torch.inf)


def smallest(values: Float[Tensor, "B M W"], count: int, groups: int = 32) -> Float[Tensor, "B M c"]:
    """The ``count`` smallest numbers of each row, in any order.

    They all lie in the ``count`` groups whose own smallest are the smallest, so few of the columns are searched. That
    pays for many rows; of a single video's frames there are few.
    """
    size = values.shape[-1] // groups
    if len(values) == 1 or size < 4 or count >= groups or values.shape[-1] % groups:
        return smallest_ref(values, count)
    grouped = values.unflatten(-1, (size, groups))  # a group takes every 32nd column: its minimum runs along memory
    best = grouped.amin(2).topk(count, largest=False, sorted=False).indices
    candidates = grouped.gather(3, best[:, :, None].expand(-1, -1, size, -1))
    return smallest_ref(candidates.flatten(2), count)


def smallest_ref(values: Float[Tensor, "B M W"], count: int) -> Float[Tensor, "B M c"]:
    """The ``count`` smallest numbers of each row, searched for in the whole of it."""
    return values.topk(count, largest=False, sorted=False).values


def peak_distance(
    gaps: Float[Tensor, "B M M"], spread: Float[Tensor, "B M"], mask: Bool[Tensor, "B M"] | None = None
) -> Float[Tensor, "B M"]:
    """delta: the distance to the nearest point of higher density; the densest gets its largest distance.

    ``spread`` is -log rho: the smaller, the denser.

    Paper: Eq. 2.
    Departs: between equal densities the earlier index counts as the denser; as printed, exact copies would all keep a
    large delta and redundancy would stay.
    """
    order = spread.argsort(dim=-1, stable=True)
    rank = order.argsort(-1)
    rows = zip(gaps.split(BLOCK, 1), rank.split(BLOCK, 1), strict=True)
    nearest = [gap.masked_fill(rank[:, None] >= mine[..., None], torch.inf).amin(-1) for gap, mine in rows]
    if mask is None:
        farthest = gaps.amax(-1)
    else:
        from_densest = gaps.gather(1, order[:, :1, None].expand(-1, -1, gaps.shape[-1]))[:, 0]
        farthest = from_densest.masked_fill(~mask, 0).amax(-1, keepdim=True)  # no point's delta is larger
    return torch.minimum(_stack(nearest), farthest)


def beyond(to_chosen: Float[Tensor, "B L M"], neighbours: int) -> Bool[Tensor, "B L M"]:
    """What N(l) leaves out, read by Eq. 1's letter: all but the C nearest points of each representative, itself one."""
    best = to_chosen.argsort(dim=-1, stable=True)[..., :neighbours]
    return torch.ones_like(to_chosen, dtype=torch.bool).scatter_(-1, best, False)


def merge_weights(peak: Float[Tensor, "B M"], outside: Bool[Tensor, "B L M"]) -> Float[Tensor, "B L M"]:
    """Weights exp(rho * delta) of each prototype's members, normalised to 1.

    Paper: Eq. 3.
    """
    lowest = torch.finfo(peak.dtype).min
    return peak[:, None].expand(outside.shape).masked_fill(outside, lowest).softmax(-1)


def merge(weights: Float[Tensor, "B L M"], points: Float[Tensor, "B M f"]) -> Float[Tensor, "B L f"]:
    """The weighted sums of the points, in fp32."""
    first, *others = zip(weights.split(BLOCK, 2), points.split(BLOCK, 1), strict=True)
    merged = first[0] @ first[1].float()
    for weight, part in others:
        merged += weight @ part.float()
    return merged


def _stack(rows: list[Tensor]) -> Tensor:
    return rows[0] if len(rows) == 1 else torch.cat(rows, 1)
