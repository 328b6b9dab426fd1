"""From settings to a model that is ready to train: towers read, weights frozen, adapters put on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from dynfocus.device import half_precision
from dynfocus.errors import CheckpointError, ConfigError
from dynfocus.models.lora import add_adapters, has_adapters, read_lora_settings, without_adapters
from dynfocus.models.model import DynFocusModel
from dynfocus.models.towers import Attention
from dynfocus.settings import STAGES, ConnectorSettings, LoraSettings, StageName


@dataclass(frozen=True)
class Building:
    """What a model is built from and which of its parts a stage trains; the fields are `DynFocusModule`'s arguments.

    Raises:
        ConfigError: if settings contradict each other.
    """

    encoders: Path
    language_model: Path
    connector: ConnectorSettings
    stage: StageName
    vision: Path | None = None
    init_from: Path | None = None
    attention: Attention = "sdpa"
    quantize: Literal["nf4"] | None = None
    lora: LoraSettings | None = None
    train_instruction: bool = False
    activation_checkpointing: bool = False

    def __post_init__(self) -> None:
        tuned = "language_model" in STAGES[self.stage].trains
        if self.lora and not tuned:
            raise ConfigError(
                f"lora in {self.stage}, which leaves the language model as it is",
                "a stage that trains the language model",
                "Set model.lora to null in this stage, or run stage2.",
            )
        if self.quantize and tuned and not self.lora:
            raise ConfigError(
                f"quantize = {self.quantize} in {self.stage}, which trains the language model",
                "adapters, as weights of 4 bits cannot be trained themselves",
                "Set model.lora (as lightning_configs/qlora.yaml does), or model.quantize to null.",
            )
        if self.train_instruction and not tuned:
            raise ConfigError(
                f"train_instruction in {self.stage}, which hands over nothing but projectors",
                "a stage that leaves a whole model",
                "Set model.train_instruction to false in this stage, or run stage2.",
            )

    @property
    def trains(self) -> tuple[str, ...]:
        """The children of the model that are trained, at least in part."""
        return STAGES[self.stage].trains + (("instruction",) if self.train_instruction else ())

    def build(self, precision: str, device: torch.device | None = None) -> DynFocusModel:
        """The model of this stage, with everything frozen that it does not train.

        Frozen weights are held in the precision they are computed in, trained ones in fp32 under mixed precision.

        Args:
            precision: as Lightning's Trainer names it.
            device: where a quantised language model is packed; all else comes on the CPU.

        Raises:
            CheckpointError: if a folder does not hold what is needed.
            ConfigError: if a trained model's folder and the settings contradict each other.
        """
        if self.init_from is not None and not self.init_from.exists():
            stage = "stage1" if self.init_from.suffix == ".safetensors" else "stage2"
            raise CheckpointError(
                f"no {self.init_from}, which model.init_from names",
                "projectors that stage 1 leaves, or a trained model's folder",
                f"Run `make {stage}` first, or `dynfocus fit --config dynfocus:{stage}` with the configs of your data, "
                "or name another in model.init_from.",
            )
        half, mixed = half_precision(precision), precision.endswith("mixed")
        folder = self.init_from if self.init_from is not None and self.init_from.is_dir() else None
        adapted = self.lora is not None if folder is None else self._has_adapters_of(folder)
        full = mixed and "language_model" in self.trains and not adapted
        language: dict[str, Any] = {
            "attention": self.attention,
            "dtype": torch.float32 if half is None or full else half,
            "device": device,
        }
        if self.quantize:
            language["quantize"] = self.quantize
        if folder is not None:
            model = DynFocusModel.from_folder(folder, self.connector, **language)
        else:
            model = DynFocusModel.from_towers(
                *(self.encoders, self.language_model, self.connector, self.vision, half or torch.float32), **language
            )
            if self.init_from is not None:
                model.load_projectors(self.init_from)
        if self.train_instruction and mixed:
            model.instruction.float()
        self.freeze(model)
        if self.activation_checkpointing:
            checkpoint_activations(model)
        return model

    def _has_adapters_of(self, folder: Path) -> bool:
        """Whether a trained model's folder holds adapters; raises ConfigError if others than ``lora`` asks for."""
        adapters = read_lora_settings(folder)
        if self.lora is not None and adapters != self.lora:
            raise ConfigError(
                f"lora of {_describe(self.lora)} on the model in {folder}, which holds {_describe(adapters)}",
                "the adapters that are there, or a language model's own folder under new ones",
                "Set model.lora as it was, or start from stage 1's projectors.",
            )
        return adapters is not None

    def freeze(self, model: DynFocusModel) -> None:
        """Put adapters on where they are asked for, and freeze everything that this stage does not train."""
        model.requires_grad_(False)
        model.connector.requires_grad_(True)
        if "language_model" in self.trains:
            if self.lora and not has_adapters(model.language_model):
                model.language_model = add_adapters(model.language_model, self.lora)
            for name, weight in model.language_model.named_parameters():
                weight.requires_grad_("lora_" in name if has_adapters(model.language_model) else True)
        if self.train_instruction:
            for weight in model.instruction.used():
                weight.requires_grad_(True)


def _describe(lora: LoraSettings | None) -> str:
    return "none" if lora is None else f"rank {lora.rank}, alpha {lora.alpha}, dropout {lora.dropout}"


def checkpoint_activations(model: DynFocusModel) -> None:
    """Let the language model keep the inputs of its layers alone, and compute the rest again in the backward pass."""
    base = without_adapters(model.language_model)
    # The first is the newer name of the second.
    enable = getattr(base, "activation_checkpointing_enable", None) or base.gradient_checkpointing_enable
    enable({"use_reentrant": False})
