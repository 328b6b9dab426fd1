"""Count the operations of a training step and of an answer, in the model's own modules on tensors without numbers."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from dynfocus.errors import ConfigError
from dynfocus.models.model import DynFocusModel
from dynfocus.models.towers.vision import unused_blocks
from dynfocus.plan.dry_run import QUESTION, connect, encode, extrapolate, read, without_numbers
from dynfocus.plan.towers import Towers
from dynfocus.plan.training import Training, count_prompt_tokens
from dynfocus.settings import ConnectorSettings

aten = torch.ops.aten
FUSED = {  # a CPU's attention, which torch leaves out
    aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda _, *qkv, **__: 2 * sdpa_flop_count(*qkv[:3]),
}


@cache
def count_step_flops(frames: int, settings: ConnectorSettings, training: Training, towers: Towers) -> dict[str, int]:
    """Model FLOPs of one batch, forward and backward, on videos of T ``frames``: what the share of the peak counts.

    By what does them: vision, instruction, connector, and of the language model layers, adapters, attention, head. A
    product [m, k] x [k, n] is 2 m k n, all else is nothing. The vision encoder and the sketch run once for each video,
    the instruction encoder and the connector once for each slot. Attention is counted whole, also the causal half that
    may be left out. What activation checkpointing computes again is not counted, nor what unpacks 4-bit weights, nor
    the optimizer.
    """
    row = replace(training, rows=1, checkpointing=False)
    tokens = count_prompt_tokens(frames, settings, row)
    parts = _encoders(frames, settings, row, towers, learns=True)
    parts |= _language(settings, row, towers, tokens, row.answer, learns=True)
    return {name: training.rows * flops for name, flops in parts.items()}


@cache
def count_answer_flops(
    frames: int, settings: ConnectorSettings, training: Training, towers: Towers, new: int
) -> dict[str, int]:
    """FLOPs of one row's greedy answer of ``new`` tokens, by a model trained so; what counts is as in a step.

    Of the language model these are ``prefill``, the whole prompt and the first new token; ``generation``, the others,
    one by one beside a cache of keys and values; and ``new_token``, the first of these alone, which is no part of the
    sum. After S prompt tokens, the j-th takes a S-th of what the prompt's layers take, and a look at S + j tokens.

    Raises:
        ConfigError: if ``new`` is below 1.
    """
    if new < 1:
        raise ConfigError(f"an answer of {new} new tokens", "at least 1", "Raise max_new_tokens.")
    asked, others = replace(training, rows=1, answer=0, checkpointing=False), new - 1
    tokens = max(1, count_prompt_tokens(frames, settings, asked))
    parts = _language(settings, asked, towers, tokens, 1, learns=False)
    each, look = (parts["layers"] + parts["adapters"]) // tokens + parts["head"], parts["attention"] // tokens**2
    return _encoders(frames, settings, asked, towers, learns=False) | {
        "prefill": sum(parts.values()),
        "generation": others * (each + look * tokens) + look * others * new // 2,
        "new_token": each + look * (tokens + 1),
    }


def _encoders(
    frames: int, settings: ConnectorSettings, training: Training, towers: Towers, learns: bool
) -> dict[str, int]:
    """Of the vision encoder on all frames, of the instruction encoder on all questions, and from patches to tokens."""
    sees, reads = [], []
    for layers in (1, 2):
        with without_numbers(settings, training, towers.cut(layers)) as model:
            size, mask = model.vision.size, torch.ones(training.slots, QUESTION, dtype=torch.bool)
            sees.append(count(partial(model.vision, torch.empty(1, size, size, 3, dtype=torch.uint8))))
            reads.append(count(partial(model.instruction, mask.long(), mask)))
    with without_numbers(settings, training, towers.cut(1)) as model:
        model.connector.train(learns)
        sketch = count(partial(encode, model, 1)) - sees[0]
        tokens = count(lambda: _backward(connect(model, frames, training.slots), learns)) - reads[0]
    return {
        "vision": frames
        * extrapolate(sees[0], sees[1], towers.vision.num_hidden_layers - unused_blocks(towers.vision)).total(),
        "instruction": extrapolate(reads[0], reads[1], towers.instruction.num_hidden_layers).total(),
        "connector": frames * sketch.total() + tokens.total(),
    }


def _language(
    settings: ConnectorSettings, training: Training, towers: Towers, tokens: int, last: int, learns: bool
) -> dict[str, int]:
    """Of the language model on one row, by what its layers are made of, and by its head at the ``last`` positions."""
    counts = []
    for layers in (1, 2):
        with without_numbers(settings, training, towers.cut(layers)) as model:
            embeds = torch.empty(1, tokens, towers.language.hidden_size, dtype=model.dtype, requires_grad=True)
            counts.append(count(partial(_read_and_learn, model, embeds, last, learns)))
    one, two = counts
    parts = {name: towers.language.num_hidden_layers * (two[name] - one[name]) for name in two}
    return parts | {"head": 2 * one["layers"] - two["layers"]}


def count(work: Callable[[], object]) -> Counter[str]:
    """FLOPs of a call: in adapters, in other products with weights (``layers``), and in all else (``attention``)."""
    with FlopCounterMode(display=False, custom_mapping=FUSED) as counter:
        work()
    modules = counter.get_flop_counts()
    adapters = sum(sum(kinds.values()) for name, kinds in modules.items() if ".lora_" in name)
    weights = sum(flops for kind, flops in modules["Global"].items() if kind in (aten.mm, aten.addmm))
    rest = counter.get_total_flops() - weights
    return Counter({"layers": weights - adapters, "adapters": adapters, "attention": rest})


def _backward(made: Tensor, learns: bool) -> None:
    if learns:
        made.float().sum().backward()


def _read_and_learn(model: DynFocusModel, embeds: Tensor, last: int, learns: bool) -> None:
    _backward(read(model, embeds, last), learns)
