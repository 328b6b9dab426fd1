"""The frozen vision encoder in a folder, and what tells it from every other."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import InstructBlipVisionConfig

from dynfocus.nn.backbones import OLD_BUFFER, VisionTower, existing, load_part, read_config, unfit
from dynfocus.sketches.digests import raw

# Of the config, what the encoder computes with; the rest says how it was initialised or saved.
SHAPING = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size"),
    *("hidden_act", "layer_norm_eps", "qkv_bias"),
)


class EncoderFolder:
    """The vision encoder of an InstructBLIP folder, or of a trained model's folder, which holds the same one.

    Args:
        folder: either of the two.
        dtype: the precision it computes in; by default what a model loaded from the folder has.

    Raises:
        CheckpointError: if the folder holds no such configuration.
    """

    def __init__(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        self.folder = Path(folder)
        config: dict[str, Any] = json.loads(existing(self.folder / "config.json").read_text())
        trained = config.get("model_type") == "dynfocus"
        self.prefix = "vision.encoder." if trained else "vision_model."
        stored = getattr(torch, (config.get("dtype") if trained else None) or "float32")
        self.dtype: torch.dtype = stored if dtype is None else dtype
        self.config = config if trained else read_config(self.folder)

    @property
    def vision(self) -> InstructBlipVisionConfig:
        return InstructBlipVisionConfig(**self.config["vision_config"])

    @property
    def files(self) -> list[Path]:
        """All that the identity hangs on."""
        configs = (self.folder / name for name in ("config.json", "preprocessor_config.json"))
        return [*filter(Path.exists, configs), *sorted(self.folder.glob("*.safetensors"))]

    def tower(self) -> VisionTower:
        """The encoder, ready to run on the CPU; raises CheckpointError if its weights are not all there."""
        tower = VisionTower(self.vision, self.config["image_mean"], self.config["image_std"])
        load_part(tower.encoder, self.folder, self.prefix)
        return tower.eval().requires_grad_(False).to(self.dtype)

    def identity(self) -> str:
        """A digest of the encoder's weights as it computes with them, its sizes and its pixel normalisation.

        Names are taken without the folder's own prefix, so every folder with the same encoder gives the same digest.

        Raises:
            CheckpointError: if a file of weights cannot be read.
        """
        shape = {name: getattr(self.vision, name) for name in SHAPING}
        pixels = [list(self.config[name]) for name in ("image_mean", "image_std")]
        digest = hashlib.sha256(json.dumps([shape, pixels, str(self.dtype)], sort_keys=True).encode())
        weights: dict[str, Path] = {}
        try:
            for file in sorted(self.folder.glob("*.safetensors")):
                with safe_open(file, "pt") as opened:
                    weights |= {name: file for name in opened.keys()}  # noqa: SIM118, C420 (not a dict)
            for name in sorted(weights):
                if name.startswith(self.prefix) and not name.endswith(OLD_BUFFER):
                    with safe_open(weights[name], "pt") as opened:
                        tensor = opened.get_tensor(name).to(self.dtype)
                    digest.update(json.dumps([name.removeprefix(self.prefix), list(tensor.shape)]).encode())
                    digest.update(raw(tensor))
        except SafetensorError as error:
            raise unfit(self.folder, f"{error}") from error
        return digest.hexdigest()
