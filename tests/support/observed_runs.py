"""Runs of the miniature world with observers, and what TensorBoard holds of them afterwards."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_world import call
from torch import Tensor

from dynfocus.method.selectors import FrameSelector
from dynfocus.settings import ConnectorSettings
from dynfocus.types import FrameSketch, SelectorInputs

PROBES, ANSWERS = (f"--trainer.callbacks+=callbacks.{name}" for name in ("probes.Probes", "answers.Answers"))
AFRESH = ("--model.init_from", "null")
BRIEF = (*AFRESH, "--trainer.max_steps", "2", "--trainer.val_check_interval", "2")


def run_with_observers(place: Path, run: Path, *more: str, stage: str = "stage2", verb: str = "fit") -> Path:
    """The folder of a run with both observers."""
    start = AFRESH if stage == "stage2" and verb == "fit" else ()
    assert call(place, verb, stage, run, *start, PROBES, ANSWERS, *more) == 0
    return run


def events(run: Path) -> Any:
    """All that TensorBoard would read of a run."""
    kinds = ("images", "histograms", "scalars", "tensors")
    accumulator = EventAccumulator(str(run / "tensorboard"), size_guidance=dict.fromkeys(kinds, 0))
    return accumulator.Reload()


def pictures(accumulator: Any, tag: str) -> list[NDArray[np.uint8]]:
    """The pictures under a tag, in their order."""
    return [np.asarray(Image.open(io.BytesIO(one.encoded_image_string))) for one in accumulator.Images(tag)]


def tags(accumulator: Any, kind: str, start: str) -> list[str]:
    return sorted(tag for tag in accumulator.Tags()[kind] if tag.startswith(start))


def render_markdown(text: str) -> str:
    """Markdown as the page that TensorBoard makes of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as it imports the sanitizer of a library that calls its own deprecated
        from tensorboard.plugin_util import markdown_to_safe_html
    return markdown_to_safe_html(text)


class Last(FrameSelector):
    """A selector of one's own with a setting of its own: the last frames before some that are left out."""

    def __init__(self, settings: ConnectorSettings, width: int, text_width: int, left_out: int = 0) -> None:
        super().__init__(settings, width, text_width)
        self.left_out = left_out

    def rank(self, sketch: FrameSketch, inputs: SelectorInputs) -> Tensor:
        time = sketch.mask.cumsum(-1).float()
        return time - 100 * (time > time.amax(-1, keepdim=True) - self.left_out)
