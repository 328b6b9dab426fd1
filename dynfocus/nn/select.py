"""Eq. 4-7: score the event prototypes and keep the best, so that the language model's loss can teach the scores."""

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import linear

from dynfocus.errors import FeatureError
from dynfocus.nn.events import find_events
from dynfocus.settings import ConnectorSettings
from dynfocus.types import Cues, Focus, FrameSketch


class EventPrototypeSelector(nn.Module):
    """DPE: events by density peaks, scored by a small net, the best K' of them kept.

    Shapes: a sketch [B,T,...] and K' [B] of the cues -> Focus with K = max K' slots.
    """

    def __init__(self, settings: ConnectorSettings, width: int, text_width: int) -> None:
        super().__init__()
        self.settings = settings
        self.score_net = ScoreNet(width)
        self.score_question = LateInteraction(width, text_width) if settings.score_reads_question else None

    def forward(self, sketch: FrameSketch, cues: Cues) -> Focus:
        """Choose K' frames of each video; in training each slot holds a mixture of events, else the event itself."""
        padded = min(cues.frames) < sketch.mask.shape[1]
        events = find_events(sketch, self.settings, padded)
        mask = events.mask if padded else None
        with torch.autocast(sketch.mask.device.type, enabled=False):
            raw = self.score_net(events.prototypes)
            if self.score_question is not None:
                grains = at_frames(sketch.grains, events.frames).float()
                raw = raw + self.score_question(grains, cues.question, cues.question_mask)
            scores = rescale(raw.gather(1, events.first), mask)  # copies are scored alike, to the bit
        slots, used = top_k(scores, cues.keep, mask)
        frames = events.frames.gather(1, slots)
        if used is None:
            used = torch.ones_like(frames, dtype=torch.bool)
        else:
            frames = frames * used
        if self.training and self.settings.sigma > 0:
            noise = self.noise(cues, scores)
            mixture = PerturbedTopK.apply(scores, noise, self.settings.sigma, cues.keep, mask)
            patches = patches_of(sketch, events.frames, events.mask)
            pooled = mix(mixture, events.prototypes)
            grains = mix(mixture, at_frames(sketch.grains, events.frames).float())
            patches = None if patches is None else mix(mixture, patches.float())
        else:
            mixture, patches = None, patches_of(sketch, frames, used)
            pooled, grains = at_frames(events.prototypes, slots), at_frames(sketch.grains, frames).float()
        return Focus(frames, used, pooled, grains, patches, scores, mixture, events)

    def noise(self, cues: Cues, scores: Float[Tensor, "B L"]) -> Float[Tensor, "B n L"]:
        """Noise for the scores; none where all events are kept: there it could only bring the gradient of rounding."""
        events = [min(self.settings.events, frames) for frames in cues.frames]
        free = [count if kept < count else 0 for count, kept in zip(events, cues.keep, strict=True)]
        return keyed_noise(free, scores.shape[1], self.settings.samples, cues.rows, cues.step)


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


class LateInteraction(nn.Module):
    """What the question adds to the scores: how well each of its tokens finds itself in an event's grains.

    Per event, the sum over tokens r of g_r max_i <A q_r, B z_i> / sqrt(m): z_i are the grains of its representative, g
    is a softmax over the tokens, A and B begin as identities, cut to the smaller width m. This pays off where words and
    patches share a space.

    Shapes: grains [B,L,G,d] and question [B,R,d'] -> [B,L], in fp32.

    Departs: an extension; the paper's score net sees no question.
    """

    def __init__(self, width: int, text_width: int) -> None:
        super().__init__()
        self.text = TruncatedIdentity(text_width, min(width, text_width), bias=False)
        self.grain = TruncatedIdentity(width, min(width, text_width), bias=False)
        self.gate = nn.Linear(text_width, 1)

    def forward(
        self, grains: Float[Tensor, "B L G d"], question: Float[Tensor, "B R e"], mask: Bool[Tensor, "B R"]
    ) -> Float[Tensor, "B L"]:
        tokens = linear(question.float(), self.text.weight.float())
        parts = linear(grains, self.grain.weight.float())
        fit = torch.einsum("brm,blgm->blrg", tokens, parts).amax(-1) / tokens.shape[-1] ** 0.5
        gate = linear(question.float(), self.gate.weight.float(), self.gate.bias.float())[..., 0]
        share = gate.masked_fill(~mask, -torch.inf).softmax(-1)
        return torch.einsum("blr,br->bl", fit, share)


class TruncatedIdentity(nn.Linear):
    """A linear layer that begins by handing on the first of its inputs as they are."""

    def reset_parameters(self) -> None:
        nn.init.eye_(self.weight)


def rescale(scores: Float[Tensor, "B L"], mask: Bool[Tensor, "B L"] | None = None) -> Float[Tensor, "B L"]:
    """Min-max each video's scores to [0, 1]; equal scores and padding become zeros, never NaN.

    Paper: the normalisation after Eq. 4.
    """
    real = scores if mask is None else torch.where(mask, scores, scores[:, :1])
    low, high = real.aminmax(dim=-1, keepdim=True)
    spread = high - low
    scaled = (real - low) / spread.clamp(min=torch.finfo(spread.dtype).tiny)
    return scaled * (spread > 0 if mask is None else mask & (spread > 0))


