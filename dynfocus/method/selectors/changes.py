"""Keep frames by what changes from one frame to the next."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from dynfocus.method.selectors.base import FrameSelector
from dynfocus.method.selectors.pairs import distances_within
from dynfocus.method.selectors.sets import SetSelector
from dynfocus.types import FrameSketch, SelectorInputs


class FrameDifferenceSelector(FrameSelector):
    """The frames that differ most from the frame before them; the first frame has no difference. O(T f).

    Source: the oldest way to find key frames, as in Zhang et al., Automatic partitioning of full-motion video, 1993.
    """

    def rank(self, sketch: FrameSketch, inputs: SelectorInputs) -> Float[Tensor, "B T"]:
        pooled = sketch.pooled.float()
        return torch.nn.functional.pad((pooled[:, 1:] - pooled[:, :-1]).square().mean((2, 3)), (1, 0))


class SceneChangeSelector(SetSelector):
    """The middle frames of K' scenes; a scene ends where one of the K' - 1 largest differences between neighbours is.

    O(T f).

    Source: shot boundaries by frame difference, with one key frame a shot.
    """

    def choose(self, frames: Tensor, keep: int, relevance: Tensor | None) -> list[int]:
        change = (frames[1:] - frames[:-1]).square().mean(1)
        cuts = change.sort(descending=True, stable=True).indices[: keep - 1] + 1
        edges = [0, *cuts.sort().values.tolist(), len(frames)]
        return [(start + stop - 1) // 2 for start, stop in pairwise(edges)]


class RedundancyDropSelector(SetSelector):
    """What is left when, again and again, the frame that is most like the remaining frame before it is dropped.

    O(T^2 f).

    Source: MovieChat (Song et al., CVPR 2024), whose memory joins the most similar neighbours.
    Departs: the two frames are not merged; the earlier one stays.
    """

    def choose(self, frames: Tensor, keep: int, relevance: Tensor | None) -> list[int]:
        distances, left = distances_within(frames), list(range(len(frames)))
        while len(left) > keep:
            gaps = distances[left[:-1], left[1:]]
            del left[int(gaps.argmin()) + 1]
        return left
