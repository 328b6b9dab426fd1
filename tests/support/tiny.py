"""The smallest real parts: towers of random weights, tokenizers made in code, sketches and batches."""

import json
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import (
    InstructBlipConfig,
    InstructBlipQFormerConfig,
    InstructBlipVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from dynfocus.models.collate import Collator, Example
from dynfocus.models.model import DynFocusConfig, DynFocusModel
from dynfocus.records.rows import Question, Row, Turn
from dynfocus.settings import ConnectorSettings
from dynfocus.types import Batch, FrameSketch, SelectorInputs

# Three different widths, so that no two can be taken for each other: d, d' and D.
WIDTH, TEXT_WIDTH, OUT = 16, 8, 24
SIDE, PATCH, LAYERS = 24, 4, 3
SETTINGS = ConnectorSettings(
    patches=36,
    pooled=4,
    events=5,
    keep=0.6,
    neighbours=3,
    spatial_prototypes=(6, 3),
    spatial_neighbours=(4, 2),
    samples=64,
)
TEXTS = [
    "USER: what color is the star ASSISTANT: star red",
    "A chat between a curious user and an artificial intelligence assistant. how many circles are there , two",
    "what comes after the blue square ? a green triangle < > image / s pad unk",
]
SPECIAL = ["<pad>", "<unk>", "<s>", "</s>"]


def wrap_tokenizer(core: Tokenizer, opening: bool = True) -> PreTrainedTokenizerFast:
    if opening:
        core.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", core.token_to_id("<s>"))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        **{"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"},
        additional_special_tokens=["<image>"],
    )


def words(opening: bool = True) -> PreTrainedTokenizerFast:
    """One token a word, lower case."""
    core = Tokenizer(models.WordLevel(unk_token="<unk>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.train_from_iterator(
        TEXTS, trainers.WordLevelTrainer(special_tokens=[*SPECIAL, "<image>"], show_progress=False)
    )
    return wrap_tokenizer(core, opening)


def byte_pairs(opening: bool = True) -> PreTrainedTokenizerFast:
    """Byte-level BPE, as GPT-2 and Qwen have; a space belongs to the word after it."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = [*SPECIAL, "<image>", "<|reserved|>"]
    core.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=special, show_progress=False),
    )
    return wrap_tokenizer(core, opening)


def pieces(opening: bool = True) -> PreTrainedTokenizerFast:
    """Unigram with metaspace, as SentencePiece models have."""
    core = Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    letters = sorted({letter for text in TEXTS for letter in text if letter != " "} | {"▁"})
    core.train_from_iterator(
        TEXTS * 4,
        trainers.UnigramTrainer(
            vocab_size=120,
            special_tokens=[*SPECIAL, "<image>"],
            unk_token="<unk>",
            initial_alphabet=letters,
            show_progress=False,
        ),
    )
    return wrap_tokenizer(core, opening)


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    return words()


def configs() -> dict[str, Any]:
    """Sizes of the towers; weights are drawn wide, so that outputs differ by more than rounding."""
    vision = InstructBlipVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=PATCH,
        initializer_range=0.2,
    )
    qformer = InstructBlipQFormerConfig(
        vocab_size=len(tokenizer()),
        hidden_size=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * TEXT_WIDTH,
        encoder_hidden_size=WIDTH,
        initializer_range=0.3,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer()),
        hidden_size=OUT,
        intermediate_size=2 * OUT,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.3,
        bos_token_id=tokenizer().bos_token_id,
        eos_token_id=tokenizer().eos_token_id,
        pad_token_id=tokenizer().pad_token_id,
    )
    parts = {"vision_config": vision, "qformer_config": qformer, "text_config": text}
    return {name: part.to_dict() for name, part in parts.items()}


def model(settings: ConnectorSettings = SETTINGS, seed: int = 0) -> DynFocusModel:
    """A model of random weights, in evaluation."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = DynFocusConfig(
            **configs(),
            connector=asdict(settings),
            image_mean=[0.5, 0.4, 0.3],
            image_std=[0.5, 0.6, 0.7],
            image_token_id=tokenizer().convert_tokens_to_ids("<image>"),
        )
        return DynFocusModel(config).eval()


