"""Vision encoders: EVA-CLIP as InstructBLIP has it, CLIP and SigLIP, read from their files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from transformers import (
    CLIPConfig,
    CLIPVisionConfig,
    CLIPVisionModel,
    InstructBlipConfig,
    InstructBlipVisionConfig,
    InstructBlipVisionModel,
    SiglipConfig,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from dynfocus.errors import CheckpointError, FeatureError
from dynfocus.models.towers import lavis
from dynfocus.models.towers.weights import (
    INDEX,
    Named,
    fill,
    part_names,
    read_json,
    read_part,
    read_settings,
    unfit,
    weight_files,
)

VisionConfig: TypeAlias = InstructBlipVisionConfig | CLIPVisionConfig | SiglipVisionConfig
PART = "vision_model."

# What config.json calls itself -> the whole checkpoint's configuration, for the two families that also come alone.
WHOLE: dict[str, Any] = {"instructblip": InstructBlipConfig, "clip": CLIPConfig, "siglip": SiglipConfig}
MODELS: dict[str, tuple[Any, Any]] = {
    "instructblip_vision_model": (InstructBlipVisionConfig, InstructBlipVisionModel),
    "clip_vision_model": (CLIPVisionConfig, CLIPVisionModel),
    "siglip_vision_model": (SiglipVisionConfig, SiglipVisionModel),
}


class VisionTower(nn.Module):
    """Frames -> patches: the output of the second-last block, class token dropped.

    Args:
        config: sizes of the vision transformer, which say by their class what family it is of.
        mean, std: the pixel normalisation it was trained with, on the scale 0 to 1.

    Raises:
        CheckpointError: if its patches form no square grid.
    """

    def __init__(self, config: VisionConfig, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        size, patch = config.image_size, config.patch_size
        if not isinstance(size, int) or not isinstance(patch, int):
            raise CheckpointError(
                f"a vision encoder of {size} pixels in patches of {patch}",
                "one number each, so that the patches form a square grid",
                "Use an encoder of square images and square patches.",
            )
        self.encoder: Any = MODELS[config.model_type][1](config)
        self.size, self.width = size, int(config.hidden_size)
        self.patches = (size // patch) ** 2
        self.class_tokens = 0 if isinstance(config, SiglipVisionConfig) else 1
        self.mean, self.std = list(mean), list(std)  # not buffers: transformers loses those that are not saved

    def rows(self, frames: UInt8[Tensor, "T H W 3"]) -> Float[Tensor, "T M d"]:
        """The second-last block's output: a class token first, in the families that have one, then the N patches.

        Raises FeatureError if the frames are not as large as the encoder expects.
        """
        if tuple(frames.shape[1:3]) != (self.size, self.size):
            raise FeatureError(
                f"frames of {frames.shape[2]} x {frames.shape[1]} pixels",
                f"{self.size} x {self.size}, the vision encoder's size",
                f"Set the frame rule's size to {self.size}.",
            )
        weight = self.encoder.embeddings.patch_embedding.weight
        mean, std = (torch.tensor(numbers, device=frames.device) for numbers in (self.mean, self.std))
        pixels = rearrange((frames / 255 - mean) / std, "t h w c -> t c h w")
        hidden = self.encoder.embeddings(pixels.to(weight.device, weight.dtype))
        if isinstance(self.encoder, CLIPVisionModel):
            hidden = self.encoder.pre_layrnorm(hidden)
        unmasked = {} if isinstance(self.encoder, InstructBlipVisionModel) else {"attention_mask": None}
        for block in self.encoder.encoder.layers[:-1]:
            hidden = block(hidden, **unmasked)
        return hidden

    def forward(self, frames: UInt8[Tensor, "T H W 3"]) -> Float[Tensor, "T N d"]:
        """Raises FeatureError if the frames are not as large as the encoder expects."""
        return self.rows(frames)[:, self.class_tokens :]


@dataclass(frozen=True)
class VisionFiles:
    """A vision encoder on disk.

    Attributes:
        folder: where it lies.
        config: its sizes.
        image_mean, image_std: its pixel normalisation.
        files: all that it hangs on.
        read: gives its weights, one after another.
        dtype: the precision that a model loaded from the folder computes in.
    """

    folder: Path
    config: VisionConfig
    image_mean: list[float]
    image_std: list[float]
    files: list[Path]
    read: Callable[[], Named] = field(repr=False)
    dtype: torch.dtype = torch.float32

    def tensors(self) -> Named:
        """The weights by transformers' names, sorted, as they are stored.

        Raises:
            CheckpointError: if one does not read.
        """
        return self.read()

    def tower(self, dtype: torch.dtype = torch.float32) -> VisionTower:
        """The encoder on the CPU, frozen; raises CheckpointError unless its weights are all there and no others."""
        with torch.device("meta"):
            tower = VisionTower(self.config, self.image_mean, self.image_std)
        fill(tower.encoder, self.tensors(), self.folder, dtype)
        return tower.eval().requires_grad_(False)


def open_vision(folder: Path) -> VisionFiles:
    """The vision encoder of a folder: InstructBLIP's, CLIP's or SigLIP's of transformers, LAVIS files, a trained model.

    Raises:
        CheckpointError: if the folder holds none of these, or its configuration does not read.
    """
    folder = Path(folder)
    if lavis.is_lavis(folder):
        return VisionFiles(folder, *lavis.open_vision(folder), partial(lavis.read_vision, folder))
    config = read_json(folder / "config.json")
    if config.get("model_type") == "dynfocus":
        return _trained(folder, config)
    vision = _config(folder, config)
    pixels = read_json(folder / "preprocessor_config.json")
    names = ("config.json", "preprocessor_config.json")
    try:
        mean, std = ([float(number) for number in pixels[key]] for key in ("image_mean", "image_std"))
    except (KeyError, TypeError, ValueError) as error:
        raise unfit(folder, f"preprocessor_config.json without {error}") from error
    prefix = PART if config["model_type"] in WHOLE else ""
    return _stored(folder, vision, mean, std, prefix, names)


def vision_config(values: dict[str, Any]) -> VisionConfig:
    """The configuration from its plain form; one that does not say its family is InstructBLIP's."""
    return MODELS[values.get("model_type", "instructblip_vision_model")][0](**values)


