"""Choose the best K' of the scores so that the language model's loss trains the scores: Eq. 5-7."""

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor


def top_k(
    scores: Float[Tensor, "B *n L"], keep: Sequence[int], mask: Bool[Tensor, "B L"] | None = None
) -> tuple[Int[Tensor, "B *n K"], Bool[Tensor, "B *n K"] | None]:
    """The K' best prototypes of each video in time order; equal scores rank by time.

    The second result is true at the slots that a video fills; None where all videos fill all K slots.

    Paper: the Top-K of Eq. 5 without noise.
    """
    between = (1,) * (scores.ndim - 2)
    if mask is not None:
        scores = scores.masked_fill(~mask.unflatten(0, (-1, *between)), -torch.inf)
    is_plain = type(scores) is Tensor  # one without numbers, such as `plan` counts with, has no array
    if is_plain and scores.device.type == "cpu" and 0 < min(keep) == max(keep) <= scores.shape[-1]:
        values = scores.detach().to(torch.promote_types(scores.dtype, torch.float32)).numpy()
        if not np.isnan(values).any():
            return torch.from_numpy(pick_best(values, keep[0])), None
    best = scores.sort(dim=-1, descending=True, stable=True).indices[..., : max(keep)]
    if min(keep) == max(keep):
        return best.sort(-1).values, None
    slot = torch.arange(max(keep), device=scores.device)
    real = slot < torch.tensor(keep, device=scores.device).unflatten(0, (-1, *between, 1))
    ordered = best.masked_fill(~real, scores.shape[-1]).sort(-1).values
    return ordered.masked_fill(~real, 0), real.expand_as(best)


def pick_best(values: Float[np.ndarray, "*n L"], count: int) -> Int[np.ndarray, "*n {count}"]:
    """The same as sorting twice, on the CPU in a seventh of the time: what reaches the least kept score, in time order.

    Of those that equal the least one, the first in time are kept. No score may be NaN.
    """
    least = np.partition(values, -count, axis=-1)[..., -count, None]
    chosen = values >= least
    surplus = np.count_nonzero(chosen, axis=-1, keepdims=True) - count
    if surplus.any():
        equal = values == least
        after = np.flip(np.flip(equal, -1).cumsum(-1), -1)  # how many of the equal ones come from here on
        chosen &= ~equal | (after > surplus)
    return np.flatnonzero(chosen).reshape(*values.shape[:-1], count) % values.shape[-1]


class PerturbedTopK(torch.autograd.Function):
    """P_sigma: the mean over noise samples of the sorted top-K' as one-hot rows [B,K,L], with Eq. 7 as its gradient.

    Rows of used slots sum to 1, columns to at most 1. The one-hots of all samples, [n,K,L], are never built: each
    sample adds 1 to the cell (slot, prototype) that it chooses.

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
        choices, real = top_k(torch.add(scores[:, None], noise, alpha=sigma), keep, mask)
        slots = choices.shape[-1]
        cell = torch.arange(0, slots * prototypes, prototypes, device=choices.device) + choices  # slot * L + prototype
        counts = torch.zeros(batch, slots * prototypes, device=scores.device)
        one = counts.new_ones(1, 1, 1) if real is None else real.float()
        counts.scatter_add_(1, cell.flatten(1), one.expand_as(cell).flatten(1))
        ctx.save_for_backward(cell, one, noise)
        ctx.sigma = sigma  # type: ignore[attr-defined]
        return rearrange(counts, "b (k l) -> b k l", k=slots) / samples

    @staticmethod
    def backward(ctx, grad: Float[Tensor, "B K L"]):  # type: ignore[no-untyped-def]
        cell, one, noise = ctx.saved_tensors
        return eq7(gains(grad, cell, one), noise, ctx.sigma), None, None, None, None


def gains(
    grad: Float[Tensor, "B K L"], cell: Int[Tensor, "B n K"], one: Float[Tensor, "#B #n #K"]
) -> Float[Tensor, "B n"]:
    """What each sample's choice adds to the loss: the gradient of P_sigma, summed over the cells of the choice.

    ``cell`` and ``one`` are what `PerturbedTopK` saves: slot * L + prototype of each choice, and zero at empty slots.
    """
    return (grad.flatten(1).gather(1, cell.flatten(1)).view_as(cell) * one).sum(-1)


def eq7(gain: Float[Tensor, "B n"], noise: Float[Tensor, "B n L"], sigma: float) -> Float[Tensor, "B L"]:
    """The gradient of the scores, from the noise of n samples and the gain of each less the samples' mean gain.

    Paper: Eq. 7.
    """
    gain = gain - gain.mean(1, keepdim=True)
    return torch.einsum("bn,bnl->bl", gain, noise) / (noise.shape[1] * sigma)


def draw_keyed_noise(
    counts: Sequence[int], width: int, samples: int, rows: Int[Tensor, " B"], step: int
) -> Float[Tensor, "B n {width}"]:
    """Gaussian noise for the first ``counts`` columns of each row, zeros for the others.

    Its key is (seed, step, row), so that it is the same in any batch and on any number of processes.
    """
    noise = np.zeros((len(counts), samples, width), dtype=np.float32)
    for n, (row, count) in enumerate(zip(rows.tolist(), counts, strict=True)):
        generator = np.random.default_rng((torch.initial_seed(), step, row))
        noise[n, :, :count] = generator.standard_normal((samples, count), dtype=np.float32)
    return torch.from_numpy(noise).to(rows.device)


def mix(mixture: Float[Tensor, "B K L"], values: Float[Tensor, "B L rows d"]) -> Float[Tensor, "B K rows d"]:
    """Each slot's mixture of the prototypes' values: H = P_sigma M.

    Paper: Eq. 5.
    """
    mixed = mixture.to(values.dtype) @ rearrange(values, "b l r d -> b l (r d)")
    return rearrange(mixed, "b k (r d) -> b k r d", d=values.shape[-1])
