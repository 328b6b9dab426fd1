"""The bench of training steps, at tiny sizes: its operations as torch counts them, and every number of its rows."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import tiny
import torch
from tiny_steps import CPU, FRAMES, TINY, count_flops, random_step, shapes

from dynfocus.plan import Training, count_prompt_tokens
from dynfocus.plan.cards import GIB
from dynfocus.plan.flops import count_step_flops
from dynfocus.plan.memory import estimate_step
from dynfocus.plan.towers import read_towers
from dynfocus.settings import ConnectorSettings
from perf import training_step as measured
from perf.__main__ import main
from perf.peaks import peak_rate
from perf.random_step import Shapes
from perf.table import TRAINING, append, heading, line
from perf.training_step import case, measure_training


@pytest.mark.parametrize("train", ["stage1", "stage2", "lora"])
def test_the_operations_of_a_step_are_those_that_torch_counts(train: Any) -> None:
    one = random_step(train)
    one.model.vision.encoder.set_attn_implementation("eager")  # torch counts no fused attention on a CPU
    one.model.instruction.encoder.set_attn_implementation("eager")
    planned = count_step_flops(FRAMES, tiny.SETTINGS, one.training, shapes().towers)
    parts = count_flops(lambda: one.loss().backward())
    connecting = count_flops(lambda: one.model.connect(one.batch).tokens.sum().backward())
    assert parts["DynFocusModel.vision"] == planned["vision"]
    assert parts["DynFocusModel.instruction"] == planned["instruction"]
    language = sum(planned[name] for name in ("layers", "adapters", "attention", "head"))
    assert parts["Global"] - connecting["Global"] == pytest.approx(language, rel=0.002)  # angles of positions aside
    assert parts["Global"] == pytest.approx(sum(planned.values()), rel=0.1)
    assert connecting["Global"] - planned["vision"] - planned["instruction"] == pytest.approx(
        planned["connector"], rel=0.01
    )
    assert language > 0.5 * sum(planned.values())
    assert (planned["adapters"] > 0) == (train == "lora")


def test_a_frozen_seven_billion_takes_four_operations_a_weight_and_token() -> None:
    settings, training, towers = ConnectorSettings(), Training("stage1", accumulate=1), read_towers()
    tokens = count_prompt_tokens(32, settings, training)
    flops = count_step_flops(32, settings, training, towers)
    assert flops["layers"] == 4 * tokens * (6_738_415_616 - 2 * 32000 * 4096 - 65 * 4096)
    assert flops["attention"] == 3 * 32 * 4 * tokens**2 * 4096
    assert flops["head"] == 2 * 2 * 32 * 32000 * 4096
    whole = count_step_flops(32, settings, replace(training, train="stage2"), towers)
    assert whole["layers"] == flops["layers"] // 2 * 3
    assert whole["head"] == flops["head"] // 2 * 3
    assert whole["vision"] == flops["vision"]
    twice = count_step_flops(32, settings, replace(training, rows=2), towers)
    assert twice == {name: 2 * count for name, count in flops.items()}


def test_shapes_are_those_that_the_plan_counts() -> None:
    towers, paper = Shapes().towers, read_towers()
    assert (towers.instruction.to_dict(), towers.language.to_dict()) == (
        *(paper.instruction.to_dict(), paper.language.to_dict()),
    )
    drawn = {"initializer_range": towers.vision.initializer_range}
    assert towers.vision.to_dict() == paper.vision.to_dict() | drawn


@pytest.mark.parametrize(("train", "precision"), [("stage1", "32"), ("lora", "bf16-mixed"), ("qlora", "bf16-mixed")])
def test_a_row_says_all_of_a_step(train: Any, precision: Any, tmp_path: Path) -> None:
    how = replace(TINY, train=train, precision=precision)
    row = measure_training(FRAMES, tiny.SETTINGS, how, shapes(), CPU, repeats=2)
    append(tmp_path / "rows.jsonl", [row])
    assert json.loads((tmp_path / "rows.jsonl").read_text()) == row
    assert row["tokens"] == 2 * count_prompt_tokens(FRAMES, tiny.SETTINGS, how)
    assert row["flops"] == sum(row["flops_parts"].values())
    above_zero = ("seconds", "tokens_per_second", "flops", "mfu", "peak_flops", "planned_bytes", "trained", "loss")
    assert all(0 < row[name] < float("inf") for name in above_zero)
    assert row["seconds"] <= row["seconds_median"]
    assert row["mfu"] == pytest.approx(row["flops"] / row["seconds_median"] / row["peak_flops"])
    assert row["peak_bytes"] is None  # nothing counts what tensors hold on a CPU
    assert len(line(row, TRAINING)) == len(heading(TRAINING).splitlines()[0])


def test_a_random_step_trains_what_its_stage_trains() -> None:
    for train, parts in (("stage1", {"connector"}), ("qlora", {"connector", "language_model"})):
        one = random_step(train, precision="bf16-mixed", checkpointing=True)
        assert {n.split(".")[0] for n, w in one.model.named_parameters() if w.requires_grad} == parts
        assert {w.dtype for w in one.weights} == {torch.float32}
        assert next(one.model.vision.parameters()).dtype == torch.bfloat16
        packed = [name for name, part in one.model.named_modules() if isinstance(part, bitsandbytes.nn.Linear4bit)]
        assert len(packed) == (3 * 7 if train == "qlora" else 0)
        assert all(part.weight.dtype == torch.uint8 for part in map(one.model.get_submodule, packed))
        before = [weight.detach().clone() for weight in one.weights]
        one.step()
        still = [torch.equal(weight, old) for weight, old in zip(one.weights, before, strict=True)]
        assert sum(still) < len(still) / 2  # the first factors of adapters, as the second ones are zero


@pytest.mark.parametrize("train", ["stage1", "lora", "qlora"])
def test_the_page_says_what_is_known_beforehand(train: Any) -> None:
    settings, training = ConnectorSettings(), Training(train, accumulate=1)
    text = (Path(__file__).parents[2] / "docs/cost.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith(f"| `{train}` |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[4] == f"{sum(count_step_flops(32, settings, training, read_towers()).values()) / 1e12:.1f}"
    assert cells[6] == f"{estimate_step(32, settings, training, read_towers(), overhead=0).total / GIB:.2f}"
    assert f"a prompt of {count_prompt_tokens(32, settings, training)} tokens" in text


def test_activations_are_kept_or_computed_again() -> None:
    def runs(checkpointing: bool) -> int:
        one, passes = random_step("stage1", checkpointing=checkpointing), []
        layer = one.model.language_model.get_decoder().layers[0]
        layer.mlp.register_forward_pre_hook(lambda *_: passes.append(1))
        one.step()
        return len(passes)

    assert (runs(False), runs(True)) == (1, 2)


def test_the_peak_of_a_cpu_is_measured() -> None:
    rate, known = peak_rate(CPU, torch.float32, measured.Sizes(64, 8, 64))
    assert known == "measured"
    assert rate > 0


def test_a_gpu_that_is_too_small_is_said_and_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (12 << 30, 12 << 30))
    monkeypatch.setattr(measured, "measure_training", lambda *_: pytest.fail("it was tried"))  # as it takes 18 GiB
    messages: list[str] = []
    assert not list(case(32, ConnectorSettings(), Training("lora", accumulate=1), CPU, messages.append))
    assert "lora of 1 x 32 frames is left out" in messages[0]
    assert "12.0 are" in messages[0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--training", "--out", str(tmp_path / "rows.jsonl")]) == 1
    assert "machine without a GPU" in capsys.readouterr().err
    assert not (tmp_path / "rows.jsonl").exists()
