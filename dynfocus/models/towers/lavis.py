"""InstructBLIP's encoders as LAVIS publishes them: `eva_vit_g.pth` and `instruct_blip_vicuna7b_trimmed.pth`.

Sizes are read off the tensors. Heads are no part of them: EVA ViT-G has 88 numbers a head, BERT's kind 64.
The published ViT-G has 40 blocks, of which LAVIS builds 39: their output is the "second-last block's" that the paper
reads. So do we, as for an InstructBLIP folder of transformers, whose files hold 39.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from transformers import InstructBlipQFormerConfig, InstructBlipVisionConfig

from dynfocus.errors import CheckpointError
from dynfocus.models.towers.weights import OLD_BUFFER, Named, reason, require_existing, unfit

VISION_FILE, TRIMMED_FILE = "eva_vit_g.pth", "instruct_blip_vicuna7b_trimmed.pth"
VISION, QFORMER, QUERIES, NORM = "visual_encoder.", "Qformer.bert.", "query_tokens", "ln_vision."
OTHERS = ("llm_proj.",)  # of the trimmed file, what is no encoder's
HEADS = ("norm.", "fc_norm.", "head.")  # of the ViT, what LAVIS leaves out
BLOCKS = 39
VISION_HEAD, TEXT_HEAD = 88, 64
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]

# LAVIS's names of the ViT -> transformers'.
STEM = {
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding",
    "patch_embed.proj.weight": "embeddings.patch_embedding.weight",
    "patch_embed.proj.bias": "embeddings.patch_embedding.bias",
}
BLOCK = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "attn.qkv": "self_attn.qkv",
    "attn.proj": "self_attn.projection",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
BIASES = ("attn.q_bias", "attn.v_bias")  # the keys' is zero, and not stored
State = dict[str, Tensor]


def is_lavis(folder: Path) -> bool:
    """Whether LAVIS files lie there."""
    return any((folder / name).exists() for name in (VISION_FILE, TRIMMED_FILE))


def open_vision(folder: Path) -> tuple[InstructBlipVisionConfig, list[float], list[float], list[Path]]:
    """Sizes, pixel mean and deviation, and files of the ViT; raises CheckpointError if one is absent or unreadable."""
    state, _ = _vision(folder)
    blocks = 1 + max(_numbers(state, r"encoder\.layers\.(\d+)\."), default=-1)
    try:
        width, _, patch, _ = state["embeddings.patch_embedding.weight"].shape
        places = state["embeddings.position_embedding"].shape[1] - 1
        hidden = state["encoder.layers.0.mlp.fc1.bias"].shape[0]
    except (KeyError, ValueError, IndexError) as error:
        raise unfit(folder, f"{VISION_FILE} has no {error}") from error
    grid = round(places**0.5)
    if grid**2 != places:
        raise unfit(folder, f"{places} patches form no square grid")
    config = InstructBlipVisionConfig(
        hidden_size=width,
        intermediate_size=hidden,
        num_hidden_layers=blocks,
        num_attention_heads=_heads(folder, width, VISION_HEAD),
        image_size=grid * patch,
        patch_size=patch,
    )
    return config, MEAN, STD, _files(folder)


def read_vision(folder: Path) -> Named:
    """The ViT's tensors by transformers' names, sorted; raises CheckpointError for names that LAVIS does not write."""
    state, norm = _vision(folder)
    state |= {f"post_layernorm.{name}": tensor for name, tensor in norm.items()}
    for name in sorted(state):
        yield name, state[name]


def open_instruction(folder: Path) -> InstructBlipQFormerConfig:
    """The Q-Former's sizes; raises CheckpointError if its file is absent or unreadable."""
    state = dict(read_instruction(folder))
    layers = 1 + max(_numbers(state, r"encoder\.layer\.(\d+)\."), default=-1)
    crossing = sorted(_numbers(state, r"encoder\.layer\.(\d+)\.crossattention\."))
    try:
        words, width = state["embeddings.word_embeddings.weight"].shape
        return InstructBlipQFormerConfig(
            vocab_size=words,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=_heads(folder, width, TEXT_HEAD),
            intermediate_size=state["encoder.layer.0.intermediate.dense.bias"].shape[0],
            max_position_embeddings=state["embeddings.position_embeddings.weight"].shape[0],
            cross_attention_frequency=crossing[1] if len(crossing) > 1 else layers,
            encoder_hidden_size=state["encoder.layer.0.crossattention.attention.key.weight"].shape[1],
        )
    except (KeyError, ValueError, IndexError) as error:
        raise unfit(folder, f"{TRIMMED_FILE} has no {error}") from error


