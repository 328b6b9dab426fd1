"""The memory that `plan` estimates, held against steps of a Llama of random weights on the tiny towers."""

from dataclasses import replace
from typing import Any

import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model
from tiny_steps import LONG, list_towers, measure_allocated, random_model

from dynfocus.models.model import DynFocusModel
from dynfocus.plan import Training
from dynfocus.plan.memory import STEP, Memory, estimate_step
from dynfocus.plan.towers import Towers
from dynfocus.types import Batch
from perf.peak_memory import extra_peak, free_at_once

ANSWER = 16


def freeze(model: DynFocusModel, training: Training) -> None:
    """As the stages do: frozen weights in 16 bit under mixed precision."""
    model.requires_grad_(False)
    model.connector.requires_grad_(True)
    if training.train == "stage2":
        model.language_model.requires_grad_(True)
    elif training.precision != "32":
        model.language_model.bfloat16()
    if training.train == "lora":
        config = LoraConfig(r=training.rank, lora_dropout=0.05, target_modules="all-linear", task_type="CAUSAL_LM")
        model.language_model = get_peft_model(model.language_model, config)
    if training.checkpointing:
        getattr(model.language_model, "base_model", model.language_model).activation_checkpointing_enable(
            {"use_reentrant": False}
        )


def rows(count: int) -> Batch:
    """Rows about videos of LONG frames, each with ANSWER tokens to learn at its end."""
    batch = tiny.batch([LONG] * count)
    answer = torch.ones(count, ANSWER, dtype=torch.long)
    ids, mask, ignored = batch.input_ids, batch.attention_mask, torch.full_like(batch.input_ids, -100)
    added = {
        "input_ids": (ids, answer),
        "attention_mask": (mask, answer.to(mask.dtype)),
        "labels": (ignored, answer),
    }
    return replace(batch, **{name: torch.cat(parts, 1) for name, parts in added.items()})


def estimate_memory(model: DynFocusModel, training: Training, batch: Batch, towers: Towers) -> Memory:
    visual = int((batch.input_ids == model.config.image_token_id).sum(-1)[0])
    text = batch.input_ids.shape[1] - visual - ANSWER
    how = replace(training, rows=len(batch.input_ids), text=text, answer=ANSWER)
    return estimate_step(LONG, tiny.SETTINGS, how, towers, overhead=0)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
@pytest.mark.parametrize("train", ["stage1", "stage2", "lora"])
def test_activations_of_a_step_are_within_a_quarter(train: Any, precision: Any, checkpointing: bool) -> None:
    training = Training(train, precision=precision, checkpointing=checkpointing, rank=8)
    model = random_model(hidden=128, mlp=352, layers=4, vocab=256)
    towers = list_towers(model)
    freeze(model, training)
    batch = rows(2)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision != "32"):
            loss = model(batch)[0]
        loss.backward()

    step()  # gradients are there from now on, as in the second of accumulated batches
    needs = estimate_memory(model, training, batch, towers)
    standing = sum(size for size, moments in needs.rows.values() if moments == STEP)
    estimate = max(needs.at(moment) for moment in ("forward", "recompute", "backward")) - standing
    assert estimate == pytest.approx(measure_allocated(step), rel=0.25)


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
def test_a_training_step_of_a_hundred_million_parameters_is_within_a_quarter(checkpointing: bool) -> None:
    training = Training("stage2", precision="32", checkpointing=checkpointing)
    batch = rows(2)
    built: list[tuple[DynFocusModel, torch.optim.Optimizer]] = []

    def run() -> None:
        model = random_model(hidden=768, mlp=2048, layers=12, vocab=8192)
        freeze(model, training)
        optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad])
        built.append((model, optimizer))
        for _ in range(2):  # gradients accumulate
            model(batch)[0].backward()
        optimizer.step()
        model(batch)[0].backward()

    tiny.model()
    with free_at_once():
        grown = extra_peak(run)
    if grown is None:
        pytest.skip("neither this kernel nor this C library tells a peak")
    model = built[0][0]
    needs = estimate_memory(model, training, batch, list_towers(model))
    assert 95e6 < sum(weight.numel() for weight in model.language_model.parameters()) < 105e6
    assert needs.total == pytest.approx(grown, rel=0.25)
