"""Turn the sketch of a video and a question into few tokens: Figure 2."""

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dynfocus.errors import FeatureError
from dynfocus.method.cce import Cones, Projector, Rods, weave
from dynfocus.method.selectors import build_selector, choose
from dynfocus.method.sketch import is_finite
from dynfocus.settings import ConnectorSettings, count_kept
from dynfocus.types import FrameSketch, SelectorInputs, VideoTokens


class Connector(nn.Module):
    """Sketch + question -> the tokens the language model reads, and the Focus that made them.

    Args:
        settings: sizes and switches of DPE and CCE.
        width, text_width, out: d of the vision encoder, d' of the instruction encoder, D of the language model.
    """

    def __init__(self, settings: ConnectorSettings, width: int, text_width: int, out: int) -> None:
        super().__init__()
        self.settings = settings
        self.select = build_selector(settings, width, text_width)
        self.cones = Cones(settings, width, out)
        self.rods = Rods(width, text_width, out)

    def forward(
        self,
        sketch: FrameSketch,
        question: Float[Tensor, "B *T R e"],
        question_mask: Bool[Tensor, "B R"],
        rows: Int[Tensor, " B"],
        step: int = 0,
        relevant: Bool[Tensor, "B T"] | None = None,
    ) -> VideoTokens:
        """Shapes: B videos of T frames -> [B,S,D]; ``rows`` and ``step`` key the noise, see `Batch`."""
        check(sketch)
        frames = tuple(sketch.frames.tolist())
        keep = tuple(count_kept(count, self.settings) for count in frames)
        focus = choose(self.select, sketch, SelectorInputs(frames, keep, rows, step, question, question_mask, relevant))
        cones = self.cones(focus, rows)
        rods = self.rods(sketch, question, question_mask)
        return weave(cones, rods, focus, sketch, self.settings, padded=min(frames) < sketch.mask.shape[1])


class AveragePooling(nn.Module):
    """The baseline without selection: every frame gives its P averaged patches through one projector.

    It is called as `Connector` is; it reads neither the question nor the key of the noise.
    """

    def __init__(self, settings: ConnectorSettings, width: int, text_width: int, out: int) -> None:
        super().__init__()
        self.fine = Projector(width, out)

    def forward(
        self,
        sketch: FrameSketch,
        question: Float[Tensor, "B *T R e"],
        question_mask: Bool[Tensor, "B R"],
        rows: Int[Tensor, " B"],
        step: int = 0,
        relevant: Bool[Tensor, "B T"] | None = None,
    ) -> VideoTokens:
        check(sketch)
        pooled = sketch.pooled.shape[2]
        tokens = self.fine(sketch.pooled)
        return VideoTokens(tokens.flatten(1, 2), sketch.mask.repeat_interleave(pooled, 1))


def check(sketch: FrameSketch) -> None:
    """Refuse a sketch that holds numbers that are not finite; raises FeatureError."""
    if not is_finite(sketch):
        raise FeatureError(
            "a sketch with NaN or infinite numbers",
            "finite numbers",
            "Compute it again: delete the cached sketch, and check the vision encoder's weights and precision.",
        )


def build_connector(settings: ConnectorSettings, width: int, text_width: int, out: int) -> nn.Module:
    """The connector or the baseline that ``settings.encoder`` names."""
    kind = AveragePooling if settings.encoder == "average_pooling" else Connector
    return kind(settings, width, text_width, out)
