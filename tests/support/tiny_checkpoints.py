"""Small checkpoints of other towers: CLIP, SigLIP, LAVIS files, a BERT tokenizer, language models."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    BertTokenizerFast,
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    Gemma2Config,
    GemmaConfig,
    InstructBlipConfig,
    InstructBlipQFormerModel,
    InstructBlipVisionModel,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

MEAN, STD = [0.5, 0.4, 0.3], [0.5, 0.6, 0.7]
VISION = {
    "hidden_size": tiny.WIDTH,
    "intermediate_size": 2 * tiny.WIDTH,
    "num_hidden_layers": tiny.LAYERS,
    "num_attention_heads": 2,
    "image_size": tiny.SIDE,
    "patch_size": tiny.PATCH,
}
TEXT = {"vocab_size": 20, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
FAMILIES: dict[str, tuple[Any, Any, Any, Any]] = {
    "clip": (CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModel),
    "siglip": (SiglipConfig, SiglipModel, SiglipVisionConfig, SiglipVisionModel),
    "dinov2": (None, None, Dinov2WithRegistersConfig, Dinov2WithRegistersModel),  # named nowhere in the library
}


def other_encoder(folder: Path, family: str, alone: str | None = None, **text: int) -> Any:
    """Write a checkpoint of CLIP or SigLIP, or a vision encoder ``alone``, as DINOv2 always is; returns the encoder.

    Alone it may have transformers' ``prefix`` before every name, or be ``bare``. ``text``: sizes of the text encoder.
    """
    whole_config, whole, config, model = FAMILIES[family]
    with torch.random.fork_rng():
        torch.manual_seed(5)
        if alone or whole is None:
            made = vision = model(config(**VISION))
        else:
            made = whole(whole_config(vision_config=VISION, text_config=TEXT | text, projection_dim=8))
            vision = made.vision_model
        for parameter in made.parameters():
            parameter.data.normal_(std=0.2)
    made.save_pretrained(folder)
    state = load_file(folder / "model.safetensors")
    if alone:
        state = {name.removeprefix("vision_model."): tensor for name, tensor in state.items()}
        prefix = "vision_model." if alone == "prefix" else ""
        state = {prefix + name: tensor for name, tensor in state.items()}
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": STD}))
    return vision.eval()


CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
LAVIS_WIDTH, LAVIS_TEXT = 88, 128  # one head of 88 numbers, and two of 64


def lavis_sizes() -> InstructBlipConfig:
    """An InstructBLIP as deep as the real one and as wide as one head, all else tiny."""
    vision = VISION | {"hidden_size": LAVIS_WIDTH, "num_hidden_layers": 39, "num_attention_heads": 1}
    qformer = {
        "vocab_size": len(tiny.tokenizer()),
        "hidden_size": LAVIS_TEXT,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 40,
        "encoder_hidden_size": LAVIS_WIDTH,
    }
    return InstructBlipConfig(vision_config=vision, qformer_config=qformer, text_config=tiny.configs()["text_config"])


def lavis_pair(huggingface: Path, lavis: Path, dtype: torch.dtype = torch.float32) -> tuple[dict, dict]:
    """The same encoders twice: as an InstructBLIP folder of transformers, and as LAVIS files; returns LAVIS's dicts.

    Weights are rounded to ``dtype`` in both, and stored in it in LAVIS's, as the published ViT is in half precision.
    """
    config = lavis_sizes()
    with torch.random.fork_rng():
        torch.manual_seed(6)
        vision, qformer = InstructBlipVisionModel(config.vision_config), InstructBlipQFormerModel(config.qformer_config)
        for parameter in (*vision.parameters(), *qformer.parameters()):
            parameter.data = torch.randn(parameter.shape).mul(0.05).to(dtype).float()
        queries = torch.randn(1, 5, LAVIS_TEXT)
    for layer in vision.encoder.layers:
        layer.self_attn.qkv.bias.data[LAVIS_WIDTH : 2 * LAVIS_WIDTH] = 0  # keys have none
    config.save_pretrained(huggingface)
    state = {f"vision_model.{name}": tensor for name, tensor in vision.state_dict().items()}
    state |= {f"qformer.{name}": tensor for name, tensor in qformer.state_dict().items()}
    save_file(state | {"query_tokens": queries}, huggingface / "model.safetensors")
    pixels = {"image_mean": CLIP_MEAN, "image_std": CLIP_STD}
    (huggingface / "preprocessor_config.json").write_text(json.dumps(pixels))
    eva = {name: tensor.to(dtype) for name, tensor in eva_names(vision.state_dict()).items()}
    trimmed = lavis_names(qformer.state_dict()) | {
        "query_tokens": queries,
        "ln_vision.weight": vision.post_layernorm.weight.data,
        "ln_vision.bias": vision.post_layernorm.bias.data,
        "llm_proj.weight": torch.zeros(3, LAVIS_TEXT),
        "llm_proj.bias": torch.zeros(3),
    }
    for place in (huggingface, lavis):
        place.mkdir(exist_ok=True)
        tiny.tokenizer().save_pretrained(place / "qformer_tokenizer")
    torch.save(eva, lavis / "eva_vit_g.pth")
    torch.save({"model": trimmed, "epoch": 3}, lavis / "instruct_blip_vicuna7b_trimmed.pth")
    return eva, trimmed


def eva_names(state: dict[str, Tensor], more: bool = True) -> dict[str, Tensor]:
    """The ViT in the names of `eva_vit_g.pth`: with the 40th block and the head that LAVIS leaves out."""
    patch = "embeddings.patch_embedding."
    eva = {
        "cls_token": state["embeddings.class_embedding"],
        "pos_embed": state["embeddings.position_embedding"],
        "patch_embed.proj.weight": state[f"{patch}weight"],
        "patch_embed.proj.bias": state[f"{patch}bias"],
    }
    for n in range(39):
        own, block = f"encoder.layers.{n}.", f"blocks.{n}."
        for kind in ("weight", "bias"):
            eva[f"{block}norm1.{kind}"] = state[f"{own}layer_norm1.{kind}"]
            eva[f"{block}norm2.{kind}"] = state[f"{own}layer_norm2.{kind}"]
            eva[f"{block}attn.proj.{kind}"] = state[f"{own}self_attn.projection.{kind}"]
            eva[f"{block}mlp.fc1.{kind}"] = state[f"{own}mlp.fc1.{kind}"]
            eva[f"{block}mlp.fc2.{kind}"] = state[f"{own}mlp.fc2.{kind}"]
        eva[f"{block}attn.qkv.weight"] = state[f"{own}self_attn.qkv.weight"]
        queries, _, values = state[f"{own}self_attn.qkv.bias"].chunk(3)
        eva[f"{block}attn.q_bias"], eva[f"{block}attn.v_bias"] = queries.clone(), values.clone()
    if more:
        last = {n: t for n, t in eva.items() if n.startswith("blocks.38.")}
        eva |= {name.replace(".38.", ".39."): torch.full_like(tensor, 9) for name, tensor in last.items()}
        eva |= {f"{part}.{kind}": torch.ones(4) for part in ("norm", "fc_norm", "head") for kind in ("weight", "bias")}
    return eva


def lavis_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The Q-Former in the names of LAVIS."""
    named = {"Qformer.bert.embeddings.position_ids": torch.arange(40)[None]}
    for name, tensor in state.items():
        for own, theirs in (
            ("attention.attention.", "attention.self."),
            ("embeddings.layernorm.", "embeddings.LayerNorm."),
        ):
            name = name.replace(own, theirs)
        named[f"Qformer.bert.{name}"] = tensor
    return named


BERT_WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *"abcdefghijklmnopqrstuvwxyz?",
    "##s",
    "##r",
    "what",
    "star",
]


def bert_tokenizer(folder: Path) -> BertTokenizerFast:
    """WordPiece as BERT has it, without the token that InstructBLIP adds; it is also written to ``folder``."""
    core = Tokenizer(models.WordPiece({word: n for n, word in enumerate(BERT_WORDS)}, unk_token="[UNK]"))
    core.normalizer, core.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]"}
    made = BertTokenizerFast(tokenizer_object=core, mask_token="[MASK]", **names)
    made.save_pretrained(folder)
    return made


SMALL: dict[str, Any] = {
    "hidden_size": tiny.OUT,
    "intermediate_size": 2 * tiny.OUT,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "pad_token_id": 0,
}
LANGUAGES: dict[str, Callable[..., Any]] = {
    "llama": LlamaConfig,
    "qwen2": Qwen2Config,
    "mistral": MistralConfig,
    "gemma": lambda **sizes: GemmaConfig(head_dim=12, **sizes),
    "gemma2": lambda **sizes: Gemma2Config(head_dim=12, query_pre_attn_scalar=12, sliding_window=64, **sizes),
}
