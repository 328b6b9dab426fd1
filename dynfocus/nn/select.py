"""Eq. 4-7: score the event prototypes and keep the best, so that the language model's loss can teach the scores."""

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from dynfocus.nn.cluster import density_peaks
from dynfocus.nn.sketch import frame_vectors
from dynfocus.settings import ConnectorSettings
from dynfocus.types import Events, Focus, FrameSketch

ROUNDING = 2**-16  # relative; equal prototypes were seen to score up to 5e-6 apart


class EventPrototypeSelector(nn.Module):
    """DPE: events by density peaks, scored by a small net, the best K' of them kept.

    Shapes: a sketch [B,T,...] and ``keep`` K' [B] -> Focus with K = max K' slots.
    """

    def __init__(self, settings: ConnectorSettings, width: int) -> None:
        super().__init__()
        self.settings = settings
        self.score_net = ScoreNet(width)

    def forward(
        self,
        sketch: FrameSketch,
        keep: Int[Tensor, " B"],
        rows: Int[Tensor, " B"],
        step: int,
        relevant: Bool[Tensor, "B T"] | None = None,
    ) -> Focus:
        """Choose K' frames of each video; ``rows`` and ``step`` key the noise in training, ``relevant`` is not read."""
        events = find_events(sketch, self.settings)
        with torch.autocast(keep.device.type, enabled=False):
            scores = rescale(self.score_net(events.prototypes.float()), events.mask)
        slots, used = top_k(scores, events.mask, keep)
        if self.training and self.settings.sigma > 0:
            noise = keyed_noise(events.mask, self.settings.samples, rows, step)
            free = keep < events.mask.sum(-1)  # where all are kept, noise could only bring the gradient of its rounding
            noise = noise * free[:, None, None]
            mixture = PerturbedTopK.apply(scores, events.mask, keep, noise, self.settings.sigma)
        else:
            mixture = torch.nn.functional.one_hot(slots, scores.shape[1]).float() * used[..., None]
        return Focus(
            frames=events.frames.gather(1, slots).masked_fill(~used, 0),
            mask=used,
            pooled=mix(mixture, events.prototypes),
            grains=mix(mixture, at_frames(sketch.grains, events.frames)),
            patches=None if sketch.patches is None else mix(mixture, at_frames(sketch.patches, events.frames)),
            scores=scores,
            mixture=mixture,
            events=events,
        )


