"""Keep frames by how well they fit the question alone."""

import math
from bisect import bisect_left
from itertools import accumulate

import torch
from jaxtyping import Float
from torch import Tensor

from dynfocus.errors import ConfigError
from dynfocus.method.relevance import measure_relevance
from dynfocus.method.score import rescale
from dynfocus.method.selectors.base import FrameSelector
from dynfocus.method.selectors.sets import SetSelector
from dynfocus.method.topk import draw_keyed_noise
from dynfocus.settings import ConnectorSettings
from dynfocus.types import FrameSketch, SelectorInputs


class TextTopKSelector(FrameSelector):
    """The frames that fit the question best; O(T R d), without training.

    Source: Top-K by CLIP's similarity, the usual baseline of works on frame selection.
    """

    reads = "question"

    def rank(self, sketch: FrameSketch, inputs: SelectorInputs) -> Float[Tensor, "B T"]:
        return measure_relevance(sketch, inputs)


class AKSSelector(SetSelector):
    """AKS: the best frames of a stretch where they stand out, else as many of each half, and so on.

    The relevance is scaled to [0, 1] over the video; all equal, it becomes 0. A stretch with a budget of k frames keeps
    its k best if their mean is above the mean of the stretch by ``threshold``; else it is halved. An odd frame goes to
    the half with the better best frame. O(T log T).

    Args:
        threshold: how far the best must stand out; 0 keeps the best frames everywhere (relevance alone), 1 or more
            always halves (coverage alone).
        depth: how often a stretch is halved at most.

    Source: Tang et al., Adaptive Keyframe Sampling for Long Video Understanding, CVPR 2025.
    Departs: any budget, not powers of two alone; no division by zero where all frames fit alike.
    """

    reads = "question"

    def __init__(
        self, settings: ConnectorSettings, width: int, text_width: int, threshold: float = 0.6, depth: int = 5
    ) -> None:
        super().__init__(settings, width, text_width)
        if depth < 0:
            raise ConfigError(f"depth = {depth}", "at least 0", "Correct init_args of the selector.")
        self.threshold, self.depth = threshold, depth

    def choose(self, frames: Tensor, keep: int, relevance: Tensor | None) -> list[int]:
        assert relevance is not None
        return self._choose_in(rescale(relevance[None])[0].double().tolist(), 0, keep, self.depth)

    def _choose_in(self, fit: list[float], start: int, keep: int, depth: int) -> list[int]:
        """The kept frames of a stretch that begins at frame ``start``."""
        best = sorted(range(len(fit)), key=lambda place: (-fit[place], place))[:keep]
        stands_out = not fit or sum(fit[n] for n in best) / max(keep, 1) - sum(fit) / len(fit) >= self.threshold
        if depth == 0 or keep <= 1 or keep == len(fit) or stands_out:
            return [start + place for place in best]
        middle = len(fit) // 2
        left, right = fit[:middle], fit[middle:]
        first = keep // 2 + (keep % 2 if max(left) >= max(right) else 0)
        first = min(max(first, keep - len(right)), len(left))
        return self._choose_in(left, start, first, depth - 1) + self._choose_in(
            right, start + middle, keep - first, depth - 1
        )


class BOLTSelector(SetSelector):
    """BOLT: frames at equal shares of the summed relevance (inverse-transform sampling).

    The relevance, scaled to [0, 1] and raised to ``power``, is read as a distribution over time; the kept frames are
    those where its sum reaches the middles of K' equal shares. A frame that several shares fall on is kept once, and
    the frames that fit best of the others are added. Where all fit alike, they stand at equal distances. O(T log T).

    Args:
        power: above 1, frames that fit well get more of the shares; 0 gives equal distances.

    Source: Liu et al., BOLT: Boost Large Vision-Language Model Without Training for Long-form Video Understanding,
        CVPR 2025.
    Departs: no frame twice, and no division by zero where all frames fit alike.
    """

    reads = "question"

    def __init__(self, settings: ConnectorSettings, width: int, text_width: int, power: float = 3.0) -> None:
        super().__init__(settings, width, text_width)
        if not 0 <= power < float("inf"):
            raise ConfigError(f"power = {power}", "a number from 0 on", "Correct init_args of the selector.")
        self.power = power

    def choose(self, frames: Tensor, keep: int, relevance: Tensor | None) -> list[int]:
        assert relevance is not None
        weights = [fit**self.power for fit in rescale(relevance[None])[0].double().tolist()]
        if not math.fsum(weights) > 0:
            weights = [1.0] * len(weights)
        sums = list(accumulate(weights))
        kept = sorted({bisect_left(sums, (2 * n + 1) / (2 * keep) * sums[-1]) for n in range(keep)})
        others = sorted(set(range(len(weights))) - set(kept), key=lambda place: (-weights[place], place))
        return kept + others[: keep - len(kept)]


class QFrameSelector(FrameSelector):
    """Q-Frame: frames drawn without replacement, each as likely as the softmax of its relevance (Gumbel Top-K).

    The draw follows from seed and row: a question keeps the same frames whenever it is asked. O(T R d).

    Args:
        temperature: divides the relevance; near 0 the best frames are kept, large values draw at random.
        draw: which of many independent draws.

    Source: Zhang et al., Q-Frame: Query-aware Frame Selection and Multi-Resolution Adaptation for Video-LLMs,
        ICCV 2025.
    Departs: one resolution; every kept frame costs the same number of tokens.
    """

    reads = "question"

    def __init__(
        self, settings: ConnectorSettings, width: int, text_width: int, temperature: float = 0.05, draw: int = 0
    ) -> None:
        super().__init__(settings, width, text_width)
        if not 0 < temperature < float("inf") or draw < 0:
            raise ConfigError(
                f"temperature = {temperature} and draw = {draw}",
                "a temperature above 0, and a draw from 0 on",
                "Correct init_args of the selector.",
            )
        self.temperature, self.draw = temperature, draw

    def rank(self, sketch: FrameSketch, inputs: SelectorInputs) -> Float[Tensor, "B T"]:
        normal = draw_keyed_noise(inputs.frames, sketch.mask.shape[1], 1, inputs.rows, self.draw)[:, 0]
        # Phi(z) of a normal number is uniform, and -log(-log u) of a uniform one is Gumbel's.
        gumbel = -torch.log(-torch.special.log_ndtr(normal.double()))
        return measure_relevance(sketch, inputs).double() / self.temperature + gumbel
