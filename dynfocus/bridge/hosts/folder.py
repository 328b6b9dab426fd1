"""Load a host from its folder, and compute the identity that tells it from every other."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from dynfocus.bridge.hosts.families import FAMILIES, find_family
from dynfocus.bridge.hosts.host import Host
from dynfocus.bridge.hosts.processor_calls import Pair
from dynfocus.data.sketches.digests import Digests, hash_files
from dynfocus.errors import CheckpointError, ConfigError
from dynfocus.models.towers.weights import read_json, reason, unfit

READ = ("*.safetensors", "config.json", "*processor_config.json")  # files that features depend on


def load_host(folder: Path, device: torch.device | str = "cpu", pair: Pair = "same") -> Host:
    """Load a model of transformers and its processor from a folder, in the precision of its weights.

    Raises:
        ConfigError: if the model is of no family that is known here, or torchvision is not installed.
        CheckpointError: if the folder holds no such model, or a part of it is absent.
    """
    find_family(str(read_json(Path(folder) / "config.json").get("model_type")))
    if find_spec("torchvision") is None:
        raise ConfigError(
            "a video language model without torchvision, which its video processor needs",
            "torchvision, built for the torch that is installed",
            "Run pip install torchvision num2words, from the index that torch came from.",
        )
    from transformers import AutoModelForImageTextToText, AutoProcessor

    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            folder, dtype="auto", output_loading_info=True, **local
        )
        processor = AutoProcessor.from_pretrained(folder, **local)
    except Exception as error:  # of many kinds, by what is absent
        raise unfit(Path(folder), reason(error)) from error
    model, loading = loaded
    if loading["missing_keys"]:
        raise unfit(Path(folder), f"{sorted(loading['missing_keys'])[0]} is absent")
    wanted = FAMILIES[model.config.model_type][1]
    if type(processor).__name__ != wanted:
        raise CheckpointError(
            f"the processor in {folder}, which is a {type(processor).__name__}",
            f"a {wanted}",
            "Copy the processor's files of the published model into the folder.",
        )
    return Host(model.eval().requires_grad_(False).to(device), processor, pair)


def identify(folder: Path, digests: Digests | None = None) -> str:
    """Digest the files that a host's features depend on: weights, settings and the processor's settings."""
    files = sorted({file for pattern in READ for file in Path(folder).glob(pattern)})
    if digests is None:
        return hash_files(files)
    return digests.get(files, lambda: hash_files(files), "host")