def top_k(
    scores: Float[Tensor, "B *n L"], keep: Sequence[int], mask: Bool[Tensor, "B L"] | None = None
) -> tuple[Int[Tensor, "B *n K"], Bool[Tensor, "B *n K"] | None]:
    """The K' best prototypes of each video in time order; equal scores rank by time.

    Beside them stands which slots are used; None where all are, as in videos of one length.

    Paper: the Top-K of Eq. 5 without noise.
    """
    between = (1,) * (scores.ndim - 2)
    if mask is not None:
        scores = scores.masked_fill(~mask.unflatten(0, (-1, *between)), -torch.inf)
    best = scores.sort(dim=-1, descending=True, stable=True).indices[..., : max(keep)]
    if min(keep) == max(keep):
        return best.sort(-1).values, None
    slot = torch.arange(max(keep), device=scores.device)
    used = slot < torch.tensor(keep, device=scores.device).unflatten(0, (-1, *between, 1))
    ordered = best.masked_fill(~used, scores.shape[-1]).sort(-1).values
    return ordered.masked_fill(~used, 0), used.expand_as(best)


def keyed_noise(
    counts: Sequence[int], width: int, samples: int, rows: Int[Tensor, " B"], step: int
) -> Float[Tensor, "B n {width}"]:
    """Gaussian noise for the first ``counts`` columns of each row, zeros for the others.

    It is keyed by (seed, step, row), so that neither batch layout nor the number of processes moves it.
    """
    noise = np.zeros((len(counts), samples, width), dtype=np.float32)
    for n, (row, count) in enumerate(zip(rows.tolist(), counts, strict=True)):
        generator = np.random.default_rng((torch.initial_seed(), step, row))
        noise[n, :, :count] = generator.standard_normal((samples, count), dtype=np.float32)
    return torch.from_numpy(noise).to(rows.device)


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
        noise: Float[Tensor, "B n L"],
        sigma: float,
        keep: Sequence[int],
        mask: Bool[Tensor, "B L"] | None = None,
    ) -> Float[Tensor, "B K L"]:
        batch, samples, prototypes = noise.shape
        chosen, used = top_k(torch.add(scores[:, None], noise, alpha=sigma), keep, mask)
        slots = chosen.shape[-1]
        cell = torch.arange(0, slots * prototypes, prototypes, device=chosen.device) + chosen  # of [slot, prototype]
        counts = torch.zeros(batch, slots * prototypes, device=scores.device)
        one = counts.new_ones(1, 1, 1) if used is None else used.float()
        counts.scatter_add_(1, cell.flatten(1), one.expand_as(cell).flatten(1))
        ctx.save_for_backward(cell, one, noise)
        ctx.sigma = sigma  # type: ignore[attr-defined]
        return rearrange(counts, "b (k l) -> b k l", k=slots) / samples

    @staticmethod
    def backward(ctx, grad: Float[Tensor, "B K L"]):  # type: ignore[no-untyped-def]
        cell, one, noise = ctx.saved_tensors
        gained = (grad.flatten(1).gather(1, cell.flatten(1)).view_as(cell) * one).sum(-1)
        gained = gained - gained.mean(1, keepdim=True)
        return torch.einsum("bn,bnl->bl", gained, noise) / (noise.shape[1] * ctx.sigma), None, None, None, None


def perturbed_top_k_ref(
    scores: Float[Tensor, "B L"], noise: Float[Tensor, "B n L"], sigma: float, keep: int
) -> Float[Tensor, "B K L"]:
    """P_sigma as it is defined: the mean of every sample's one-hot rows, for videos that keep equally many.

    Paper: Eq. 6.
    """
    best = (scores[:, None] + sigma * noise).topk(keep).indices.sort(-1).values
    return torch.nn.functional.one_hot(best, scores.shape[-1]).float().mean(1)


def mix(mixture: Float[Tensor, "B K L"], values: Float[Tensor, "B L rows d"]) -> Float[Tensor, "B K rows d"]:
    """Each slot's mixture of the prototypes' values: H = P_sigma M.

    Paper: Eq. 5.
    """
    mixed = mixture.to(values.dtype) @ rearrange(values, "b l r d -> b l (r d)")
    return rearrange(mixed, "b k (r d) -> b k r d", d=values.shape[-1])


def at_frames(values: Float[Tensor, "B T rows d"], frames: Int[Tensor, "B K"]) -> Float[Tensor, "B K rows d"]:
    """The values of the given frames, or of the given prototypes."""
    return values[torch.arange(len(values), device=values.device)[:, None], frames]


def patches_of(
    sketch: FrameSketch, frames: Int[Tensor, "B K"], real: Bool[Tensor, "B K"]
) -> Float[Tensor, "B K N d"] | None:
    """V of the given frames, where the sketch holds patches at all.

    Raises:
        FeatureError: if it holds those of other frames only.
    """
    if sketch.patches is None or sketch.patch_frames is None:
        return None
    found = sketch.patch_frames[:, None] == frames[..., None]
    missing = real & ~found.any(-1)
    if missing.any():
        raise FeatureError(
            f"a sketch without the patches of frame {frames[missing][0]}, which is to be kept",
            "the patches of every frame that a selector may keep",
            "Set connector.patch_frames to all: events' representatives are enough for the selector dpe alone.",
        )
    return at_frames(sketch.patches, found.int().argmax(-1))
