"""One plain checkpoint out of a trained model's folder."""

from pathlib import Path

import torch

from dynfocus.errors import ConfigError
from dynfocus.models.lora import read_lora_settings
from dynfocus.models.model import DynFocusModel
from dynfocus.models.model_card import read_training, write_card
from dynfocus.models.processor import DynFocusProcessor
from dynfocus.records.atomic import atomic_write


def export(
    folder: Path,
    out: Path,
    merge: bool = False,
    dtype: str | None = None,
    trust_selector: bool = False,
    license: str | None = None,
) -> None:
    """Write a trained model once more, as a plain checkpoint with processor and card, whole or not at all.

    Args:
        folder: a trained model's, plain or with adapters.
        out: the folder to write, which must be empty or absent.
        merge: whether adapters are added to the weights they adapt.
        dtype: the precision of the towers, such as ``bfloat16``; by default what they have. The connector, which is
            small, stays in fp32.
        trust_selector: see `DynFocusModel.from_folder`.
        license: of the weights, an identifier such as ``apache-2.0``, for the model's card.

    Raises:
        ConfigError: if there are adapters and ``merge`` is false, or ``out`` holds anything.
        CheckpointError: if the folder holds no trained model.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}, which is there already", "a folder that is empty or absent", "Choose another one.")
    processor = DynFocusProcessor.from_pretrained(folder)
    if read_lora_settings(folder) and not merge:
        raise ConfigError(
            f"{folder}, which holds adapters and no language model",
            "one model of plain weights",
            "Add --merge, which adds the adapters to the weights they adapt.",
        )
    model = DynFocusModel.from_folder(folder, trust_selector=trust_selector)
    model.merge()
    if dtype is not None:
        for tower in (model.vision, model.instruction, model.language_model):
            tower.to(getattr(torch, dtype))
    with atomic_write(out) as part:
        model.save(part)
        processor.save_pretrained(part)
        write_card(part, read_training(folder.parent), model.settings, license)
