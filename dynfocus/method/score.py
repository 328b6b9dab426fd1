"""Score every event prototype, in [0, 1] and in fp32 under any precision: Eq. 4."""

from itertools import chain

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import linear


class ScoreNet(nn.Module):
    """U: an event prototype [..., P, d] -> its raw score [...]; no bias at the end, as min-max would remove it.

    Max is the row with the largest L2 norm, a patch that exists, not the element-wise maximum.

    Paper: Eq. 4.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.LayerNorm(2 * width), nn.Linear(2 * width, width // 2), nn.GELU(), nn.Linear(width // 2, 1, bias=False)
        )

    def forward(self, prototypes: Float[Tensor, "B L P d"]) -> Float[Tensor, "B L"]:
        strongest = prototypes.norm(dim=-1).argmax(-1)[..., None, None].expand(-1, -1, 1, prototypes.shape[-1])
        both = torch.cat([prototypes.gather(2, strongest)[:, :, 0], prototypes.mean(2)], -1)
        own = chain(self.net.named_parameters(), self.net.named_buffers())  # buffers where they are frozen
        weights = {name: weight.float() for name, weight in own}  # fp32 in any precision
        return rearrange(functional_call(self.net, weights, both), "b l 1 -> b l")


class LateInteraction(nn.Module):
    """What the question adds to the scores: how well each of its tokens matches an event's grains.

    Per event, the sum over tokens r of g_r max_i <A q_r, B z_i> / sqrt(m): z_i are the grains of its representative, g
    is a softmax over the tokens, A and B begin as identities, cut to the smaller width m. This helps where words and
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
        share = gate.masked_fill(~mask, torch.finfo(gate.dtype).min).softmax(-1)
        return torch.einsum("blr,br->bl", fit, share)


class TimeInteraction(nn.Module):
    """What the question adds to the scores by when an event is shown, such as for "first" and "last".

    Per event, the sum over h of c_h cos(pi h t): t runs from 0 at the video's first frame to 1 at its last, and c is a
    linear map, at first zero, of the mean of the question's tokens.

    Shapes: times [B,L] and question [B,R,e] -> [B,L], in fp32.

    Departs: an extension; the paper's scores know neither the question nor the time.
    """

    def __init__(self, text_width: int, cosines: int) -> None:
        super().__init__()
        self.weigh = nn.Linear(text_width, cosines, bias=False)
        nn.init.zeros_(self.weigh.weight)

    def forward(
        self, times: Float[Tensor, "B L"], question: Float[Tensor, "B R e"], mask: Bool[Tensor, "B R"]
    ) -> Float[Tensor, "B L"]:
        real = mask[..., None].float()
        mean = (question.float() * real).sum(1) / real.sum(1).clamp(min=1)
        weights = linear(mean, self.weigh.weight.float())
        order = torch.arange(1, weights.shape[-1] + 1, device=times.device)
        return torch.einsum("bh,blh->bl", weights, torch.cos(torch.pi * times[..., None] * order))


class TruncatedIdentity(nn.Linear):
    """A linear layer whose initial weights pass its first inputs on unchanged."""

    def reset_parameters(self) -> None:
        nn.init.eye_(self.weight)


def rescale(scores: Float[Tensor, "B L"], mask: Bool[Tensor, "B L"] | None = None) -> Float[Tensor, "B L"]:
    """Min-max each video's scores to [0, 1]; equal scores and padding become zeros, never NaN.

    Paper: the normalisation after Eq. 4.
    """
    real = scores if mask is None else torch.where(mask, scores, scores[:, :1])
    # not aminmax, which passes no gradient on in PyTorch 2.6
    low, high = real.amin(-1, keepdim=True), real.amax(-1, keepdim=True)
    width = high - low
    scaled = (real - low) / width.clamp(min=torch.finfo(width.dtype).tiny)
    return scaled * (width > 0 if mask is None else mask & (width > 0))
