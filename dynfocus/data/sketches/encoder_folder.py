"""Open the frozen vision encoder in a folder, and compute the identity that tells it from every other."""

import hashlib
import json
from pathlib import Path

import torch
from transformers import PreTrainedConfig

from dynfocus.data.sketches.digests import tensor_bytes
from dynfocus.models.towers import VisionTower, open_vision
from dynfocus.models.towers.vision import FAMILIES, unused_blocks

# Of the config, what InstructBLIP's, CLIP's and SigLIP's encoders compute with; the rest says how they were initialised
# or saved. Of other encoders' configs all is taken that is not among the second.
SHAPING = (
    *("model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("image_size", "patch_size", "hidden_act", "layer_norm_eps", "qkv_bias"),
)
UNSHAPING = ("_name_or_path", "architectures", "dtype", "initializer_range", "torch_dtype", "transformers_version")


class EncoderFolder:
    """The vision encoder of a folder, whatever kind it is of; a trained model's folder holds the same one.

    Args:
        folder: where it lies.
        dtype: the precision it computes in; by default what a model loaded from the folder has.

    Raises:
        CheckpointError: if the folder holds no vision encoder that we know.
    """

    def __init__(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        self.folder = Path(folder)
        self.vision_files = open_vision(self.folder)
        self.dtype: torch.dtype = self.vision_files.dtype if dtype is None else dtype

    @property
    def vision(self) -> PreTrainedConfig:
        return self.vision_files.config

    @property
    def files(self) -> list[Path]:
        """The files that the identity depends on."""
        return self.vision_files.files

    def tower(self) -> VisionTower:
        """Load the encoder, ready to run on the CPU; raises CheckpointError if its weights are not all there."""
        return self.vision_files.tower(self.dtype)

    def identity(self) -> str:
        """Digest the encoder's family, sizes and pixel normalisation, and its weights as it computes with them.

        Names are transformers' own, so every folder with the same encoder gives the same digest.

        Raises:
            CheckpointError: if a file of weights cannot be read.
        """
        shape = {name: getattr(self.vision, name, None) for name in SHAPING}
        if self.vision.model_type not in FAMILIES:
            shape = {name: value for name, value in self.vision.to_dict().items() if name not in UNSHAPING}
        if not unused_blocks(self.vision):
            shape["unused"] = 0  # keys of other encoders stay as they were before all blocks of this one ran
        pixels = [list(self.vision_files.image_mean), list(self.vision_files.image_std)]
        digest = hashlib.sha256(json.dumps([shape, pixels, str(self.dtype)], sort_keys=True).encode())
        for name, tensor in self.vision_files.tensors():
            digest.update(json.dumps([name, list(tensor.shape)]).encode())
            digest.update(tensor_bytes(tensor.to(self.dtype)))
        return digest.hexdigest()
