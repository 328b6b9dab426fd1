"""Define the base class of selectors that rank single frames, and what all base classes share."""

from traceback import extract_tb
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dynfocus.errors import DynFocusError, SelectorError
from dynfocus.method.dpe import at_frames, patches_of
from dynfocus.method.events import merge_around
from dynfocus.method.topk import top_k
from dynfocus.settings import ConnectorSettings
from dynfocus.types import Focus, FrameSketch, SelectorInputs

PASSED = ("/torch/nn/modules/", "/jaxtyping/", "/dynfocus/method/selectors/sets.py")  # between a call and own code

# What a selector reads beside T and K': a network's weights, the question, or the truth count more than the frames.
Reads = Literal["nothing", "frames", "question", "network", "network and question", "truth"]


class FrameSelector(nn.Module):
    """Base of selectors that rank single frames: say `rank`, and the K' best frames are kept.

    Write your own by subclassing, and name it in ``connector.selector`` as ``my_module.MySelector``. Settings of its
    own are further arguments of its ``__init__``, and come from ``init_args``. ``reads`` says what it looks at.

    Raises:
        SelectorError: if `rank` fails, or returns what no frames can be chosen by.
    """

    reads: Reads = "frames"

    def __init__(self, settings: ConnectorSettings, width: int, text_width: int) -> None:
        super().__init__()
        self.settings = settings

    def rank(self, sketch: FrameSketch, inputs: SelectorInputs) -> Float[Tensor, "B T"]:
        """A score for every frame; the K' highest are kept."""
        raise NotImplementedError(f"{type(self).__name__}.rank")

    def forward(self, sketch: FrameSketch, inputs: SelectorInputs) -> Focus:
        scores = self._check_scores(sketch, inputs)
        frames, used = top_k(scores, inputs.keep, sketch.mask)
        used = torch.ones_like(frames, dtype=torch.bool) if used is None else used
        return focus_on(sketch, frames, used, self.settings, scores.masked_fill(~sketch.mask, 0))

    def _check_scores(self, sketch: FrameSketch, inputs: SelectorInputs) -> Tensor:
        scores = call_own(self, "rank", "a score for each frame", self.rank, sketch, inputs)
        wrong = _wrong_kind(scores, sketch.mask)
        if wrong is None and not (scores.isfinite() | ~sketch.mask).all():
            wrong = "scores that are NaN or infinite"
        if wrong is not None:
            raise SelectorError(
                f"selector {name_of(self)}, whose rank returns {wrong}",
                f"a floating-point tensor of shape [B, T] = {list(sketch.mask.shape)}, finite at every real frame",
                "Return one score for each frame of each video; those of padding, where sketch.mask is false, may be "
                "any number.",
            )
        return scores


def focus_on(
    sketch: FrameSketch,
    frames: Int[Tensor, "B K"],
    used: Bool[Tensor, "B K"],
    settings: ConnectorSettings,
    scores: Float[Tensor, "B T"] | None,
) -> Focus:
    """The Focus of frames that a selector keeps as they are, or merged as Eq. 3 does (``merge_kept``), in fp32."""
    pooled = merge_around(sketch, frames, used, settings) if settings.merge_kept else at_frames(sketch.pooled, frames)
    patches = patches_of(sketch, frames, used)
    return Focus(
        frames,
        used,
        pooled.float(),
        at_frames(sketch.grains, frames).float(),
        None if patches is None else patches.float(),
        frame_scores=scores,
    )


def name_of(select: nn.Module) -> str:
    return f"{type(select).__module__}.{type(select).__qualname__}"


def call_own(
    select: nn.Module, method: str, needed: str, call: Any, sketch: FrameSketch, inputs: SelectorInputs
) -> Any:
    """What a selector's method returns, on copies if it is not ours: later arms of a test read the same sketch."""
    if not type(select).__module__.startswith("dynfocus."):
        device = sketch.mask.device
        sketch, inputs = sketch.to(device, copy=True), inputs.to(device, copy=True)
    try:
        return call(sketch, inputs)
    except (DynFocusError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        trace = extract_tb(error.__traceback__)
        own = [frame for frame in trace[1:] if not any(part in frame.filename for part in PASSED)][:1] or trace
        raise SelectorError(
            f"selector {name_of(select)}, whose {method} fails ({type(error).__name__}: {error}; {own[0].filename}, "
            f"line {own[0].lineno})",
            f"a {method} that returns {needed}",
            "Correct it.",
        ) from error


def _wrong_kind(scores: Any, mask: Tensor) -> str | None:
    """What is wrong with scores as far as it shows without reading their numbers; None where nothing is."""
    if not isinstance(scores, Tensor):
        return f"a {type(scores).__name__}"
    if scores.shape != mask.shape:
        return f"a tensor of shape {list(scores.shape)}"
    return None if scores.is_floating_point() else f"a tensor of {scores.dtype}"
