"""Folders of tiny models as transformers reads them, and what two of them must agree in."""

from pathlib import Path
from typing import Any

import tiny
import torch

from dynfocus.models.model import DynFocusModel
from dynfocus.models.processor import DynFocusProcessor
from dynfocus.settings import FrameRule
from dynfocus.types import Batch

QUESTION = "what color is the star"
RULE = FrameRule(size=tiny.SIDE, fps=0.5, frames=9, interpolation="box")


def processor(net: DynFocusModel, **options: Any) -> DynFocusProcessor:
    return DynFocusProcessor(
        tiny.tokenizer(), tiny.tokenizer(), net.config, RULE, **{"prompt": "vicuna_v1_short", **options}
    )


def save_model(net: DynFocusModel, folder: Path, **options: Any) -> Path:
    net.save_pretrained(folder, **options)
    processor(net).save_pretrained(folder)
    return folder


@torch.no_grad()
def logits(net: DynFocusModel, batch: Batch) -> torch.Tensor:
    return net.language_model(inputs_embeds=net.embed(batch)[0], attention_mask=batch.attention_mask).logits


def contents(folder: Path) -> dict[str, bytes]:
    """The files that a folder holds; of those in which transformers notes how it loaded things, their names."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    notes = ("config.json", "tokenizer_config.json")
    return {str(path.relative_to(folder)): b"" if path.name in notes else path.read_bytes() for path in files}