def read_instruction(folder: Path) -> Named:
    """The Q-Former's tensors by transformers' names, sorted."""
    result = {_qformer_name(name): tensor for name, tensor in _part(_trim(folder), QFORMER)}
    for name in sorted(result):
        yield name, result[name]


def read_queries(folder: Path) -> Named:
    """The query tokens, without a name."""
    yield from _part(_trim(folder), QUERIES)


def _qformer_name(name: str) -> str:
    return re.sub(
        r"^embeddings\.LayerNorm\.", "embeddings.layernorm.", name.replace("attention.self.", "attention.attention.")
    )


def _vision(folder: Path) -> tuple[State, State]:
    """The ViT by transformers' names, and ln_vision; the trimmed file's own ViT counts, where it has one."""
    trimmed = _trim(folder)
    given = dict(_part(trimmed, VISION))
    if not given:
        given = _load(require_existing(folder / VISION_FILE))
    result: State = {}
    for name, tensor in given.items():
        block = re.match(r"blocks\.(\d+)\.(.+)$", name)
        if name in STEM:
            result[STEM[name]] = tensor
        elif block and int(block[1]) < BLOCKS:
            result |= _of_block(folder, given, int(block[1]), block[2])
        elif not block and not name.startswith(HEADS):
            raise unfit(folder, f"{VISION_FILE} holds {name}, which no ViT of LAVIS has")
    return result, dict(_part(trimmed, NORM))


def _of_block(folder: Path, given: State, block: int, name: str) -> State:
    place = f"encoder.layers.{block}."
    if name in BIASES:
        try:
            query, value = (given[f"blocks.{block}.{bias}"] for bias in BIASES)
        except KeyError as error:
            raise unfit(folder, f"{error} is absent") from error
        return {f"{place}self_attn.qkv.bias": torch.cat([query, torch.zeros_like(query), value])}
    stem, _, kind = name.rpartition(".")
    if stem not in BLOCK:
        raise unfit(folder, f"{VISION_FILE} holds blocks.{block}.{name}, which no ViT of LAVIS has")
    return {f"{place}{BLOCK[stem]}.{kind}": given[f"blocks.{block}.{name}"]}


def _trim(folder: Path) -> State:
    state = _load(require_existing(folder / TRIMMED_FILE))
    known = (VISION, QFORMER, QUERIES, NORM, *OTHERS)
    strange = [name for name in state if not name.startswith(known)]
    if strange:
        raise unfit(folder, f"{TRIMMED_FILE} holds {min(strange)}, which InstructBLIP does not have")
    return state


def _load(file: Path) -> State:
    """The tensors of a file, left on disk until they are read; code in it is not run."""
    try:
        try:
            result = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # torch's older format cannot be mapped
            result = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file can end in any
        raise CheckpointError(
            f"{file}, which does not load as weights ({reason(error)})",
            "a file that holds tensors by name and nothing else",
            "Fetch it again from where LAVIS publishes it.",
        ) from error
    result = result.get("model", result) if isinstance(result, dict) else result
    if not isinstance(result, dict) or not all(isinstance(tensor, Tensor) for tensor in result.values()):
        raise unfit(file.parent, f"{file.name} holds something else than tensors by name")
    return result


def _part(state: State, prefix: str) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in state.items():
        if name.startswith(prefix) and name.rpartition(".")[2] != OLD_BUFFER:
            yield name.removeprefix(prefix), tensor


def _numbers(state: State, pattern: str) -> set[int]:
    return {int(result[1]) for name in state if (result := re.match(pattern, name))}


def _heads(folder: Path, width: int, head: int) -> int:
    if width % head:
        raise unfit(folder, f"width {width} is no multiple of {head}, the numbers a head")
    return width // head


def _files(folder: Path) -> list[Path]:
    return [folder / name for name in (VISION_FILE, TRIMMED_FILE) if (folder / name).exists()]
