"""Encode kept frames as cones and every frame as rods, and weave both in time order: Eq. 8-11."""

from functools import partial
from itertools import repeat

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dynfocus.errors import FeatureError
from dynfocus.method.topk import draw_keyed_noise
from dynfocus.settings import ConnectorSettings
from dynfocus.types import Focus, FrameSketch, VideoTokens

BLOCK = 1024  # frames whose rods are made at once
PLACES = 2**40  # in the place of a training step in the key of random places, so that no other noise is the same


class Cones(nn.Module):
    """F_fine: an MLP on h_k and G of each kept frame (or on all its patches); no pooling.

    Shapes: Focus with K slots -> [B,K,P+G,D], or [B,K,N,D] where kept frames give every patch.

    Paper: Eq. 8.
    Departs: with ``cone_rows="random"`` it reads P+G patches at random places of each frame, a baseline of its own.
    """

    def __init__(self, settings: ConnectorSettings, width: int, out: int) -> None:
        super().__init__()
        self.settings = settings
        self.fine = Projector(width, out)

    def forward(self, focus: Focus, rows: Int[Tensor, " B"] | None = None) -> Float[Tensor, "B K cones D"]:
        """``rows`` names each video's annotation row, from which random places follow; row 0 where it is not given."""
        if self.settings.reads_patches:
            if focus.patches is None:
                raise FeatureError(
                    "a sketch without patches, where cones are made of them",
                    "the patches of the frames that may be kept",
                    "Compute the sketch with these settings (connector.kept_tokens, connector.cone_rows).",
                )
            if self.settings.kept_tokens == 256:
                return self.fine(focus.patches)
            rows = focus.frames.new_zeros(len(focus.frames)) if rows is None else rows
            return self.fine(draw_patches(focus.patches, self.settings.cones, focus.frames, rows))
        both = torch.cat([focus.pooled, focus.grains], 2)
        return self.fine(both if self.settings.cones else both[:, :, :0])


def draw_patches(
    patches: Float[Tensor, "B K N d"], count: int, frames: Int[Tensor, "B K"], rows: Int[Tensor, " B"]
) -> Float[Tensor, "B K cones d"]:
    """``count`` different patches of each kept frame, in the grid's order; their places follow from row and frame.

    Departs: the paper has no such baseline; other works compare their choice of tokens with it.
    """
    batch, _, size, width = patches.shape
    numbers = size * (int(frames.max()) + 1)
    noise = draw_keyed_noise([numbers] * batch, numbers, 1, rows, PLACES)
    own = noise.view(batch, -1, size)[torch.arange(batch, device=frames.device)[:, None], frames]
    places = own.topk(count, dim=-1).indices.sort(-1).values
    return patches.gather(2, places[..., None].expand(-1, -1, -1, width))


class Rods(nn.Module):
    """F_coarse: two tokens a frame, one of the grains as the instruction attends to them, one of their plain average.

    Shapes: sketch [B,T,...] and instruction [B,R,d'], or [B,T,R,d'] where each frame has its own -> [B,T,2,D].

    Paper: Eq. 9-10.
    Departs: as printed the shapes of Eq. 9 do not fit; instruction rows attend over the frame's prototypes. f_q has no
    bias: a bias adds the same number to all products of a row, which changes no softmax.
    """

    def __init__(self, width: int, text_width: int, out: int) -> None:
        super().__init__()
        self.f_q = nn.Linear(width, width, bias=False)
        self.f_k = nn.Linear(text_width, width)
        self.coarse = Projector(width, out)

    def forward(
        self, sketch: FrameSketch, question: Float[Tensor, "B *T R e"], question_mask: Bool[Tensor, "B R"]
    ) -> Float[Tensor, "B T 2 D"]:
        queries = self.f_k(question) @ self.f_q.weight  # f_q on the few questions' tokens instead of all frames' grains
        of_blocks = queries.split(BLOCK, 1) if queries.ndim == 4 else repeat(queries)
        parts = (
            self.read(part.to(queries.dtype), own, question_mask)
            for part, own in zip(sketch.grains.split(BLOCK, 1), of_blocks, strict=False)
        )
        if sketch.grains.shape[1] <= BLOCK:
            return next(parts)
        first = next(parts)
        rods = first.new_empty(len(first), sketch.grains.shape[1], *first.shape[2:])  # not twice, as torch.cat would
        rods[:, :BLOCK] = first
        for n, part in enumerate(parts, 1):
            rods[:, n * BLOCK : (n + 1) * BLOCK] = part
        return rods

    def read(
        self, grains: Float[Tensor, "B T G d"], queries: Float[Tensor, "B *T R d"], mask: Bool[Tensor, "B R"]
    ) -> Float[Tensor, "B T 2 D"]:
        """Two tokens for each of some frames."""
        return self.coarse(torch.stack([ground(grains, queries, mask), grains.mean(2)], 2))


