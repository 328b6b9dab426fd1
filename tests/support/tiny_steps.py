"""Training steps of tiny and of small random models, their FLOPs and the memory that they take."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import tiny
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from transformers import InstructBlipQFormerConfig, InstructBlipVisionConfig, LlamaConfig

from dynfocus.models.model import DynFocusConfig, DynFocusModel
from dynfocus.plan import Training
from dynfocus.plan.towers import Towers
from perf.random_step import RandomStep, Shapes

CPU = torch.device("cpu")
FRAMES = 20  # of a step whose FLOPs are counted
LONG = 100  # frames of a step whose memory is measured
TINY = Training(rows=2, text=10, answer=4, rank=4, accumulate=1)


def shapes(hidden: int = 64, layers: int = 3) -> Shapes:
    parts = tiny.configs()
    text = {"hidden_size": hidden, "intermediate_size": 176, "num_hidden_layers": layers, "num_attention_heads": 4}
    return Shapes(
        InstructBlipVisionConfig(**parts["vision_config"]),
        InstructBlipQFormerConfig(**parts["qformer_config"]),
        LlamaConfig(**{**parts["text_config"], **text, "num_key_value_heads": 2}),
    )


def random_step(train: Any, **changed: Any) -> RandomStep:
    how = replace(TINY, train=train, **{"checkpointing": False, "precision": "32", **changed})
    return RandomStep(FRAMES, tiny.SETTINGS, how, shapes(), CPU, "eager")


def random_model(hidden: int, mlp: int, layers: int, vocab: int) -> DynFocusModel:
    text = LlamaConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        max_position_embeddings=2048,
    )
    return DynFocusModel(DynFocusConfig(**{**tiny.model().config.to_dict(), "text_config": text.to_dict()})).train()


def list_towers(model: DynFocusModel) -> Towers:
    config = model.config
    return Towers(config.vision_config, config.qformer_config, config.text_config)


def count_flops(work: Callable[[], object]) -> dict[str, int]:
    """FLOPs by the name of the module that does them, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        work()
    return {name: sum(kinds.values()) for name, kinds in counter.get_flop_counts().items()}


def measure_allocated(work: Callable[[], object]) -> int:
    """The most bytes that tensors take while the work runs, beyond those before it, by the allocator's record."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        work()
    total = worst = 0
    for event in sorted(trace.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            total += event.nbytes()
            worst = max(worst, total)
    return worst
