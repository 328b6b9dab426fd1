"""Keep the frames that a question needs, or spoil another selector's choice on purpose: controls of a comparison."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from dynfocus.errors import ConfigError
from dynfocus.method.selectors.base import FrameSelector, Reads
from dynfocus.method.selectors.choice import choose
from dynfocus.method.selectors.positions import UniformSelector
from dynfocus.method.topk import draw_keyed_noise
from dynfocus.settings import ConnectorSettings, SelectorChoice
from dynfocus.types import FrameSketch, SelectorInputs

SHIFTS = 2**41  # in the place of a training step in the key of random shifts, so that no other noise is the same


class OracleSelector(FrameSelector):
    """The frames a question needs first, one of each event before a second of any, then uniform ones; O(T K')."""

    reads = "truth"

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


class ControlSelector(FrameSelector):
    """Base of selectors that spoil the choice of another one: say `spoil` for one video.

    Args:
        of: the other selector, as ``connector.selector`` names it. As an arm of a test it is the model's own one, with
            its weights, where it is the same as ``model.connector.selector``.
    """

    reads: Reads = "truth"

    def __init__(self, settings: ConnectorSettings, width: int, text_width: int, of: SelectorChoice = "oracle") -> None:
        from dynfocus.method.selectors import build_selector  # which knows this class too

        super().__init__(settings, width, text_width)
        self.of = of
        self.inner = build_selector(replace(settings, selector=of), width, text_width)
        self.reads = getattr(self.inner, "reads", "frames")

    @torch.no_grad()
    def rank(self, sketch: FrameSketch, inputs: SelectorInputs) -> Float[Tensor, "B T"]:
        training = self.inner.training
        focus = choose(self.inner.eval(), sketch, inputs)
        self.inner.train(training)
        scores = torch.zeros(sketch.mask.shape, device=sketch.mask.device)
        uniform = draw_keyed_noise([1] * len(scores), 1, 1, inputs.rows, SHIFTS)[:, 0, 0].double()
        shares = torch.special.ndtr(uniform).tolist()
        for n, (frames, share) in enumerate(zip(inputs.frames, shares, strict=True)):
            kept = focus.frames[n][focus.mask[n]].tolist()
            scores[n, list(self.spoil(kept, frames, share))] = 1.0
        return scores

    def spoil(self, kept: Sequence[int], frames: int, share: float) -> Sequence[int]:
        """As many frames of one video as are ``kept``; ``share`` is random, in (0, 1), and follows from the row."""
        raise NotImplementedError(f"{type(self).__name__}.spoil")


class InvertedSelector(ControlSelector):
    """Frames that another selector (``of``, the oracle by default) leaves out, at equal distances.

    Where it leaves out too few, all of these and the earliest of its own. O(T), after the other one.

    Source: the test of necessity of explanations, as ERASER's comprehensiveness (DeYoung et al., 2020).
    """

    def spoil(self, kept: Sequence[int], frames: int, share: float) -> Sequence[int]:
        others = [place for place in range(frames) if place not in set(kept)]
        if len(others) < len(kept):
            return others + list(kept)[: len(kept) - len(others)]
        return [others[(2 * n + 1) * len(others) // (2 * len(kept))] for n in range(len(kept))]


class ShuffledSelector(ControlSelector):
    """The frames of another selector (``of``, the oracle by default), all moved on by one random number of frames.

    The gaps between the frames stay, what the frames show does not; frames beyond the end go on at the beginning. The
    number follows from seed and row. O(T), after the other one.

    Source: the circular shift, a usual test of whether two series in time belong together.
    """

    def spoil(self, kept: Sequence[int], frames: int, share: float) -> Sequence[int]:
        shift = 1 + int(share * (frames - 1)) if frames > 1 else 0
        return [(place + min(shift, frames - 1)) % frames for place in kept]