def _config(folder: Path, config: dict[str, Any]) -> VisionConfig:
    kind = config.get("model_type")
    if kind in WHOLE:
        return read_settings(WHOLE[kind], folder).vision_config
    if kind in MODELS:
        return read_settings(MODELS[kind][0], folder)
    raise CheckpointError(
        f"a folder {folder} of the architecture {kind!r}",
        "a vision encoder of InstructBLIP, CLIP or SigLIP, as transformers or LAVIS save them, or a trained model",
        "Point to a folder of one of these.",
    )


def _trained(folder: Path, config: dict[str, Any]) -> VisionFiles:
    dtype: torch.dtype = getattr(torch, config.get("vision_dtype") or "float32")
    towers = config.get("towers")
    if towers:
        apart = open_vision(Path(towers.get("vision") or towers["encoders"]))
        return replace(apart, files=[folder / "config.json", *apart.files], dtype=dtype)
    vision = vision_config(config["vision_config"])
    mean, std = config["image_mean"], config["image_std"]
    return replace(_stored(folder, vision, mean, std, "vision.encoder.", ("config.json",)), dtype=dtype)


def _stored(
    folder: Path, config: VisionConfig, mean: list[float], std: list[float], prefix: str, names: tuple[str, ...]
) -> VisionFiles:
    """Of transformers' checkpoints of CLIP's or SigLIP's vision encoder alone, only some write the prefix."""
    if not prefix and any(name.startswith(PART) for name in part_names(folder, "")):
        prefix = PART
    files = [*(folder / name for name in (*names, INDEX) if (folder / name).exists()), *weight_files(folder, prefix)]
    return VisionFiles(folder, config, mean, std, files, partial(read_part, folder, prefix))
