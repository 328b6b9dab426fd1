"""Language models: any causal one of transformers, and its tokenizer, read from their files."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedModel
from transformers.utils import is_flash_attn_2_available

from dynfocus.errors import ConfigError
from dynfocus.models.towers.files import check_files
from dynfocus.models.towers.weights import reason, require_existing, unfit

Attention = Literal["sdpa", "eager", "flash_attention_2"]
IMAGE = "<image>"


def load_language_model(
    folder: Path,
    attention: Attention = "sdpa",
    dtype: torch.dtype = torch.float32,
    quantize: Literal["nf4"] | None = None,
    device: torch.device | None = None,
) -> PreTrainedModel:
    """Any causal language model of transformers, from its folder on disk.

    Args:
        folder: with config.json and weights.
        attention: the way attention is computed.
        dtype: of the weights; of the computations, where they are quantised.
        quantize: "nf4" packs the weights of linear layers into 4 bits (doubly quantised), all but the head's.
        device: where a quantised one is packed, by default the CPU; any other comes on the CPU.

    Raises:
        CheckpointError: if weights are absent, surplus, broken or of another shape.
        ConfigError: if this machine or this model cannot do what ``attention`` or ``quantize`` asks for.
    """
    require_existing(Path(folder) / "config.json")
    check_files(folder)
    check_attention(attention)
    extra: dict[str, Any] = {}
    if quantize is not None:
        extra = {"quantization_config": _nf4(dtype), "device_map": {"": device or torch.device("cpu")}}
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            dtype=dtype,
            output_loading_info=True,
            attn_implementation=attention,
            **extra,
        )
    except UnpicklingError as error:
        raise unfit(folder, "a file of its weights holds something else than tensors, which is not run") from error
    except (ValueError, ImportError) as error:
        raise ConfigError(
            f"a language model in {folder} that cannot be loaded so ({reason(error)})",
            "a causal language model of transformers, and attention and quantisation that it knows",
            "Set attention to eager, which some models need, or quantize to null, or use another model.",
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # a broken file, or a setting that no checks of transformers' expect, ends in any
        raise unfit(folder, reason(error)) from error
    model, result = loaded
    for kind in ("missing", "unexpected"):
        if result[f"{kind}_keys"]:
            raise unfit(folder, f"{min(result[f'{kind}_keys'])} is {'absent' if kind == 'missing' else 'surplus'}")
    if quantize is not None:
        _keep_weights_in_order(model)
    return model


def _keep_weights_in_order(model: PreTrainedModel) -> None:
    """Make a CPU with avx512_bf16 compute with 4-bit weights as every other CPU does.

    There bitsandbytes would reorder a layer's weights at its first answer. It can only do so where the layer's output
    width is a multiple of 32 and its input width one of 64; and weights in that order pass no gradient on, and give
    other numbers when adapters are merged into them.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            setattr(module, "support_avx512bf16_for_cpu", False)  # noqa: B010 (mypy takes it for a tensor)


def check_attention(attention: str) -> None:
    """Raises ConfigError if this machine cannot compute attention so."""
    if attention == "flash_attention_2" and not is_flash_attn_2_available():
        raise ConfigError(
            "attention = flash_attention_2, which this machine does not have",
            "a CUDA GPU and the package flash-attn",
            "Run `pip install flash-attn --no-build-isolation` there, or set attention to sdpa.",
        )


def need_bitsandbytes(setting: str, instead: str) -> Any:
    """The library, which ``setting`` asks for; raises ConfigError, with ``instead`` as the other way, if it fails."""
    try:
        import bitsandbytes  # slow to import, and not everywhere
    except Exception as error:  # whatever its native part dies of
        raise ConfigError(
            f"{setting}, and bitsandbytes does not import ({error})",
            "a bitsandbytes that works on this machine",
            f"Run `pip install bitsandbytes`, or set {instead}.",
        ) from error
    return bitsandbytes


def _nf4(dtype: torch.dtype) -> BitsAndBytesConfig:
    need_bitsandbytes("quantize = nf4", "quantize to null")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def language_config(folder: Path) -> Any:
    require_existing(Path(folder) / "config.json")
    check_files(folder)
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers' checks of single values have errors of their own
        raise unfit(folder, reason(error)) from error


def load_tokenizer(folder: Path) -> Any:
    """A language model's tokenizer; ``<image>`` is added where it is unknown.

    The new id needs no embedding: visual tokens take its place before anything is looked up.

    Raises:
        CheckpointError: if there is none, or it cannot say which characters a token stands for.
    """
    tokenizer = read_tokenizer(folder)
    tokenizer.add_tokens([IMAGE], special_tokens=True)
    return tokenizer


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer as it lies in the folder; raises CheckpointError if there is none, or a slow one."""
    check_files(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            require_existing(folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # as the tokenizer's file is broken, in any
        raise unfit(folder, f"no tokenizer: {reason(error)}") from error
    if isinstance(tokenizer.model_max_length, bool) or not isinstance(tokenizer.model_max_length, int | float):
        raise unfit(folder, f"its tokenizer's model_max_length is {tokenizer.model_max_length!r}")
    if not tokenizer.is_fast:
        raise unfit(folder, f"{type(tokenizer).__name__} cannot tell which characters a token stands for")
    return tokenizer