class ScoreNet(nn.Module):
    """U: an event prototype [..., P, d] -> its raw score [...]; no bias at the end, min-max would take it out again.

    Paper: Eq. 4.
    Departs: Max is the row with the largest L2 norm, a patch that exists, not the element-wise maximum.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.LayerNorm(2 * width), nn.Linear(2 * width, width // 2), nn.GELU(), nn.Linear(width // 2, 1, bias=False)
        )

    def forward(self, prototypes: Float[Tensor, "B L P d"]) -> Float[Tensor, "B L"]:
        strongest = prototypes.norm(dim=-1).argmax(-1)[..., None, None].expand(-1, -1, 1, prototypes.shape[-1])
        both = torch.cat([prototypes.gather(2, strongest)[:, :, 0], prototypes.mean(2)], -1)
        weights = {name: weight.float() for name, weight in self.net.named_parameters()}  # fp32 in any precision
        return rearrange(functional_call(self.net, weights, both), "b l 1 -> b l")


def find_events(sketch: FrameSketch, settings: ConnectorSettings) -> Events:
    """The L' = min(L, T) event prototypes of each video.

    Paper: Eq. 1-3, over the frames of a video.
    """
    clusters = density_peaks(
        frame_vectors(sketch), settings.events, settings.neighbours, sketch.mask, settings.neighbourhood
    )
    prototypes = rearrange(clusters.prototypes, "b l (p d) -> b l p d", p=settings.pooled)
    return Events(
        clusters.representatives, clusters.mask, prototypes, clusters.labels, clusters.log_density, clusters.distance
    )


def rescale(scores: Float[Tensor, "B L"], mask: Bool[Tensor, "B L"]) -> Float[Tensor, "B L"]:
    """Min-max each video's scores to [0, 1]; equal scores and padding become zeros, never NaN.

    Scores that differ by no more than fp32 rounds count as equal, else min-max would blow the rounding of a video
    without change up to the whole range.

    Paper: the normalisation after Eq. 4.
    """
    low = scores.masked_fill(~mask, torch.inf).amin(-1, keepdim=True)
    high = scores.masked_fill(~mask, -torch.inf).amax(-1, keepdim=True)
    spread = high - low
    differ = spread > ROUNDING * torch.maximum(low.abs(), high.abs())
    scaled = (scores - low) / torch.where(differ, spread, torch.ones_like(spread))
    return torch.where(mask & differ, scaled, torch.zeros_like(scaled))


def top_k(
    scores: Float[Tensor, "*B L"], mask: Bool[Tensor, "*B L"], keep: Int[Tensor, "*B"]
) -> tuple[Int[Tensor, "*B K"], Bool[Tensor, "*B K"]]:
    """The ``keep`` best prototypes in time order, and which slots are used; equal scores rank by time.

    Paper: the Top-K of Eq. 5 without noise.
    """
    slots = int(keep.max())
    best = scores.masked_fill(~mask, -torch.inf).argsort(dim=-1, descending=True, stable=True)[..., :slots]
    used = torch.arange(slots, device=scores.device) < keep[..., None]
    ordered = best.masked_fill(~used, scores.shape[-1]).sort(-1).values
    return ordered.masked_fill(~used, 0), used


def keyed_noise(mask: Bool[Tensor, "B L"], samples: int, rows: Int[Tensor, " B"], step: int) -> Float[Tensor, "B n L"]:
    """Gaussian noise keyed by (seed, step, row), so that neither batch layout nor the number of processes moves it."""
    seed = torch.initial_seed()
    noise = torch.zeros(len(mask), samples, mask.shape[1])
    for n, (row, real) in enumerate(zip(rows.tolist(), mask.sum(-1).tolist(), strict=True)):
        key = hash((seed, step, row)) & (2**63 - 1)
        noise[n, :, :real] = torch.randn(samples, real, generator=torch.Generator().manual_seed(key))
    return noise.to(mask.device)


class PerturbedTopK(torch.autograd.Function):
    """P_sigma: the mean over noise samples of the sorted top-K' as one-hot rows [B,K,L], with Eq. 7 as its gradient.

    Rows of used slots sum to 1, columns to at most 1. The [n,K,L] one-hots never exist: each sample's choice is
    counted where it falls.

    Paper: Eq. 5-7.
    Departs: the constraint set printed after Eq. 5 allows a prototype twice and in any order; this is the standard
    top-K polytope. The backward subtracts the mean over samples, which lowers the variance and leaves a bias of 1/n.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        scores: Float[Tensor, "B L"],
        mask: Bool[Tensor, "B L"],
        keep: Int[Tensor, " B"],
        noise: Float[Tensor, "B n L"],
        sigma: float,
    ) -> Float[Tensor, "B K L"]:
        batch, samples, prototypes = noise.shape
        noisy = scores.float()[:, None] + sigma * noise
        chosen, used = top_k(noisy, mask[:, None].expand_as(noisy), keep[:, None].expand(batch, samples))
        slots = chosen.shape[-1]
        cell = torch.arange(slots, device=chosen.device) * prototypes + chosen  # where [slot, prototype] is counted
        counts = torch.zeros(batch, slots * prototypes, device=scores.device)
        counts.scatter_add_(1, cell.flatten(1), used.float().flatten(1))
        ctx.save_for_backward(cell, used, noise)
        ctx.sigma = sigma  # type: ignore[attr-defined]
        return rearrange(counts, "b (k l) -> b k l", k=slots) / samples

    @staticmethod
    def backward(ctx, grad: Float[Tensor, "B K L"]):  # type: ignore[no-untyped-def]
        cell, used, noise = ctx.saved_tensors
        gained = (grad.flatten(1).gather(1, cell.flatten(1)).view_as(cell) * used).sum(-1)
        gained = gained - gained.mean(1, keepdim=True)
        return torch.einsum("bn,bnl->bl", gained, noise) / (noise.shape[1] * ctx.sigma), None, None, None, None


def mix(mixture: Float[Tensor, "B K L"], values: Float[Tensor, "B L rows d"]) -> Float[Tensor, "B K rows d"]:
    """Each slot's mixture of the prototypes' values: H = P_sigma M.

    Paper: Eq. 5.
    """
    mixed = mixture.to(values.dtype) @ rearrange(values, "b l r d -> b l (r d)")
    return rearrange(mixed, "b k (r d) -> b k r d", d=values.shape[-1])


def at_frames(values: Float[Tensor, "B T rows d"], frames: Int[Tensor, "B K"]) -> Float[Tensor, "B K rows d"]:
    """The values of the given frames."""
    return values[torch.arange(len(values), device=values.device)[:, None], frames]
