"""The towers: a frozen vision encoder, a frozen instruction encoder and a language model, read from their files."""

from dynfocus.nn.backbones.files import existing
from dynfocus.nn.backbones.instruction import (
    InstructionTower,
    QueryTokens,
    load_instruction,
    load_instruction_tokenizer,
    open_instruction,
)
from dynfocus.nn.backbones.language import (
    Attention,
    check_attention,
    language_config,
    load_language_model,
    load_tokenizer,
    need_bitsandbytes,
)
from dynfocus.nn.backbones.vision import VisionConfig, VisionFiles, VisionTower, open_vision

__all__ = [
    "Attention",
    "InstructionTower",
    "QueryTokens",
    "VisionConfig",
    "VisionFiles",
    "VisionTower",
    "check_attention",
    "existing",
    "language_config",
    "load_instruction",
    "load_instruction_tokenizer",
    "load_language_model",
    "load_tokenizer",
    "need_bitsandbytes",
    "open_instruction",
    "open_vision",
]