def ground(
    grains: Float[Tensor, "B T G d"], queries: Float[Tensor, "B *T R d"], mask: Bool[Tensor, "B R"]
) -> Float[Tensor, "B T d"]:
    """Avg(E): the grains as seen by each real instruction token, averaged over the tokens.

    ``queries`` are the tokens behind f_k and f_q: <f_k(q), f_q(g)> = <f_q^T f_k(q), g>; one set of them for all frames,
    or one for each.

    Paper: Eq. 9.
    """
    axes = "btrd" if queries.ndim == 4 else "brd"
    fit = torch.einsum(f"{axes},btgd->btrg", queries / grains.shape[-1] ** 0.5, grains)
    share = mask / mask.sum(-1, keepdim=True).clamp(min=1)
    weights = torch.einsum("btrg,br->btg", fit.softmax(-1), share.to(fit.dtype))
    return torch.einsum("btg,btgd->btd", weights, grains)


def weave(
    cones: Float[Tensor, "B K cones D"],
    rods: Float[Tensor, "B T rods D"],
    focus: Focus,
    sketch: FrameSketch,
    settings: ConnectorSettings,
    padded: bool = True,
) -> VideoTokens:
    """O: frames in time order, a kept frame's cones before its rods, every other frame its rods alone.

    ``padded=False`` says that all videos are equally long and keep equally many, which spares what padding costs.

    Paper: Eq. 11.
    """
    batch, frames = sketch.mask.shape
    redundant, kept_rods, cone_count = settings.redundant_tokens, settings.kept_rods, settings.cones
    more = focus.mask * (cone_count + kept_rods - redundant)  # tokens of a kept frame beyond those of another
    stop = (sketch.mask * redundant).scatter_add(1, focus.frames, more).cumsum(-1)  # where each frame's tokens end
    size, width, index = int(stop[:, -1].max()), rods.shape[-1], partial(torch.arange, device=rods.device)
    out = rods.new_zeros(batch, size + 1, width)  # the last place takes tokens of padding, and is cut off
    video = index(batch)[:, None, None]
    cone_at = stop.gather(1, focus.frames)[..., None] + index(-cone_count - kept_rods, -kept_rods)
    rod_at = stop[..., None] + index(-2, 0)
    if padded:
        cone_at = cone_at.masked_fill(~focus.mask[..., None], size)
    if padded or not (redundant and kept_rods):
        b = focus.kept(frames)
        has_rods = sketch.mask & ((b & (kept_rods > 0)) | (~b & (redundant > 0)))
        rod_at = rod_at.masked_fill(~has_rods[..., None], size)
    out[video, cone_at], out[video, rod_at] = cones, rods
    return VideoTokens(out[:, :size], index(size) < stop[:, -1:], focus)


class Projector(nn.Sequential):
    """Linear, GELU, linear: from the vision encoder's width to the language model's, in its own precision."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__(nn.Linear(width, out), nn.GELU(), nn.Linear(out, out))

    def forward(self, features: Float[Tensor, "*B d"]) -> Float[Tensor, "*B D"]:
        return super().forward(features.to(next(self.parameters()).dtype))
