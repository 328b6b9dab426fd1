"""Define the base class of selectors that rank single frames, and check what any selector does."""

from traceback import extract_tb
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dynfocus.errors import DynFocusError, SelectorError
from dynfocus.method.dpe import EventPrototypeSelector, at_frames, patches_of
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

    def rank(self, sketch: FrameSketch, inputs: SelectorInputs) -> Float[Tensor, "B T"]:
        """A score for every frame; the K' highest are kept."""
        raise NotImplementedError(f"{type(self).__name__}.rank")

    def forward(self, sketch: FrameSketch, inputs: SelectorInputs) -> Focus:
        frames, used = top_k(self._check_scores(sketch, inputs), inputs.keep, sketch.mask)
        used = torch.ones_like(frames, dtype=torch.bool) if used is None else used
        pooled, grains = at_frames(sketch.pooled, frames).float(), at_frames(sketch.grains, frames).float()
        patches = patches_of(sketch, frames, used)
        return Focus(frames, used, pooled, grains, None if patches is None else patches.float())

    def _check_scores(self, sketch: FrameSketch, inputs: SelectorInputs) -> Tensor:
        scores = _call(self, "rank", "a score for each frame", self.rank, sketch, inputs)
        wrong = _wrong_kind(scores, sketch.mask)
        if wrong is None and not (scores.isfinite() | ~sketch.mask).all():
            wrong = "scores that are NaN or infinite"
        if wrong is not None:
            raise SelectorError(
                f"selector {_name(self)}, whose rank returns {wrong}",
                f"a floating-point tensor of shape [B, T] = {list(sketch.mask.shape)}, finite at every real frame",
                "Return one score for each frame of each video; those of padding, where sketch.mask is false, may be "
                "any number.",
            )
        return scores


def choose(select: nn.Module, sketch: FrameSketch, inputs: SelectorInputs) -> Focus:
    """The choice of any selector; one with a ``forward`` of its own is checked, and cannot change what it reads.

    Raises:
        SelectorError: if that ``forward`` fails, or returns no choice of K' frames of each video.
    """
    if type(select).forward in (FrameSelector.forward, EventPrototypeSelector.forward):
        return select(sketch, inputs)
    focus = _call(select, "forward", "a Focus", select, sketch, inputs)
    if (wrong := _wrong_focus(focus, sketch, inputs)) is not None:
        raise SelectorError(
            f"selector {_name(select)}, whose forward returns {wrong}",
            "a Focus of K' different real frames of each video, in time order, with what they hold as finite numbers",
            "Correct it; dynfocus.types.Focus says what each field is.",
        )
    return focus


def _name(select: nn.Module) -> str:
    return f"{type(select).__module__}.{type(select).__qualname__}"


def _call(select: nn.Module, method: str, needed: str, call: Any, sketch: FrameSketch, inputs: SelectorInputs) -> Any:
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
        own = [frame for frame in trace[1:] if "/torch/nn/modules/" not in frame.filename][:1] or trace
        raise SelectorError(
            f"selector {_name(select)}, whose {method} fails ({type(error).__name__}: {error}; {own[0].filename}, "
            f"line {own[0].lineno})",
            f"a {method} that returns {needed}",
            "Correct it.",
        ) from error


def _wrong_focus(focus: Any, sketch: FrameSketch, inputs: SelectorInputs) -> str | None:
    """What is wrong with a choice; None where nothing is."""
    if not isinstance(focus, Focus):
        return f"a {type(focus).__name__}"
    shape = (len(sketch.mask), max(inputs.keep))
    for name in ("frames", "mask"):
        part: Any = getattr(focus, name)
        if not isinstance(part, Tensor) or part.shape != shape or part.is_floating_point():
            return f"{name} that are no whole numbers of shape [B, K] = {list(shape)}"
    for name in ("pooled", "grains"):
        part, own = getattr(focus, name), getattr(sketch, name)
        if not isinstance(part, Tensor) or part.shape != (*shape, *own.shape[2:]):
            return f"{name} of another shape than {[*shape, *own.shape[2:]]}"
        if not (part.isfinite() | ~focus.mask[..., None, None]).all():
            return f"{name} that are NaN or infinite"
    for n, (frames, real, keep) in enumerate(zip(focus.frames.tolist(), focus.mask.tolist(), inputs.keep, strict=True)):
        kept = [frame for frame, is_real in zip(frames, real, strict=True) if is_real]
        if kept != sorted(set(kept)) or len(kept) != keep or min(kept) < 0 or max(kept) >= inputs.frames[n]:
            return f"the frames {kept} of video {n}, which has {inputs.frames[n]} frames and K' = {keep}"
    return None


def _wrong_kind(scores: Any, mask: Tensor) -> str | None:
    """What is wrong with scores as far as it shows without reading their numbers; None where nothing is."""
    if not isinstance(scores, Tensor):
        return f"a {type(scores).__name__}"
    if scores.shape != mask.shape:
        return f"a tensor of shape {list(scores.shape)}"
    return None if scores.is_floating_point() else f"a tensor of {scores.dtype}"
