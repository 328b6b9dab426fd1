"""What only a GPU can show: fused attention, and a 7B-shaped model's memory beside the plan's."""

import gc
from typing import Any

import pytest
import tiny
import torch
from tiny_steps import TINY, shapes
from transformers.utils import is_flash_attn_2_available

from dynfocus.plan import Training
from dynfocus.plan.cards import GIB
from dynfocus.plan.memory import estimate_answer, estimate_step
from dynfocus.settings import ConnectorSettings
from perf.random_step import RandomStep, Shapes
from perf.training_step import measure_training, peak

pytestmark = pytest.mark.gpu


@pytest.fixture
def device() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    gc.collect()
    torch.cuda.empty_cache()
    return torch.device("cuda", torch.cuda.current_device())


def test_flash_attention_answers_as_sdpa_does(device: torch.device) -> None:
    if not is_flash_attn_2_available():
        pytest.skip("needs the package flash-attn")
    how = Training("stage1", rows=2, text=40, answer=8, accumulate=1)
    step, losses, slopes = RandomStep(20, tiny.SETTINGS, how, shapes(hidden=256), device), [], []
    mask = step.batch.attention_mask
    mask[0, :10] = 0  # padded on the left, as answers are generated
    for attention in ("sdpa", "flash_attention_2"):
        step.model.language_model.set_attn_implementation(attention)
        step.model.zero_grad()
        loss = step.loss()
        loss.backward()
        losses.append(float(loss.detach()))
        slopes.append(torch.cat([w.grad.flatten() for w in step.weights if w.grad is not None]))
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    assert float((slopes[1] - slopes[0]).norm() / slopes[0].norm()) < 0.05


@pytest.mark.parametrize("train", ["stage1", "lora", "qlora"])
def test_the_memory_of_seven_billion_is_within_15_percent_of_the_plan(device: torch.device, train: Any) -> None:
    settings, training, sizes = ConnectorSettings(), Training(train, accumulate=1), Shapes()
    needs = estimate_step(32, settings, training, sizes.towers).total
    free = torch.cuda.mem_get_info(device)[0]
    if free < 1.2 * needs:
        pytest.skip(f"needs {1.2 * needs / GIB:.0f} GiB of free GPU memory, has {free / GIB:.0f}")
    row = measure_training(32, settings, training, sizes, device, repeats=2)
    assert row["planned_over_peak"] == pytest.approx(1, abs=0.15)
    assert 0.05 < row["mfu"] < 1
    assert row["loss"] < 20


def test_the_memory_of_an_answer_of_seven_billion_is_within_15_percent_of_the_plan(device: torch.device) -> None:
    settings, asked, sizes, new = ConnectorSettings(), Training("stage1", text=96, answer=0), Shapes(), 16
    needs = estimate_answer(200, settings, asked, new, sizes.towers, overhead=0).total
    free = torch.cuda.mem_get_info(device)[0]
    if free < 1.2 * needs:
        pytest.skip(f"needs {1.2 * needs / GIB:.0f} GiB of free GPU memory, has {free / GIB:.0f}")
    step = RandomStep(200, settings, asked, sizes, device)

    def work() -> None:
        step.model.eval().answer(step.batch, max_new_tokens=new, min_new_tokens=new)

    work()
    measured = peak(work, device)
    assert measured is not None
    assert needs == pytest.approx(measured, rel=0.15)


def test_a_small_step_is_weighed_and_timed(device: torch.device) -> None:
    row = measure_training(20, tiny.SETTINGS, TINY, shapes(), device, repeats=2)
    assert row["device"] == "cuda"
    assert 0 < row["seconds"] < 60
    assert row["peak_bytes"] > 0
