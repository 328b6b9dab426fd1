"""Measure squared distances of many points block by block, find exact copies among them and the smallest distances.

A mask is true at real points and false at padding; None says that there is no padding.
"""

from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

BLOCK = 512  # points that are in fp32 at once, and rows of distances that are compared at once
PANEL = 128  # rows of distances that one matrix product computes
SLICE = 1408  # numbers of each point that are in fp32 at once, where there are more points than a block


def blocks(values: Tensor, dim: int = 1) -> tuple[Tensor, ...]:
    """Split points into views of at most ``BLOCK`` each."""
    return values.split(BLOCK, dim)


def join(parts: list[Tensor]) -> Tensor:
    """Put the blocks' results together along the points; a single one is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def squared_distances(
    points: Float[Tensor, "B M f"], mask: Bool[Tensor, "B M"] | None = None
) -> Float[Tensor, "B M M"]:
    """D: the squared distance of every two points, averaged over their f numbers; infinite at padding.

    Departs: the paper divides by the number of rows P alone; at width 1408 every density then underflows to zero and
    all points tie, so the width divides too.
    """
    # |x|^2 - 2 x.y + |y|^2 loses its digits where points are close to each other and far from the origin, as patches
    # are that share a few large channels. Distances stay the same when one centre is subtracted from all points, and
    # the lengths become small. Any centre near the mean does, so the mean of the blocks' means is good enough.
    centre = _centre(points, mask)
    distances = _of_few(points, centre, mask) if points.shape[1] <= BLOCK else _of_many(points, centre, mask)
    distances.clamp_(min=0).diagonal(dim1=1, dim2=2).zero_()  # rounding goes below 0
    return distances


def distances_from(
    points: Float[Tensor, "B M f"],
    some: Int[Tensor, "B L"],
    first: Int[Tensor, "B M"],
    mask: Bool[Tensor, "B M"] | None = None,
) -> Float[Tensor, "B L M"]:
    """D from some of the points to all of them, in O(L M f).

    ``first`` is the first point that each is a copy of, where they were compared: these are as far to the bit.
    """
    batch, count, width = points.shape
    centre, lengths = _centre(points, mask), torch.zeros(batch, count, device=points.device)
    distances = torch.zeros(*some.shape, count, device=points.device)
    for part, middle in zip(points.split(SLICE, -1), centre.split(SLICE, -1), strict=True):
        x = part.to(torch.float32, copy=True).sub_(middle)
        lengths += _squared_lengths(x, mask)
        distances.baddbmm_(at_points(x, some), x.mT, alpha=-2 / width)
    distances.add_(lengths[:, None], alpha=1 / width).add_(lengths.gather(1, some)[..., None], alpha=1 / width)
    copies = first_copies(at_points(points, some))[..., None]
    distances = distances.clamp_(min=0).gather(1, copies.expand_as(distances))
    return distances.gather(2, first[:, None].expand_as(distances))


def at_points(points: Float[Tensor, "B M f"], some: Int[Tensor, "B L"]) -> Float[Tensor, "B L f"]:
    """Some of the points of each set."""
    return points.gather(1, some[..., None].expand(-1, -1, points.shape[-1]))


def _centre(points: Float[Tensor, "B M f"], mask: Bool[Tensor, "B M"] | None) -> Float[Tensor, "B 1 f"]:
    if mask is not None:
        return weighted_sums((mask / mask.sum(-1, keepdim=True))[:, None], points)
    means = [part.mean(1, keepdim=True, dtype=torch.float32) for part in blocks(points)]
    return means[0] if len(means) == 1 else torch.stack(means).mean(0)


# A matrix product rounds x.y and y.x differently. Both ends of a distance must see the same number, or the order of
# points of equal density would hang on where they stand in the product. So both are one number of the two, and where
# points are many only the panels below the diagonal are computed.


def _of_few(
    points: Float[Tensor, "B M f"], centre: Float[Tensor, "B 1 f"], mask: Bool[Tensor, "B M"] | None
) -> Float[Tensor, "B M M"]:
    batch, count, width = points.shape
    x = points.float() - centre
    lengths = _squared_lengths(x, mask)
    multiply = partial(torch.baddbmm, beta=1 / width, alpha=-2 / width)
    if count < 2 * PANEL:
        distances = multiply(lengths[:, None], x, x.mT).add_(lengths[..., None], alpha=1 / width)
        return torch.maximum(distances, distances.mT)
    distances = torch.empty(batch, count, count, device=points.device)
    for rows, columns in _panels(count):
        multiply(lengths[:, None, columns], x[:, rows], x[:, columns].mT, out=distances[:, rows, columns])
    distances.add_(lengths[..., None], alpha=1 / width).tril_(-1)
    return distances + distances.mT


def _of_many(
    points: Float[Tensor, "B M f"], centre: Float[Tensor, "B 1 f"], mask: Bool[Tensor, "B M"] | None
) -> Float[Tensor, "B M M"]:
    batch, count, width = points.shape
    lengths = torch.zeros(batch, count, device=points.device)
    distances = torch.zeros(batch, count, count, device=points.device)
    for part, middle in zip(points.split(SLICE, -1), centre.split(SLICE, -1), strict=True):
        x = part.to(torch.float32, copy=True).sub_(middle)  # in slices, as all points in fp32 would be too large
        lengths += _squared_lengths(x, mask)
        for rows, columns in _panels(count):
            distances[:, rows, columns].baddbmm_(x[:, rows], x[:, columns].mT, alpha=-2 / width)
    distances.add_(lengths[:, None], alpha=1 / width).add_(lengths[..., None], alpha=1 / width)
    for rows, _ in _panels(count):  # in place, as a second D would be too large
        square = distances[:, rows, rows].tril_(-1)
        square.copy_(square + square.mT)
        distances[:, : rows.start, rows] = distances[:, rows, : rows.start].mT
    return distances


def _panels(count: int) -> list[tuple[slice, slice]]:
    """Rows of D and their columns up to the diagonal, which hold every distance once."""
    ends = [min(start + PANEL, count) for start in range(0, count, PANEL)]
    return [(slice(start, end), slice(0, end)) for start, end in zip(range(0, count, PANEL), ends, strict=True)]


def _squared_lengths(x: Float[Tensor, "B M f"], mask: Bool[Tensor, "B M"] | None) -> Float[Tensor, "B M"]:
    lengths = torch.linalg.vector_norm(x, dim=-1).square()  # squares of all numbers would be a second copy of x
    return lengths if mask is None else lengths.masked_fill(~mask, torch.inf)


def first_copies(points: Float[Tensor, "B M f"]) -> Int[Tensor, "B M"]:
    """The first point that each point is an exact copy of; itself where there is none before it.

    Two points are taken as copies if a digest of 64 bits is the same: comparing all numbers of every two points would
    take as long as the distances themselves.
    """
    rows = points.contiguous()
    size = rows.shape[-1] * rows.element_size()
    words = rows.view(torch.int64 if size % 8 == 0 else torch.int32 if size % 4 == 0 else torch.int16)
    key = torch.Generator().manual_seed(0)
    weights = torch.randint(2**62, (words.shape[-1],), generator=key).to(rows.device)
    # The digest is a sum of words times random numbers. It is taken of the bits, as whole numbers that wrap around: the
    # same on every device and in every order of summing, which no sum of floats is. The highest bit of a word alone
    # would reach only the highest bit of the sum, so the high half of each word is first mixed into its low half.
    mixed = (part.long().bitwise_right_shift(29).bitwise_xor_(part) for part in blocks(words))
    digest = join([part.mul_(weights).sum(-1) for part in mixed])
    return join([(part[..., None] == digest[:, None]).byte().argmax(-1) for part in blocks(digest)])


def first_near_copies(points: Float[Tensor, "B L f"]) -> Int[Tensor, "B L"]:
    """The first point that each point is equal to but for rounding, as prototypes with the same members are."""
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    length = torch.linalg.vector_norm(points, dim=-1, keepdim=True)
    return (distances <= 1e-5 * length).byte().argmax(-1)


def equalise_copies(distances: Float[Tensor, "B M M"], first: Int[Tensor, "B M"]) -> Float[Tensor, "B M M"]:
    """D with every distance taken between the first copies of its two points; overwrites D where it is large.

    The rounding of a matrix product depends on where a row stands in it, so copies are not alike in D to the bit. Only
    after this step do they tie in everything that follows.
    """
    if distances.shape[1] <= BLOCK:
        return distances.gather(2, first[:, None].expand_as(distances)).gather(1, first[..., None].expand_as(distances))
    # A second D would not fit beside the first where it is large. Writing in place is safe: a first copy is its own
    # first copy, so the columns, and then the rows, that the others are taken from do not change.
    for rows in blocks(distances):
        rows.copy_(rows.gather(2, first[:, None].expand_as(rows)))
    for rows, own in zip(blocks(distances), blocks(first), strict=True):
        rows.copy_(distances.gather(1, own[..., None].expand_as(rows)))
    return distances


def divide_by_mean(distances: Float[Tensor, "B M M"], mask: Bool[Tensor, "B M"] | None) -> Float[Tensor, "B M M"]:
    """D of each set over its mean between different points; overwrites D. Where all are copies, D stays 0."""
    sums = torch.stack([part.masked_fill(part.isinf(), 0).sum((1, 2)) for part in blocks(distances)]).sum(0)
    count = distances.shape[1] if mask is None else mask.sum(-1)
    mean = sums / (count * (count - 1) + (count == 1))  # one point has no distance
    return distances.div_(mean.clamp(min=torch.finfo(mean.dtype).tiny)[:, None, None])


def median_distance(points: Float[Tensor, "B M f"], mask: Bool[Tensor, "B M"], most: int = 64) -> Float[Tensor, " B"]:
    """The median of D between different real points of each set, of at most ``most`` evenly chosen; NaN for one point.

    It says where the densities of Eq. 1 lie: exp(-D) tells points apart while D is about 1.
    """
    step = -(-points.shape[1] // most)
    points, mask = points[:, ::step], mask[:, ::step]
    distances = squared_distances(points, mask)
    same = torch.eye(points.shape[1], dtype=torch.bool, device=points.device)
    return distances.masked_fill(same | ~mask[:, None] | ~mask[..., None], torch.nan).flatten(1).nanmedian(-1).values


def smallest(values: Float[Tensor, "B M W"], count: int, groups: int = 32) -> Float[Tensor, "B M c"]:
    """The ``count`` smallest numbers of each row, in any order.

    On a CPU NumPy partitions long rows in a fifth of the time of torch's topk (a tensor subclass, such as one without
    numbers that `plan` counts with, has no array). Elsewhere the smallest all lie in the ``count`` groups of columns
    whose own minimum is smallest: each group that is left out has only numbers at least as large as these minima. So
    the costly search runs over few of the columns. That pays for the patches of many frames; a single video has too few
    rows.
    """
    size = values.shape[-1] // groups
    long = size >= 4 and (len(values) > 1 or values.shape[-1] > BLOCK)
    if long and type(values) is Tensor and values.device.type == "cpu":
        rows = (np.partition(part.numpy(), count - 1, -1)[..., :count] for part in blocks(values))
        return join([torch.from_numpy(part) for part in rows])
    if len(values) > 1 and size >= 4 and count < groups and values.shape[-1] % groups == 0:
        grouped = values.unflatten(-1, (size, groups))  # a group takes every 32nd column: its minimum runs along memory
        best = grouped.amin(2).topk(count, largest=False, sorted=False).indices
        values = grouped.gather(3, best[:, :, None].expand(-1, -1, size, -1)).flatten(2)
    return values.topk(count, largest=False, sorted=False).values


def weighted_sums(weights: Float[Tensor, "B L M"], points: Float[Tensor, "B M f"]) -> Float[Tensor, "B L f"]:
    """The weighted sums of the points, in fp32."""
    first, *others = zip(blocks(weights, 2), blocks(points), strict=True)
    sums = first[0] @ first[1].float()
    for weight, part in others:
        sums += weight @ part.float()
    return sums
