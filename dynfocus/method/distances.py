"""Measure squared distances of many points block by block, find exact copies among them and the smallest distances.

A mask is true at real points and false at padding; None says that there is no padding.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

BLOCK = 512  # points that are in fp32 at once, and rows of distances that are compared at once


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
    parts = blocks(points)
    # |x|^2 - 2 x.y + |y|^2 loses its digits where points are close to each other and far from the origin, as patches
    # are that share a few large channels. Distances stay the same when one centre is subtracted from all points, and
    # the lengths become small. Any centre near the mean does, so the mean of the blocks' means is good enough.
    if mask is None:
        means = [part.mean(1, keepdim=True, dtype=torch.float32) for part in parts]
        centre = means[0] if len(means) == 1 else sum(means) / len(means)
    else:
        centre = weighted_sums((mask / mask.sum(-1, keepdim=True))[:, None], points)

    def centred(n: int) -> tuple[Float[Tensor, "B m f"], Float[Tensor, "B m"]]:
        x = parts[n].float() - centre
        lengths = torch.linalg.vector_norm(x, dim=-1).square()  # squares of all numbers would be a second copy of x
        return x, lengths if mask is None else lengths.masked_fill(~blocks(mask)[n], torch.inf)

    if len(parts) == 1:
        return _within(*centred(0))
    distances = torch.empty(len(points), points.shape[1], points.shape[1], device=points.device)
    for i in range(len(parts)):
        rows, (x, lengths) = slice(i * BLOCK, (i + 1) * BLOCK), centred(i)
        distances[:, rows, rows] = _within(x, lengths)
        for j in range(i):  # half of the blocks, and the other half from them: both must tie to the bit
            columns = slice(j * BLOCK, (j + 1) * BLOCK)
            distances[:, rows, columns] = _between(x, lengths, *centred(j))
            distances[:, columns, rows] = distances[:, rows, columns].mT
    return distances


def _within(x: Float[Tensor, "B a f"], lengths: Float[Tensor, "B a"]) -> Float[Tensor, "B a a"]:
    distances = _between(x, lengths, x, lengths)
    # A matrix product rounds x.y and y.x differently. Both ends of a distance must see the same number, or the order of
    # points of equal density would hang on where they stand in the product.
    distances = torch.maximum(distances, distances.mT)
    distances.diagonal(dim1=1, dim2=2).zero_()
    return distances


def _between(
    x: Float[Tensor, "B a f"],
    x_lengths: Float[Tensor, "B a"],
    y: Float[Tensor, "B b f"],
    y_lengths: Float[Tensor, "B b"],
) -> Float[Tensor, "B a b"]:
    distances = torch.baddbmm(y_lengths[:, None], x, y.mT, beta=1 / x.shape[-1], alpha=-2 / x.shape[-1])
    return distances.add_(x_lengths[..., None], alpha=1 / x.shape[-1]).clamp_(min=0)  # rounding goes below 0


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

    They all lie in the ``count`` groups of columns whose own minimum is smallest: each group that is left out has only
    numbers at least as large as these minima. So the costly search runs over few of the columns. That pays for the
    patches of many frames; a single video has too few rows.
    """
    size = values.shape[-1] // groups
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
