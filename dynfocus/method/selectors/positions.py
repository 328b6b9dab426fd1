"""Keep frames by their place in the video alone: baselines that read neither frames nor question."""

from decimal import Decimal
from fractions import Fraction
from math import ceil

import torch
from jaxtyping import Float
from torch import Tensor

from dynfocus.errors import ConfigError
from dynfocus.method.selectors.base import FrameSelector
from dynfocus.method.selectors.sets import SetSelector
from dynfocus.method.topk import draw_keyed_noise
from dynfocus.settings import ConnectorSettings
from dynfocus.types import FrameSketch, SelectorInputs


class UniformSelector(FrameSelector):
    """Frames at equal distances over the whole video: the middles of K' equal shares, in O(T K')."""

    reads = "nothing"

    def rank(self, sketch: FrameSketch, inputs: SelectorInputs) -> Float[Tensor, "B T"]:
        keep = torch.tensor(inputs.keep, device=sketch.mask.device)
        time = torch.arange(sketch.mask.shape[1], device=keep.device)
        part = sketch.frames[:, None] / keep[:, None]
        middles = ((torch.arange(max(inputs.keep), device=keep.device) + 0.5) * part).long()
        middles = torch.where(torch.arange(middles.shape[1], device=keep.device) < keep[:, None], middles, -1)
        return (time == middles[..., None]).any(1).float()


class CappedRateSelector(SetSelector):
    """Frames at a fixed rate (``fps``), and at equal distances of these where they are more than K'.

    Where the rate gives fewer than K' frames, those farthest in time from the kept ones are added. O(T K').

    Args:
        fps: frames a second that are wanted.
        frame_fps: frames a second that the sketch holds, as ``frame_rule.fps``.

    Source: the usual "1 fps, at most K frames" of video language models.
    """

    reads = "nothing"

    def __init__(
        self, settings: ConnectorSettings, width: int, text_width: int, fps: float = 0.5, frame_fps: float = 1.0
    ) -> None:
        super().__init__(settings, width, text_width)
        if not (0 < fps < float("inf") and 0 < frame_fps < float("inf")):
            raise ConfigError(
                f"fps = {fps} and frame_fps = {frame_fps}", "rates above 0", "Correct init_args of the selector."
            )
        # The n-th frame stands at n / fps. Exact fractions: a step rounded to whole frames drifts at 29.97 fps, and is
        # 0 where the wanted rate is the higher one.
        self.step = Fraction(Decimal(str(frame_fps))) / Fraction(Decimal(str(fps)))

    def choose(self, frames: Tensor, keep: int, relevance: Tensor | None) -> list[int]:
        total = len(frames)
        times = range(ceil(total / self.step))
        at_rate = sorted({place for n in times if (place := ceil(n * self.step)) < total})
        if len(at_rate) > keep:
            return [at_rate[(2 * n + 1) * len(at_rate) // (2 * keep)] for n in range(keep)]
        kept = at_rate or [0]
        gaps = [min(abs(place - other) for other in kept) for place in range(total)]
        while len(kept) < keep:
            kept.append(gaps.index(max(gaps)))
            gaps = [min(gap, abs(place - kept[-1])) for place, gap in enumerate(gaps)]
        return kept


class FirstSelector(FrameSelector):
    """The first K' frames; O(T)."""

    reads = "nothing"

    def rank(self, sketch: FrameSketch, inputs: SelectorInputs) -> Float[Tensor, "B T"]:
        return -_places(sketch)


class MiddleSelector(FrameSelector):
    """The K' frames around the middle of the video; O(T)."""

    reads = "nothing"

    def rank(self, sketch: FrameSketch, inputs: SelectorInputs) -> Float[Tensor, "B T"]:
        return -(_places(sketch) - (sketch.frames[:, None] - 1) / 2).abs()


class LastSelector(FrameSelector):
    """The last K' frames; O(T)."""

    reads = "nothing"

    def rank(self, sketch: FrameSketch, inputs: SelectorInputs) -> Float[Tensor, "B T"]:
        return _places(sketch)


class RandomSelector(FrameSelector):
    """Random frames, the same ones for an annotation row whenever it is asked; O(T).

    Args:
        draw: which of many independent draws; each number gives other frames.
    """

    reads = "nothing"

    def __init__(self, settings: ConnectorSettings, width: int, text_width: int, draw: int = 0) -> None:
        super().__init__(settings, width, text_width)
        if draw < 0:
            raise ConfigError(f"draw = {draw}", "a whole number from 0 on", "Correct init_args of the selector.")
        self.draw = draw

    def rank(self, sketch: FrameSketch, inputs: SelectorInputs) -> Float[Tensor, "B T"]:
        return draw_keyed_noise(inputs.frames, sketch.mask.shape[1], 1, inputs.rows, step=self.draw)[:, 0]


def _places(sketch: FrameSketch) -> Float[Tensor, "B T"]:
    return torch.arange(sketch.mask.shape[1], device=sketch.mask.device).expand(sketch.mask.shape).float()
