"""Define the base class of selectors that rank single frames."""

from traceback import extract_tb
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dynfocus.errors import DynFocusError, SelectorError
from dynfocus.method.dpe import at_frames, patches_of
from dynfocus.method.topk import top_k
from dynfocus.settings import ConnectorSettings
from dynfocus.types import Focus, FrameSketch, SelectorInputs


class FrameSelector(nn.Module):
    """Base of selectors that rank single frames: say `rank`, and the K' best frames are kept as they are.

    Write your own by subclassing, and name it in ``connector.selector`` as ``my_module.MySelector``. Settings of its
    own are further arguments of its ``__init__``, and come from ``init_args``.

    Raises:
        SelectorError: if `rank` fails, or returns what no frames can be chosen by.
    """

    def __init__(self, settings: ConnectorSettings, width: int, text_width: int) -> None:
        super().__init__()
        self.settings = settings
        self._finite_in: set[bool] = set()  # the modes, training or not, in which scores were found to be finite

    def rank(self, sketch: FrameSketch, inputs: SelectorInputs) -> Float[Tensor, "B T"]:
        """A score for every frame; the K' highest are kept."""
        raise NotImplementedError(f"{type(self).__name__}.rank")

    def forward(self, sketch: FrameSketch, inputs: SelectorInputs) -> Focus:
        frames, used = top_k(self._checked_scores(sketch, inputs), inputs.keep, sketch.mask)
        used = torch.ones_like(frames, dtype=torch.bool) if used is None else used
        pooled, grains = at_frames(sketch.pooled, frames).float(), at_frames(sketch.grains, frames).float()
        patches = patches_of(sketch, frames, used)
        return Focus(frames, used, pooled, grains, None if patches is None else patches.float())

    def _checked_scores(self, sketch: FrameSketch, inputs: SelectorInputs) -> Tensor:
        name = f"{type(self).__module__}.{type(self).__qualname__}"
        try:
            scores: Any = self.rank(sketch, inputs)
        except (DynFocusError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            line = extract_tb(error.__traceback__)[1:2] or extract_tb(error.__traceback__)
            raise SelectorError(
                f"selector {name}, whose rank fails ({type(error).__name__}: {error}; {line[0].filename}, "
                f"line {line[0].lineno})",
                "a rank that returns a score for each frame",
                "Correct it.",
            ) from error
        wrong = _wrong_kind(scores, sketch.mask)
        # Reading a number from a GPU makes training wait: only once in each mode.
        if wrong is None and self.training not in self._finite_in:
            if (scores.isfinite() | ~sketch.mask).all():
                self._finite_in.add(self.training)
            else:
                wrong = "scores that are NaN or infinite"
        if wrong is not None:
            raise SelectorError(
                f"selector {name}, whose rank returns {wrong}",
                f"a floating-point tensor of shape [B, T] = {list(sketch.mask.shape)}, finite at every real frame",
                "Return one score for each frame of each video; those of padding, where sketch.mask is false, may be "
                "any number.",
            )
        return scores


def _wrong_kind(scores: Any, mask: Tensor) -> str | None:
    """What is wrong with scores as far as it shows without reading their numbers; None where nothing is."""
    if not isinstance(scores, Tensor):
        return f"a {type(scores).__name__}"
    if scores.shape != mask.shape:
        return f"a tensor of shape {list(scores.shape)}"
    return None if scores.is_floating_point() else f"a tensor of {scores.dtype}"
