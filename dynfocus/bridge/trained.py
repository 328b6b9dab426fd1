"""Sketch frames and questions with the encoders of a trained DynFocus model, without its language model."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from dynfocus.bridge.features import Features, QuestionTokens
from dynfocus.bridge.requirements import check_features, find_needs
from dynfocus.device import choose_device
from dynfocus.errors import CheckpointError, ConfigError
from dynfocus.method.selectors import build_selector, refuse_foreign_selector
from dynfocus.method.sketch import sketch_frames
from dynfocus.models.collate import Collator
from dynfocus.models.loading import read_trained_config
from dynfocus.models.model import DynFocusModel
from dynfocus.models.processor import read_trained_rule
from dynfocus.models.towers import load_instruction, load_instruction_tokenizer, open_vision
from dynfocus.models.towers.weights import fill, read_part
from dynfocus.settings import SelectorChoice, selector_label
from dynfocus.types import FrameSketch


class TrainedFeatures(Features):
    """The sketches that a trained model makes, and its question encoder; the language model is not read.

    Args:
        folder: of the trained model.
        device: where to compute: ``cpu``, ``cuda`` or ``auto``.

    Raises:
        CheckpointError: if there is no trained model in the folder, or a part of it is absent.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self.folder, self.device = Path(folder), choose_device(device)
        config = read_trained_config(self.folder)
        # Nothing is encoded here, so no frame need give all its patches.
        self.settings, self.rule = replace(config.settings, kept_tokens=2), read_trained_rule(self.folder)
        self.vision = open_vision(self.folder).tower(getattr(torch, config.vision_dtype)).to(self.device)
        self.name = f"trained model in {folder}"
        self.width, self.text_width = self.vision.width, config.qformer_config.hidden_size
        self.own_selector = config.settings.selector if config.settings.encoder == "dynfocus" else None
        # Where Q is read from each frame, there is no question before the frames.
        self.instruction = None
        if config.settings.instruction_mode == "instruction":
            self.instruction = load_instruction(self.folder, dtype=getattr(torch, config.instruction_dtype))
            trained = dict(read_part(self.folder, "instruction.encoder.")) if config.towers else {}
            self.instruction.encoder.load_state_dict(trained, strict=False)  # trained beside adapters
            self.instruction.to(self.device)
            self.tokenizer = load_instruction_tokenizer(self.folder)
        self.compares_text = self.instruction is not None and self.width == self.text_width

    @torch.no_grad()
    def sketch(self, frames: UInt8[Tensor, "T H W 3"]) -> FrameSketch:
        return sketch_frames(frames.to(self.device), self.vision, self.settings).to("cpu")

    @torch.no_grad()
    def read_question(self, question: str | None, sketch: FrameSketch) -> QuestionTokens:
        if question is None or self.instruction is None:
            return super().read_question(question, sketch)
        read = self.tokenizer([question], truncation=True, max_length=Collator.longest_instruction, return_tensors="pt")
        mask = read["attention_mask"].bool().to(self.device)
        tokens = self.instruction(read["input_ids"].to(self.device), mask)
        return QuestionTokens(tokens.float().cpu(), mask.cpu())

    def default_selector(self) -> SelectorChoice:
        """The selector that the model was trained with; ``uniform`` where it has none.

        Raises:
            ConfigError: if the folder names code that is neither ours nor installed, which only a user may name.
        """
        if self.own_selector is None:
            return super().default_selector()
        try:
            refuse_foreign_selector(self.own_selector, self.folder)
        except ConfigError as error:
            do = "Name it as --selector (selector= in Python) if you know that code and choose to run it."
            raise ConfigError(error.given, error.needed, do) from error
        return self.own_selector

    def load_weights(self, selector: nn.Module) -> None:
        """Give the model's own selector its trained weights; raises CheckpointError where they are absent."""
        if not selector.state_dict():
            return
        tensors = list(read_part(self.folder, "connector.select."))
        if not tensors:
            raise CheckpointError(
                f"the model in {self.folder}, which holds no weights of a selector",
                f"those of {selector_label(self.settings.selector)}",
                "Name a selector without weights.",
            )
        fill(selector, tensors, self.folder, torch.float32)


@dataclass(frozen=True)
class ModelSketches:
    """What selectors can read in a whole trained model; see `Features`."""

    name: str
    own_selector: Any
    compares_text: bool


def open_selector(model: DynFocusModel, selector: SelectorChoice) -> nn.Module:
    """Another selector for the sketches of a trained model, to keep frames in place of its own.

    Raises:
        ConfigError: if there is no such selector, it reads what the sketches do not give, or the model keeps no frames
            before others.
    """
    settings, label = model.settings, selector_label(selector)
    if settings.encoder != "dynfocus":
        raise ConfigError(
            f"selector {label} for a model with the encoder {settings.encoder}, which keeps no frames before others",
            "a model whose encoder is dynfocus",
            "Name no selector.",
        )
    width, text_width = model.vision.width, model.config.qformer_config.hidden_size
    compares_text = settings.instruction_mode == "instruction" and width == text_width
    made = build_selector(replace(settings, selector=selector), width, text_width)
    check_features(find_needs(made), label, ModelSketches("this trained model", settings.selector, compares_text))
    return made.to(model.device).eval().requires_grad_(False)
