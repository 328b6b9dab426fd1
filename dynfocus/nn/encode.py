"""Eq. 8-11: kept frames as cones, every frame as rods, woven together in time order."""

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dynfocus.settings import ConnectorSettings
from dynfocus.types import Focus, FrameSketch, VideoTokens


class Cones(nn.Module):
    """F_fine: an MLP on h_k and G of each kept frame (or on all its patches); no pooling.

    Shapes: Focus with K slots -> [B,K,P+G,D], or [B,K,N,D] where kept frames give every patch.

    Paper: Eq. 8.
    """

    def __init__(self, settings: ConnectorSettings, width: int, out: int) -> None:
        super().__init__()
        self.settings = settings
        self.fine = Projector(width, out)

    def forward(self, focus: Focus) -> Float[Tensor, "B K cones D"]:
        if self.settings.kept_tokens == 256:
            assert focus.patches is not None
            return self.fine(focus.patches)
        tokens = self.fine(torch.cat([focus.pooled, focus.grains], 2))
        return tokens if self.settings.kept_tokens == 40 else tokens[:, :, :0]


class Rods(nn.Module):
    """F_coarse: two tokens a frame, the grains as the instruction attends to them, and their plain average.

    Shapes: sketch [B,T,...] and instruction [B,R,d'] -> [B,T,2,D].

    Paper: Eq. 9-10.
    Departs: as printed the shapes of Eq. 9 do not fit; instruction rows attend over the frame's prototypes.
    """

    def __init__(self, width: int, text_width: int, out: int) -> None:
        super().__init__()
        self.f_q = nn.Linear(width, width)
        self.f_k = nn.Linear(text_width, width)
        self.coarse = Projector(width, out)

    def forward(
        self, sketch: FrameSketch, question: Float[Tensor, "B R e"], question_mask: Bool[Tensor, "B R"]
    ) -> Float[Tensor, "B T 2 D"]:
        grains = sketch.grains.to(self.f_q.weight.dtype)
        grounded = ground(grains, self.f_q(grains), self.f_k(question), question_mask)
        return self.coarse(torch.stack([grounded, grains.mean(2)], 2))


def ground(
    grains: Float[Tensor, "B T G d"],
    keys: Float[Tensor, "B T G d"],
    queries: Float[Tensor, "B R d"],
    mask: Bool[Tensor, "B R"],
) -> Float[Tensor, "B T d"]:
    """Avg(E): the grains as seen by each real instruction token, averaged over the tokens.

    Paper: Eq. 9.
    """
    fit = torch.einsum("brd,btgd->btrg", queries, keys) / grains.shape[-1] ** 0.5
    share = mask[:, None, :, None] / mask.sum(-1).clamp(min=1)[:, None, None, None]
    weights = (fit.softmax(-1) * share).sum(2)
    return torch.einsum("btg,btgd->btd", weights.to(grains.dtype), grains)


def weave(
    cones: Float[Tensor, "B K cones D"],
    rods: Float[Tensor, "B T rods D"],
    focus: Focus,
    sketch: FrameSketch,
    settings: ConnectorSettings,
) -> VideoTokens:
    """O: frames in time order, a kept frame's cones before its rods, every other frame its rods alone.

    Paper: Eq. 11.
    """
    batch, frames = sketch.mask.shape
    b = focus.kept(frames)
    rod_count = torch.where(b, settings.kept_rods, settings.redundant_tokens) * sketch.mask
    cone_count = settings.cones * b
    stop = (rod_count + cone_count).cumsum(-1)
    start = stop - rod_count - cone_count
    length = stop[:, -1]
    width, size = rods.shape[-1], int(length.max())
    out = rods.new_zeros(batch, size + 1, width)  # the last place takes what stands nowhere
    cone_at = start.gather(1, focus.frames)[..., None] + torch.arange(cones.shape[2], device=rods.device)
    rod_at = (start + cone_count)[..., None] + torch.arange(2, device=rods.device)
    cone_at = cone_at.masked_fill(~focus.mask[..., None], size)
    rod_at = rod_at.masked_fill(torch.arange(2, device=rods.device) >= rod_count[..., None], size)
    place = torch.cat([cone_at.flatten(1), rod_at.flatten(1)], 1)
    values = torch.cat([rearrange(cones, "b k c d -> b (k c) d"), rearrange(rods, "b t r d -> b (t r) d")], 1)
    out = out.scatter(1, place[..., None].expand(-1, -1, width), values)
    return VideoTokens(out[:, :size], _first(length, size), focus)


def _first(length: Int[Tensor, " B"], size: int) -> Bool[Tensor, "B S"]:
    return torch.arange(size, device=length.device) < length[:, None]


class Projector(nn.Sequential):
    """Linear, GELU, linear: from the vision encoder's width to the language model's, in its own precision."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__(nn.Linear(width, out), nn.GELU(), nn.Linear(out, out))

    def forward(self, features: Float[Tensor, "*B d"]) -> Float[Tensor, "*B D"]:
        return super().forward(features.to(next(self.parameters()).dtype))
