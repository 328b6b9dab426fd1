"""Measure how well a selector works, in pure functions of its choice, each with the equation it computes."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dynfocus.method.distances import median_distance
from dynfocus.method.events import frame_vectors
from dynfocus.method.topk import eq7, gains
from dynfocus.types import Focus, FrameSketch

MaskedValues = tuple[
    Float[Tensor, " B"], Bool[Tensor, " B"]
]  # a number for each video, and where that number has a meaning


def one_hot_choice(focus: Focus) -> Bool[Tensor, "B K L"]:
    """Return the hard choice as one-hot rows over the prototypes; the rows of unused slots are zero."""
    events = focus.events
    assert events is not None
    same_frame = (focus.frames[..., None] == events.frames[:, None]) & events.mask[:, None]
    return same_frame & focus.mask[..., None]


def has_choice(focus: Focus) -> Bool[Tensor, " B"]:
    """Return where there was a choice: K' < L'. Images, text-only rows, K/L = 1 and short videos have none."""
    assert focus.events is not None
    return focus.mask.sum(-1) < focus.events.mask.sum(-1)


def entropy(scores: Float[Tensor, "B L"], mask: Bool[Tensor, "B L"]) -> Float[Tensor, " B"]:
    """Compute how evenly the scores are spread over a video's prototypes, in [0, 1].

    H = -sum_l p_l log p_l / log L' with p_l = s_l / sum_j s_j, the min-max scores of Eq. 4 read as shares: 1 where all
    prototypes share alike, 0 where one has all. Constant scores, which min-max makes zeros, count as 1.
    """
    real_scores = scores * mask
    total = real_scores.sum(-1, keepdim=True)
    real = mask.sum(-1, keepdim=True)
    share = torch.where(total == 0, mask / real, real_scores / total.clamp(min=torch.finfo(real_scores.dtype).tiny))
    return torch.special.entr(share).sum(-1) / real[:, 0].clamp(min=2).log()


def spread(scores: Float[Tensor, "B L"], mask: Bool[Tensor, "B L"]) -> Float[Tensor, " B"]:
    """Compute the standard deviation of a video's scores: sqrt(mean_l (s_l - mean s)^2), 0 if constant, at most 1/2."""
    real = mask.sum(-1, keepdim=True)
    mean = (scores * mask).sum(-1, keepdim=True) / real
    return (((scores - mean) ** 2 * mask).sum(-1) / real[:, 0]).sqrt()


def soft_hard_gap(mixture: Float[Tensor, "B K L"], hard: Bool[Tensor, "B K L"]) -> Float[Tensor, " B"]:
    """Compute how far training's soft choice is from the hard one of an answer, in [0, 1].

    The mean over the K' slots of 1/2 sum_l |P_kl - H_kl|, where P is P_sigma (Eq. 6) and H the one-hot rows of the
    Top-K without noise: the share of the noise samples that put another prototype into the slot.
    """
    used = hard.any(-1)
    apart = (mixture - hard.float()).abs().sum(-1) / 2
    return (apart * used).sum(-1) / used.sum(-1)


def never_kept(mixture: Float[Tensor, "B K L"], mask: Bool[Tensor, "B L"]) -> Float[Tensor, " B"]:
    """Compute the share of a video's L' prototypes that no noise sample kept: (1/L') sum_l 1[sum_k P_kl = 0].

    The language model never sees these, so no gradient can raise their scores. Without noise it would be 1 - K'/L';
    the nearer to that, the less the noise explores.
    """
    return ((mixture.sum(1) == 0) & mask).sum(-1) / mask.sum(-1)


def hit_rate(kept: Bool[Tensor, "B T"], relevant: Bool[Tensor, "B T"]) -> MaskedValues:
    """Compute the share of a video's relevant runs of frames with a kept frame; known where there is such a run."""
    starts = relevant & ~torch.nn.functional.pad(relevant, (1, 0))[:, :-1]
    run = starts.cumsum(-1) * relevant  # 0 outside, else the number of the run
    hits = torch.zeros(len(run), run.shape[1] + 1, device=run.device).scatter_add_(1, run, kept.float())
    runs = starts.sum(-1)
    return (hits[:, 1:] > 0).sum(-1) / runs.clamp(min=1), runs > 0


def signal_and_noise(
    gained: Float[Tensor, "B n"], noise: Float[Tensor, "B n L"], sigma: float
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Estimate, for each video's gradient (Eq. 7), the square of its mean and the variance that n samples leave in it.

    With g1 and g2 of either half of the samples, independent of each other, E[g1 g2] = |E g|^2, and the variance of
    their mean g is E|g1 - g2|^2 / 4. Both are estimated without bias but for Eq. 7's own factor 1 - 2/n, as each half
    subtracts its own mean; the first may come out negative. Sum each over many videos before dividing: their ratio is
    the signal-to-noise ratio in power, 1 where a gradient is as much noise as signal. A last odd sample is left out.
    """
    half = noise.shape[1] // 2
    first, second = (eq7(gained[:, part], noise[:, part], sigma) for part in (slice(half), slice(half, 2 * half)))
    return (first * second).sum(-1), (first - second).square().sum(-1) / 4


def report_gradient(mixture: Tensor, report: Callable[[Tensor], None]) -> None:
    """Report [B,2] when the backward pass reaches P_sigma: `signal_and_noise` of the gradient that the scores get.

    The gradient is read and not changed. One noise sample has no halves: then nothing is reported.
    """
    node: Any = mixture.grad_fn
    (cell, one, noise), sigma = node.saved_tensors, node.sigma

    def report_signal(grad: Tensor) -> None:
        if noise.shape[1] > 1:
            report(torch.stack(signal_and_noise(gains(grad, cell, one), noise, sigma), -1))

    mixture.register_hook(report_signal)


def measure_selector(
    focus: Focus, relevant: Bool[Tensor, "B T"] | None, sketch: FrameSketch | None = None
) -> dict[str, MaskedValues]:
    """Compute all numbers of a selector's choice that need no gradient; none where it scores no events.

    ``distance`` is the median distance between the sketch's frames, before any scaling; see `median_distance`.
    """
    if focus.scores is None or focus.events is None:
        return {}
    mask, chooses = focus.events.mask, has_choice(focus)
    spreads = spread(focus.scores, mask)
    metrics = {"entropy": (entropy(focus.scores, mask), chooses), "score_spread": (spreads, chooses)}
    metrics["constant"] = (
        (~(spreads > 0)).float(),
        chooses,
    )  # NaN scores, with which training goes on, count as constant
    if focus.mixture is not None:
        metrics["soft_hard_gap"] = soft_hard_gap(focus.mixture, one_hot_choice(focus)), chooses
        metrics["never_kept"] = never_kept(focus.mixture, mask), chooses
    if sketch is not None:
        median = median_distance(frame_vectors(sketch), sketch.mask)
        metrics["distance"] = median.nan_to_num(), chooses & ~median.isnan()
    if relevant is not None:
        rate, is_known = hit_rate(focus.kept(relevant.shape[1]), relevant)
        metrics["hit_rate"] = rate, is_known & chooses
    return metrics
