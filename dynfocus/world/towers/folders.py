"""Write tower folders whole or not at all, each with the record of what it was made with."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from transformers import InstructBlipConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from dynfocus.records.atomic import atomic_write
from dynfocus.world.towers.frames import SIZE
from dynfocus.world.towers.record import RECORD
from dynfocus.world.towers.train_vision import SharedSpace

WORDS_FOLDER = "qformer_tokenizer"


def write_folder(folder: Path, record: dict[str, Any], fill: Callable[[Path], None]) -> None:
    """Let ``fill`` write a folder and add the record, whole or not at all."""
    with atomic_write(folder) as part:
        part.mkdir()
        fill(part)
        (part / RECORD).write_text(json.dumps(record, indent=2) + "\n")


def save_encoders(folder: Path, model: SharedSpace, text_config: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write an InstructBLIP checkpoint without its language model: both encoders, the normalisation, the tokenizer."""
    parts = {"vision_model": model.vision.encoder, "qformer": model.instruction}
    tensors = {f"{part}.{name}": tensor for part, of in parts.items() for name, tensor in of.state_dict().items()}
    tensors["query_tokens"] = model.query_tokens.detach()
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    config = InstructBlipConfig(
        vision_config=model.vision.encoder.config.to_dict(),
        qformer_config=model.instruction.config.to_dict(),
        text_config=text_config.to_dict(),
        num_query_tokens=model.query_tokens.shape[1],
    )
    config.architectures = ["InstructBlipForConditionalGeneration"]
    config.save_pretrained(folder)
    pixels = {
        "image_processor_type": "BlipImageProcessor",
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": model.vision.mean,
        "image_std": model.vision.std,
        "rescale_factor": 1 / 255,
        "size": {"height": SIZE, "width": SIZE},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels, indent=2) + "\n")
    tokenizer.save_pretrained(folder / WORDS_FOLDER)


def save_language_model(folder: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write the language model and its tokenizer as transformers does."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
