"""Compare the frames of one video with each other, as selectors of sets do."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from dynfocus.method.distances import equalise_copies, first_copies, squared_distances


def distances_within(frames: Float[Tensor, "T f"]) -> Float[Tensor, "T T"]:
    """The root mean square difference of every two frames; exact copies are alike to the bit. O(T^2 f)."""
    points = frames[None]
    return equalise_copies(squared_distances(points), first_copies(points))[0].sqrt()


def cosines_within(frames: Float[Tensor, "T f"]) -> Float[Tensor, "T T"]:
    """The cosine of every two frames in fp64, a positive semi-definite matrix but for rounding. O(T^2 f)."""
    rows = normalize(frames.double(), dim=-1)
    return equalise_copies((rows @ rows.mT)[None], first_copies(frames[None]))[0]


def add_farthest(kept: list[int], distances: Float[Tensor, "T T"], keep: int) -> list[int]:
    """``kept`` and, until they are ``keep``, the frame farthest from the kept ones; of equal ones the earliest."""
    nearest = distances[kept].amin(0)
    nearest[kept] = -1
    while len(kept) < keep:
        kept = [*kept, int(nearest.argmax())]
        nearest = torch.minimum(nearest, distances[kept[-1]])
        nearest[kept[-1]] = -1
    return kept
