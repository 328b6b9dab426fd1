"""Sizes of towers from the config.json of folders of transformers (no torch)."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from dynfocus.errors import CheckpointError
from dynfocus.plan.towers import TOWERS, InstructionSizes, LanguageSizes, Towers, VisionSizes

# What a config.json leaves out where it is its family's default.
VISION: dict[str, dict[str, Any]] = {
    "instructblip_vision_model": {},
    "clip_vision_model": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "patch_size": 32},
    "siglip_vision_model": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "patch_size": 16},
}
LANGUAGE: dict[str, dict[str, Any]] = {
    "llama": {"max_position_embeddings": 2048},
    "mistral": {
        "intermediate_size": 14336,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
    },
    "qwen2": {
        "vocab_size": 151936,
        "intermediate_size": 22016,
        "max_position_embeddings": 32768,
        "sliding_window": 4096,
    },
    "gemma": {
        "max_position_embeddings": 8192,
        "vocab_size": 256000,
        "hidden_size": 3072,
        "intermediate_size": 24576,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "head_dim": 256,
        "tie_word_embeddings": True,
    },
}


def read_towers(encoders: Path | None = None, language_model: Path | None = None, vision: Path | None = None) -> Towers:
    """Sizes from the ``config.json`` of folders of transformers; the paper's towers where none is given.

    Args:
        encoders: an InstructBLIP, CLIP or SigLIP folder; without a Q-Former of its own InstructBLIP's is counted. Files
            of LAVIS say no sizes, and are taken for the paper's.
        language_model: a causal language model's folder.
        vision: folder of another vision encoder than that in ``encoders``.

    Raises:
        CheckpointError: if there is no readable config.json, or it is of a family whose tensors are not known here.
    """
    towers = TOWERS
    if encoders is not None and not _of_lavis(encoders):
        config = _read(encoders)
        text = {"vocab_size": 30522, "encoder_hidden_size": 1408} | config.get("qformer_config", {"vocab_size": 30523})
        sizes = _vision(encoders, config) if vision is None else towers.vision
        towers = replace(towers, vision=sizes, instruction=_pick(InstructionSizes, text, encoders))
    if vision is not None:
        towers = replace(towers, vision=_vision(vision, _read(vision)))
    if language_model is not None:
        config = _read(language_model)
        family = LANGUAGE[_known(config.get("model_type", ""), LANGUAGE, language_model)]
        towers = replace(towers, language=_pick(LanguageSizes, family | config, language_model))
    return towers


def _vision(folder: Path, config: dict[str, Any]) -> VisionSizes:
    vision = config.get("vision_config", config)
    kind = "instructblip_vision_model" if config.get("model_type") == "instructblip" else vision.get("model_type", "")
    return _pick(VisionSizes, VISION[_known(kind, VISION, folder)] | vision | {"model_type": kind}, folder)


def _of_lavis(folder: Path) -> bool:
    return not (folder / "config.json").exists() and any(folder.glob("*.pth"))


def _pick(kind: Any, config: dict[str, Any], folder: Path) -> Any:
    picked = {one.name: config[one.name] for one in fields(kind) if config.get(one.name) is not None}
    for name, value in picked.items():
        least = 0 if isinstance(value, bool) or name == "max_window_layers" else 1
        if name != "model_type" and not (isinstance(value, int) and value >= least):
            given = f"{name} = {value!r} in {folder / 'config.json'}"
            raise CheckpointError(given, f"a whole number of at least {least}", "Check the folder.")
    return kind(**picked)


def _known(family: str, families: dict[str, Any], folder: Path) -> str:
    if family not in families:
        raise CheckpointError(
            f"a model of type {family!r} in {folder}", f"one of {', '.join(families)}", "Plan with sizes close to it."
        )
    return family


def _read(folder: Path) -> dict[str, Any]:
    path = Path(folder) / "config.json"
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict):
            raise ValueError("no JSON object")
        return found
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}, which cannot be read ({error})",
            "a config.json of transformers",
            "Check the folder, or leave it out to plan with the paper's towers.",
        ) from error
