"""The towers: a frozen vision encoder, a frozen instruction encoder and a language model, read from their files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int, UInt8
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    InstructBlipConfig,
    InstructBlipQFormerConfig,
    InstructBlipQFormerModel,
    InstructBlipVisionConfig,
    InstructBlipVisionModel,
    PreTrainedModel,
)

from dynfocus.errors import CheckpointError, FeatureError

OLD_BUFFER = ".position_ids"  # counts upwards; older versions of transformers wrote it among the weights


class VisionTower(nn.Module):
    """Frames -> patches: the output of the second-last block, class token dropped.

    Args:
        config: sizes of the vision transformer.
        mean, std: the pixel normalisation it was trained with, on the scale 0 to 1.
    """

    def __init__(self, config: InstructBlipVisionConfig, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.encoder = InstructBlipVisionModel(config)
        self.size = config.image_size
        self.mean, self.std = list(mean), list(std)  # not buffers: transformers loses those that are not saved

    @property
    def patches(self) -> int:
        """N, patch tokens a frame."""
        config: Any = self.encoder.config
        return (config.image_size // config.patch_size) ** 2

    def forward(self, frames: UInt8[Tensor, "T H W 3"]) -> Float[Tensor, "T N d"]:
        """Raises FeatureError if the frames are not as large as the encoder expects."""
        if tuple(frames.shape[1:3]) != (self.size, self.size):
            raise FeatureError(
                f"frames of {frames.shape[2]} x {frames.shape[1]} pixels",
                f"{self.size} x {self.size}, the vision encoder's size",
                f"Set the frame rule's size to {self.size}.",
            )
        weight = self.encoder.embeddings.patch_embedding.weight
        mean, std = (torch.tensor(numbers, device=frames.device) for numbers in (self.mean, self.std))
        pixels = rearrange((frames / 255 - mean) / std, "t h w c -> t c h w")
        hidden = self.encoder.embeddings(pixels.to(weight))
        for block in self.encoder.encoder.layers[:-1]:
            hidden = block(hidden)
        return hidden[:, 1:]


class InstructionTower(nn.Module):
    """Instruction ids -> Q: the Q-Former's text path alone, no query tokens and no image.

    Departs: it stays frozen in both stages, where LLaMA-VID trains it in the second: the paper says nothing of it.
    """

    def __init__(self, config: InstructBlipQFormerConfig) -> None:
        super().__init__()
        self.encoder = InstructBlipQFormerModel(config)

    def forward(self, ids: Int[Tensor, "I R"], mask: Bool[Tensor, "I R"]) -> Float[Tensor, "I R e"]:
        return self.encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state


def read_config(folder: Path) -> dict[str, Any]:
    """Read the configs of an InstructBLIP checkpoint folder: vision, instruction, and the pixel normalisation."""
    existing(Path(folder) / "config.json")
    config: Any = InstructBlipConfig.from_pretrained(folder, local_files_only=True)
    pixels = json.loads(existing(Path(folder) / "preprocessor_config.json").read_text())
    return {
        "vision_config": config.vision_config.to_dict(),
        "qformer_config": config.qformer_config.to_dict(),
        "image_mean": pixels["image_mean"],
        "image_std": pixels["image_std"],
    }


def load_part(module: nn.Module, folder: Path, prefix: str) -> None:
    """Fill ``module`` with just those tensors of a checkpoint folder whose names start with ``prefix``.

    Raises:
        CheckpointError: if a tensor is absent, surplus or of another shape: never random weights without a word.
    """
    state: dict[str, Tensor] = {}
    files = sorted(existing(folder).glob("*.safetensors"))
    try:
        for file in files:
            with safe_open(file, "pt") as tensors:
                names = [name for name in tensors.keys() if name.startswith(prefix)]  # noqa: SIM118 (not a dict)
                names = [name for name in names if not name.endswith(OLD_BUFFER)]
                state |= {name.removeprefix(prefix): tensors.get_tensor(name) for name in names}
        module.load_state_dict(state, strict=True)
    except (RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{len(state)} tensors '{prefix}*' in {folder} that do not fit ({str(error).splitlines()[-1].strip()})",
            f"every tensor of {type(module).__name__}",
            "Check that the folder is a whole checkpoint of this architecture.",
        ) from error


def load_language_model(folder: Path) -> PreTrainedModel:
    """Any causal language model of transformers, from its folder on disk.

    Raises:
        CheckpointError: if weights are absent, broken or of another shape.
    """
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            existing(folder), local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, RuntimeError, SafetensorError) as error:
        raise unfit(folder, str(error).splitlines()[0]) from error
    model, found = loaded
    if found["missing_keys"]:
        raise unfit(folder, f"{sorted(found['missing_keys'])[0]} is absent")
    return model


def language_config(folder: Path) -> Any:
    existing(Path(folder) / "config.json")
    return AutoConfig.from_pretrained(folder, local_files_only=True)


def load_tokenizer(folder: Path) -> Any:
    try:
        return AutoTokenizer.from_pretrained(existing(folder), local_files_only=True)
    except (OSError, ValueError) as error:
        raise unfit(folder, f"no tokenizer: {str(error).splitlines()[0]}") from error


def unfit(folder: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"a checkpoint in {folder} that does not fit ({what})",
        "every weight, in the shapes that its config.json says",
        "Check that the folder is a whole checkpoint of this architecture.",
    )


def existing(path: Path) -> Path:
    """The path itself, if something is there; raises CheckpointError."""
    path = Path(path)
    if not path.exists():
        raise CheckpointError(
            f"the path {path}, where nothing is",
            "a checkpoint on disk",
            "Check the path; the embedded world's towers are made by `make towers`.",
        )
    return path
