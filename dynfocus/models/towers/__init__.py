"""The towers: a frozen vision encoder, a frozen instruction encoder and a language model, read from their files."""

from dynfocus.models.towers.files import check_files
from dynfocus.models.towers.language import (
    Attention,
    check_attention,
    language_config,
    load_language_model,
    load_tokenizer,
    need_bitsandbytes,
)
from dynfocus.models.towers.qformer import (
    InstructionTower,
    QueryTokens,
    load_instruction,
    load_instruction_tokenizer,
    open_instruction,
)
from dynfocus.models.towers.vision import VisionFiles, VisionTower, open_vision
from dynfocus.models.towers.weights import explain, require_existing

__all__ = [
    "Attention",
    "InstructionTower",
    "QueryTokens",
    "VisionFiles",
    "VisionTower",
    "check_attention",
    "check_files",
    "explain",
    "language_config",
    "load_instruction",
    "load_instruction_tokenizer",
    "load_language_model",
    "load_tokenizer",
    "need_bitsandbytes",
    "open_instruction",
    "open_vision",
    "require_existing",
]
