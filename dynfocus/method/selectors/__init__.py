"""Other ways to choose frames, behind the same call as DPE, at the same number of tokens."""

from importlib import import_module

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dynfocus.errors import ConfigError
from dynfocus.method.dpe import EventPrototypeSelector, at_frames, patches_of
from dynfocus.method.topk import keyed_noise, top_k
from dynfocus.settings import ConnectorSettings
from dynfocus.types import Focus, FrameSketch, SelectorInputs


class FrameSelector(nn.Module):
    """Base of selectors that rank single frames: say `rank`, and the K' best frames are kept as they are.

    Write your own by subclassing, and name it in ``connector.selector`` as ``my_module.MySelector``.
    """

    def __init__(self, settings: ConnectorSettings, width: int, text_width: int) -> None:
        super().__init__()
        self.settings = settings

    def rank(self, sketch: FrameSketch, cues: SelectorInputs) -> Float[Tensor, "B T"]:
        """A score for every frame; the K' highest are kept."""
        raise NotImplementedError(f"{type(self).__name__}.rank")

    def forward(self, sketch: FrameSketch, cues: SelectorInputs) -> Focus:
        frames, used = top_k(self.rank(sketch, cues), cues.keep, sketch.mask)
        used = torch.ones_like(frames, dtype=torch.bool) if used is None else used
        pooled, grains = at_frames(sketch.pooled, frames).float(), at_frames(sketch.grains, frames).float()
        patches = patches_of(sketch, frames, used)
        return Focus(frames, used, pooled, grains, None if patches is None else patches.float())


class UniformSelector(FrameSelector):
    """Frames at equal distances over the whole video."""

    def rank(self, sketch: FrameSketch, cues: SelectorInputs) -> Float[Tensor, "B T"]:
        keep = torch.tensor(cues.keep, device=sketch.mask.device)
        time = torch.arange(sketch.mask.shape[1], device=keep.device)
        part = sketch.frames[:, None] / keep[:, None]
        middles = ((torch.arange(max(cues.keep), device=keep.device) + 0.5) * part).long()
        middles = torch.where(torch.arange(middles.shape[1], device=keep.device) < keep[:, None], middles, -1)
        return (time == middles[..., None]).any(1).float()


class RandomSelector(FrameSelector):
    """Frames at random, the same ones for an annotation row whenever it is asked."""

    def rank(self, sketch: FrameSketch, cues: SelectorInputs) -> Float[Tensor, "B T"]:
        return keyed_noise(cues.frames, sketch.mask.shape[1], 1, cues.rows, step=0)[:, 0]


class OracleSelector(FrameSelector):
    """The frames a question needs first, one of each event before a second of any, then uniform ones."""

    def rank(self, sketch: FrameSketch, cues: SelectorInputs) -> Float[Tensor, "B T"]:
        if cues.relevant is None:
            raise ConfigError(
                "selector oracle on data without relevant frames",
                "rows that say which frames each question needs",
                "Use the embedded world, or another selector.",
            )
        starts = cues.relevant & ~torch.nn.functional.pad(cues.relevant, (1, 0))[:, :-1]
        uniform = UniformSelector(self.settings, 0, 0).rank(sketch, cues)
        return 4.0 * starts + 2.0 * cues.relevant + uniform


SELECTORS: dict[str, type[nn.Module]] = {
    "dpe": EventPrototypeSelector,
    "uniform": UniformSelector,
    "random": RandomSelector,
    "oracle": OracleSelector,
}


def build_selector(settings: ConnectorSettings, width: int, text_width: int) -> nn.Module:
    """The selector that ``settings.selector`` names, for sketches and instructions of these widths.

    Raises:
        ConfigError: if there is no selector of that name or at that dotted path.
    """
    name = settings.selector
    if name in SELECTORS:
        return SELECTORS[name](settings, width, text_width)
    module, _, cls = name.rpartition(".")
    try:
        return getattr(import_module(module), cls)(settings, width, text_width)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"selector {name!r} ({error})",
            f"one of {', '.join(SELECTORS)}, or the dotted path of a class",
            "Correct connector.selector; a path such as my_module.MySelector must be importable from here.",
        ) from error
