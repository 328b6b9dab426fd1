"""Sketch videos for selectors: by averaged pixels alone, or by an encoder that another file of this room opens."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from dynfocus.device import choose_device
from dynfocus.errors import UsageError
from dynfocus.settings import ConnectorSettings, FrameRule
from dynfocus.types import FrameSketch

FPS, CANDIDATES = 2.0, 512  # candidate frames a second, and of a video at most, where no model has its own rule
SIDE = 8  # cells of a frame's grid in each direction, without an encoder
CELLS = SIDE * SIDE


@dataclass(frozen=True)
class QuestionTokens:
    """A question as selectors read it: R encoded tokens, and the relevance of each frame where it is measured."""

    tokens: Float[Tensor, "1 R e"]
    mask: Bool[Tensor, "1 R"]
    relevance: Float[Tensor, "1 T"] | None = None


class Features(ABC):
    """What turns the frames of a video, and a question, into what selectors read.

    Attributes:
        name: what the features are, for people.
        rule: which frames are candidates where nothing else is asked for, and the size and shape they are read in.
        settings: of the sketches, as selectors read them.
        width, text_width: numbers in a patch, and in an encoded token of the question.
        compares_text: whether the frames can be compared with a question.
        own_selector: the selector whose trained weights come with the features; None where there is none.
    """

    name: str
    rule: FrameRule
    settings: ConnectorSettings
    width: int
    text_width: int = 1
    compares_text: bool = False
    own_selector: Any = None

    @abstractmethod
    def sketch(self, frames: UInt8[Tensor, "T H W 3"]) -> FrameSketch:
        """Sketch the frames of one video: B = 1, on the CPU."""

    def read_question(self, question: str | None, sketch: FrameSketch) -> QuestionTokens:
        """Encode a question, and compare it with the frames where that is possible."""
        return QuestionTokens(torch.zeros(1, 1, self.text_width), torch.zeros(1, 1, dtype=torch.bool))

    def default_selector(self) -> Any:
        """The selector where none is named: the trained model's own, else ``uniform``."""
        return "uniform"

    def load_weights(self, selector: torch.nn.Module) -> None:
        """Give a selector the weights that were trained with the features."""
        raise NotImplementedError(f"{self.name} has no trained selector")


class PixelFeatures(Features):
    """Each frame as the mean colours of 8 x 8 cells, from -1 to 1, where 0 is grey.

    No weights are needed. Frames that look alike at this size count as alike, whatever they show. The cells stand where
    pooled patches do, and are the grains too.
    """

    name = f"mean colors of {SIDE} x {SIDE} cells (no encoder)"
    rule = FrameRule(size=SIDE, frames=CANDIDATES, fps=FPS, interpolation="box")
    width = 3
    settings = ConnectorSettings(
        patches=CELLS, pooled=CELLS, spatial_prototypes=(CELLS,), spatial_neighbours=(SIDE,), sketch_dtype="float32"
    )

    def sketch(self, frames: UInt8[Tensor, "T H W 3"]) -> FrameSketch:
        cells = (frames.float() / 127.5 - 1).flatten(1, 2)[None]
        return FrameSketch(cells, cells, torch.ones(1, len(frames), dtype=torch.bool))


def open_features(
    model: Path | None = None, encoder: Path | None = None, device: str = "cpu", host: Path | None = None
) -> Features:
    """The features of pixels, or of the folder that is named: a trained model's, CLIP's or SigLIP's, or a host's.

    Raises:
        UsageError: if several are named.
        CheckpointError: if a folder holds no such weights.
        ConfigError: if the host is of no known family.
    """
    named = {"a model": model, "an encoder": encoder, "a host": host}
    given = [name for name, folder in named.items() if folder is not None]
    if len(given) > 1:
        raise UsageError(" and ".join(given), "one of them, or none", "Name one folder.")
    if host is not None:
        from dynfocus.bridge.hosts.folder import load_host
        from dynfocus.bridge.hosts.sketches import HostSketches

        features = HostSketches(load_host(host, choose_device(device)), host)
        features.rule = replace(features.rule, fps=FPS, frames=CANDIDATES)
        return features
    if encoder is not None and encoder.is_file():
        from dynfocus.bridge.shots import ShotFeatures

        return ShotFeatures(encoder)
    if encoder is not None:
        from dynfocus.bridge.encoders import TextImageFeatures

        return TextImageFeatures(encoder, device)
    if model is not None:
        from dynfocus.bridge.trained import TrainedFeatures

        return TrainedFeatures(model, device)
    return PixelFeatures()


def with_selector(settings: ConnectorSettings, selector: Any) -> ConnectorSettings:
    """The settings of a selector on these sketches."""
    return replace(settings, selector=selector)
