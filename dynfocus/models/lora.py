"""Add low-rank adapters to the language model, load and merge them, through peft.

Functions import peft when they need it: the import takes seconds, and most runs have no adapters.
"""

from pathlib import Path
from typing import Any
from warnings import catch_warnings, filterwarnings

import torch
from safetensors import SafetensorError
from torch import nn

from dynfocus.errors import CheckpointError
from dynfocus.models.towers import check_files, require_existing
from dynfocus.settings import LoraSettings

ADAPTER = "adapter"
# What may differ from peft's defaults in adapters that we write; others make it import modules or build other layers.
WRITTEN = {"r", "lora_alpha", "lora_dropout", "target_modules", "task_type", "inference_mode", "peft_version"}
WRITTEN |= {"base_model_name_or_path", "revision"}


def add_adapters(language_model: nn.Module, settings: LoraSettings) -> nn.Module:
    """Put new adapters on every linear layer but the head; they change nothing before they are trained."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(language_model, config)


def load_adapters(language_model: nn.Module, folder: Path) -> nn.Module:
    """The language model with the adapters that a folder holds.

    Raises:
        CheckpointError: if they are absent, broken, or of another model.
    """
    from peft import PeftModel

    adapter = require_existing(require_existing(Path(folder)) / ADAPTER)
    read_lora_settings(folder)
    try:
        with catch_warnings():
            filterwarnings("error", "Found missing adapter keys")
            return PeftModel.from_pretrained(language_model, adapter, is_trainable=True)
    except (OSError, RuntimeError, ValueError, SafetensorError, UserWarning) as error:
        raise _misfit(adapter, error) from error


def read_lora_settings(folder: Path) -> LoraSettings | None:
    """The settings of the adapters in a trained model's folder; None where it holds whole weights.

    Raises:
        CheckpointError: if they cannot be read, or set what ours do not.
    """
    check_files(folder)
    if not (folder / ADAPTER).is_dir():
        return None
    from peft import LoraConfig

    try:
        given = LoraConfig.from_json_file(str(folder / ADAPTER / "adapter_config.json"))
        if "r" not in given:
            raise ValueError("its adapter_config.json names no rank r")
        usual = LoraConfig().to_dict()
        if odd := [name for name in given if name not in WRITTEN and given[name] != usual.get(name)]:
            raise ValueError(f"its adapter_config.json sets {min(odd)}, which no adapters of ours need")
        config: Any = LoraConfig.from_pretrained(str(folder / ADAPTER))
    except (OSError, TypeError, ValueError) as error:
        raise _misfit(folder / ADAPTER, error) from error
    return LoraSettings(config.r, config.lora_alpha, config.lora_dropout)


def has_adapters(language_model: nn.Module) -> bool:
    return hasattr(language_model, "peft_config")


def without_adapters(language_model: Any) -> Any:
    """The model of transformers under the adapters, or the model itself where there are none."""
    return language_model.get_base_model() if has_adapters(language_model) else language_model


def merge_adapters(language_model: Any) -> nn.Module:
    """The plain language model that computes the same; weights in 4 bits are dequantised first.

    Sums are taken in fp32 and rounded once, to the precision of the language model.
    """
    plain = language_model.get_base_model()
    dtype = plain.get_input_embeddings().weight.dtype
    if getattr(plain, "is_quantized", False):
        config, adapters = language_model.peft_config["default"], _adapters(language_model)
        plain = language_model.unload().dequantize()
        from peft import get_peft_model

        language_model = get_peft_model(plain, config)
        language_model.load_state_dict(adapters, strict=False)
    return language_model.float().merge_and_unload().to(dtype)


def _misfit(adapter: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"adapters in {adapter} that do not fit ({str(error).splitlines()[0]})",
        "the adapters of this language model",
        "Check the folder, and that the language model is the one they were trained on.",
    )


def _adapters(language_model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in language_model.state_dict().items() if "lora_" in name}
