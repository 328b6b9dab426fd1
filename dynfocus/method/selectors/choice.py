"""Let any selector choose, and check a choice that it made in a ``forward`` of its own."""

from typing import Any

from torch import Tensor, nn

from dynfocus.errors import SelectorError
from dynfocus.method.dpe import EventPrototypeSelector
from dynfocus.method.selectors.base import FrameSelector, call_own, name_of
from dynfocus.method.selectors.sets import SetSelector
from dynfocus.types import Focus, FrameSketch, SelectorInputs


def choose(select: nn.Module, sketch: FrameSketch, inputs: SelectorInputs) -> Focus:
    """The choice of any selector; one with a ``forward`` of its own is checked, and cannot change what it reads.

    Raises:
        SelectorError: if that ``forward`` fails, or returns no choice of K' frames of each video.
    """
    if type(select).forward in (FrameSelector.forward, SetSelector.forward, EventPrototypeSelector.forward):
        return select(sketch, inputs)
    focus = call_own(select, "forward", "a Focus", select, sketch, inputs)
    if (wrong := _wrong_focus(focus, sketch, inputs)) is not None:
        raise SelectorError(
            f"selector {name_of(select)}, whose forward returns {wrong}",
            "a Focus of K' different real frames of each video, in time order, with what they hold as finite numbers",
            "Correct it; dynfocus.types.Focus says what each field is.",
        )
    return focus


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