def towers(folder: Path) -> tuple[Path, Path]:
    """Folders of an InstructBLIP checkpoint without its language model, and of a language model, of random weights."""
    encoders, language = folder / "encoders", folder / "language"
    parts = configs()
    whole = model()
    InstructBlipConfig(**parts).save_pretrained(encoders)
    state = {f"vision_model.{name}": tensor for name, tensor in whole.vision.encoder.state_dict().items()}
    state |= {f"qformer.{name}": tensor for name, tensor in whole.instruction.encoder.state_dict().items()}
    save_file(state | {"query_tokens": torch.zeros(1, 32, TEXT_WIDTH)}, encoders / "model.safetensors")
    pixels = {"image_mean": whole.config.image_mean, "image_std": whole.config.image_std}
    (encoders / "preprocessor_config.json").write_text(json.dumps(pixels))
    tokenizer().save_pretrained(encoders / "qformer_tokenizer")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        LlamaForCausalLM(LlamaConfig(**parts["text_config"])).save_pretrained(language)
    tokenizer().save_pretrained(language)
    return encoders, language


def processor(settings: ConnectorSettings = SETTINGS, **options: Any) -> Collator:
    return Collator(tokenizer(), tokenizer(), settings, 512, **{"prompt": "vicuna_v1_short", **options})


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def frames(count: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, SIDE, SIDE, 3), dtype=torch.uint8, generator=generator(seed))


def sketch(count: int, seed: int = 0, settings: ConnectorSettings = SETTINGS, width: int = WIDTH) -> FrameSketch:
    """A sketch of random numbers: as if of ``count`` frames that have nothing in common."""
    rows = settings.pooled + settings.grains
    both = torch.randn(1, count, rows, width, generator=generator(seed))
    patches = torch.randn(1, count, settings.patches, width, generator=generator(seed + 1))
    every_patch = (patches, torch.arange(count)[None]) if settings.reads_patches else ()
    return FrameSketch(
        both[:, :, : settings.pooled],
        both[:, :, settings.pooled :],
        torch.ones(1, count, dtype=torch.bool),
        *every_patch,
    )


def pad_sketch(one: FrameSketch, more: int, fill: float = 7.0) -> FrameSketch:
    """The same video with ``more`` frames of padding, which hold numbers that must not matter."""

    def longer(values: Tensor) -> Tensor:
        tail = values.new_full((1, more, *values.shape[2:]), 0 if values.dtype == torch.bool else fill)
        return torch.cat([values, tail], 1)

    return replace(one, pooled=longer(one.pooled), grains=longer(one.grains), mask=longer(one.mask))


def inputs(
    sketch: FrameSketch,
    keep: list[int],
    row: int = 0,
    step: int = 0,
    relevant: Tensor | None = None,
    relevance: Tensor | None = None,
) -> SelectorInputs:
    """What selectors are told of videos in rows ``row``, ``row + 1`` ..., with a question of random numbers each."""
    question = torch.randn(len(keep), 4, TEXT_WIDTH, generator=generator(row))
    rows = torch.arange(row, row + len(keep))
    known = torch.ones(len(keep), 4, dtype=torch.bool)
    return SelectorInputs(tuple(sketch.frames.tolist()), tuple(keep), rows, step, question, known, relevant, relevance)


QUESTIONS = ["what color is the star", "how many circles", "what comes after the blue square ?"]


def row(index: int, media: str | None = "v.mp4", turns: int = 1, segments: tuple[tuple[int, ...], ...] = ()) -> Row:
    texts = [QUESTIONS[(index + n) % len(QUESTIONS)] for n in range(turns)]
    known = tuple(Question(text, "star red", (), "color", segments, {"word": "red"}) for text in texts if segments)
    return Row(f"r{index}", index, media, tuple(Turn(text, "star red") for text in texts), known)


def example(index: int, count: int, settings: ConnectorSettings = SETTINGS, **options: Any) -> Example:
    """Row ``index`` about a video of ``count`` frames; a text-only row brings one blank frame."""
    return Example(row(index, **options), sketch=sketch(count, seed=100 + index, settings=settings))


def batch(counts: list[int], settings: ConnectorSettings = SETTINGS, **options: Any) -> Batch:
    """One row for each video; a count of 0 is a text-only row."""
    examples = [example(n, count or 1, settings, media="v.mp4" if count else None) for n, count in enumerate(counts)]
    return processor(settings, **options)(examples)
