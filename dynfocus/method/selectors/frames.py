"""Ranks frames in ways to compare DPE with: uniform, random, and those that a question needs."""

import torch
from jaxtyping import Float
from torch import Tensor

from dynfocus.errors import ConfigError
from dynfocus.method.selectors.base import FrameSelector
from dynfocus.method.topk import draw_keyed_noise
from dynfocus.types import FrameSketch, SelectorInputs


class UniformSelector(FrameSelector):
    """Frames at equal distances over the whole video."""

    def rank(self, sketch: FrameSketch, inputs: SelectorInputs) -> Float[Tensor, "B T"]:
        keep = torch.tensor(inputs.keep, device=sketch.mask.device)
        time = torch.arange(sketch.mask.shape[1], device=keep.device)
        part = sketch.frames[:, None] / keep[:, None]
        middles = ((torch.arange(max(inputs.keep), device=keep.device) + 0.5) * part).long()
        middles = torch.where(torch.arange(middles.shape[1], device=keep.device) < keep[:, None], middles, -1)
        return (time == middles[..., None]).any(1).float()


class RandomSelector(FrameSelector):
    """Frames at random, the same ones for an annotation row whenever it is asked."""

    def rank(self, sketch: FrameSketch, inputs: SelectorInputs) -> Float[Tensor, "B T"]:
        return draw_keyed_noise(inputs.frames, sketch.mask.shape[1], 1, inputs.rows, step=0)[:, 0]


class OracleSelector(FrameSelector):
    """The frames a question needs first, one of each event before a second of any, then uniform ones."""

    def rank(self, sketch: FrameSketch, inputs: SelectorInputs) -> Float[Tensor, "B T"]:
        if inputs.relevant is None:
            raise ConfigError(
                "selector oracle on data without relevant frames",
                "rows that say which frames each question needs",
                "Use the embedded world, or another selector.",
            )
        starts = inputs.relevant & ~torch.nn.functional.pad(inputs.relevant, (1, 0))[:, :-1]
        uniform = UniformSelector(self.settings, 0, 0).rank(sketch, inputs)
        return 4.0 * starts + 2.0 * inputs.relevant + uniform
