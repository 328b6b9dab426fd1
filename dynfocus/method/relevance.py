"""Measure how well each frame fits the question: what all selectors that read the question go by."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from dynfocus.device import full_precision
from dynfocus.errors import ConfigError, SelectorError
from dynfocus.method.distances import first_copies
from dynfocus.types import FrameSketch, SelectorInputs


@torch.no_grad()
def measure_relevance(sketch: FrameSketch, inputs: SelectorInputs) -> Float[Tensor, "B T"]:
    """How well each frame fits the question; the higher, the better. Zero at padding, in fp32.

    It is ``inputs.relevance`` where that is given, such as CLIP's similarity of image and text. Else it is measured in
    the space that words and patches share: for each token of the question the largest cosine with a row of the frame
    (pooled patches and grains), and of these the mean over tokens. Exact copies of a frame get the same number.

    Shapes: a sketch [B,T,...] and a question [B,R,e] with e = d -> [B,T], in O(T R (P + G) d) a video. Each video is
    measured by itself, so that neither padding nor the others of a batch change a number.

    Raises:
        ConfigError: if no relevance is given and the question's tokens are no vectors of the patches' space.
        SelectorError: if the relevance that is given has another shape, or is not finite at a real frame.
    """
    if inputs.relevance is not None:
        return _check_given(inputs.relevance, sketch)
    if inputs.question.ndim != 3 or inputs.question.shape[-1] != sketch.grains.shape[-1]:
        own = inputs.question
        given = "one question a frame" if own.ndim != 3 else f"tokens of {own.shape[-1]} numbers"
        raise ConfigError(
            f"a selector that reads the question on {given}, and patches of {sketch.grains.shape[-1]} numbers",
            "the relevance of each frame, or encoders whose words and patches share one space",
            "Set relevance of the SelectorInputs, such as to CLIP's similarity of image and text, or choose a selector "
            "that reads no question.",
        )
    relevance = torch.zeros(sketch.mask.shape, device=sketch.mask.device)
    with full_precision(relevance.device):
        for n, frames in enumerate(inputs.frames):
            rows = torch.cat([sketch.pooled[n, :frames], sketch.grains[n, :frames]], 1).float()
            tokens = normalize(inputs.question[n][inputs.question_mask[n]].float(), dim=-1)
            if len(tokens):
                best = (normalize(rows, dim=-1) @ tokens.mT).amax(1).mean(-1)
                relevance[n, :frames] = best[first_copies(rows.flatten(1)[None])[0]]
    return relevance


def _check_given(relevance: Tensor, sketch: FrameSketch) -> Float[Tensor, "B T"]:
    wrong = None
    if relevance.shape != sketch.mask.shape:
        wrong = f"of shape {list(relevance.shape)}"
    elif not (relevance.isfinite() | ~sketch.mask).all():
        wrong = "that is NaN or infinite at a real frame"
    if wrong is not None:
        raise SelectorError(
            f"a relevance {wrong}",
            f"a finite number for each real frame, [B, T] = {list(sketch.mask.shape)}",
            "Correct the relevance of the SelectorInputs.",
        )
    return relevance.float().masked_fill(~sketch.mask, 0)
