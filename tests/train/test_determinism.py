"""The same seed trains the same bits, another seed others; an evaluation depends on nothing but model and data."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_world import ROOT, arguments, call

from datamodules.world import WorldDataModule
from dynfocus.models.model import DynFocusModel
from dynfocus.settings import FrameRule

STEPS = 4
BRIEF = ("--trainer.max_steps", str(STEPS), "--trainer.limit_val_batches", "0")


def weights(run: Path) -> dict[str, torch.Tensor]:
    """All that a finished run leaves, its optimizer's moments among it."""
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == STEPS
    moments = {
        f"{name} of parameter {number}": value
        for number, state in last["optimizer_states"][0]["state"].items()
        for name, value in state.items()
    }
    tensors = last["state_dict"] | moments
    for file in run.rglob("*.safetensors"):
        tensors |= {f"{file.name}: {name}": tensor for name, tensor in load_file(file).items()}
    return tensors


def list_differing(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name, tensor in one.items() if not torch.equal(tensor, other[name])}


def trained_parts(names: set[str]) -> set[str]:
    return {".".join(name.split(".")[1:3]) for name in names if name.startswith("model.")}


@pytest.fixture(scope="module")
def start(trained_runs: Path) -> tuple[str, ...]:
    """Every weight begins alike, so that only the order of rows and the noise can tell seeds apart."""
    return (*BRIEF, "--model.init_from", str(trained_runs / "stage2" / "model"))


@pytest.fixture(scope="module")
def first(place: Path, trained_runs: Path, start: tuple[str, ...]) -> Path:
    run = place / "runs" / "determinism" / "first"
    assert call(place, "fit", "stage2", run, *start) == 0
    return run


def test_the_same_seed_trains_the_same_bits(place: Path, first: Path, start: tuple[str, ...]) -> None:
    """Once more here, whatever was drawn before, and once in a process that hashes its words otherwise."""
    here, there = first.with_name("here"), first.with_name("there")
    torch.manual_seed(12345)
    torch.rand(7)
    assert call(place, "fit", "stage2", here, *start) == 0
    command = [sys.executable, "-m", "dynfocus", *arguments(place, "fit", "stage2", there, *start)]
    other = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"}
    subprocess.run(command, env=other, capture_output=True, check=True)
    whole = weights(first)
    assert len(whole) > 200
    assert list_differing(whole, weights(here)) == set()
    assert list_differing(whole, weights(there)) == set()


def test_another_seed_trains_other_weights(place: Path, first: Path, start: tuple[str, ...]) -> None:
    run = first.with_name("seed")
    assert call(place, "fit", "stage2", run, *start, "--seed_everything", "1") == 0
    parts = trained_parts(list_differing(weights(first), weights(run)))
    assert {"connector.select", "connector.cones", "connector.rods", "language_model.model"} <= parts
    assert not {part for part in parts if part.startswith(("vision", "instruction"))}


def test_stage_1_of_the_same_seed_leaves_the_same_projectors(place: Path, trained_runs: Path, tmp_path: Path) -> None:
    ends = []
    for name, seed in (("one", "0"), ("two", "0"), ("other", "1")):
        assert call(place, "fit", "stage1", tmp_path / name, *BRIEF, "--seed_everything", seed) == 0
        ends.append(weights(tmp_path / name))
    assert list_differing(ends[0], ends[1]) == set()
    assert {"connector.select", "connector.cones", "connector.rods"} <= trained_parts(list_differing(ends[0], ends[2]))


def read_evaluation(run: Path) -> tuple[bytes, dict[str, Any]]:
    """Predictions as they are on disk, and the metrics but for the seconds they took."""
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics.pop("seconds") >= 0
    return (run / "predictions.jsonl").read_bytes(), metrics


def test_two_evaluations_give_the_same_bits(place: Path, first: Path, tmp_path: Path) -> None:
    (tmp_path / "model").symlink_to(first / "model")
    evaluations = []
    for _ in range(2):
        assert call(place, "test", "stage2", tmp_path) == 0
        evaluations.append(read_evaluation(tmp_path))
        torch.rand(5)
    assert evaluations[0] == evaluations[1]
    assert set(evaluations[0][1]["arms"]) == {"learned", "uniform", "random", "blind"}


def test_an_evaluation_draws_nothing(place: Path, first: Path) -> None:
    """Logits, losses and kept frames of two models from one folder, each with another seed and at another step."""
    options = {"videos": 8, "val": 2, "test": 2, "check": False, "frame_rule": FrameRule(size=24)}
    folders = {"encoders": place / "towers" / "encoders", "language_model": place / "towers" / "language"}
    ends = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = DynFocusModel.from_folder(first / "model").eval()
        data = WorldDataModule(root=place / "data", connector=model.settings, **folders, **options)
        data.prepare_data()
        data.setup("test")
        batch = next(iter(data.test_dataloader()))
        with torch.no_grad():
            embeds, video = model.embed(batch, step=seed)
            logits = model.language_model(inputs_embeds=embeds, attention_mask=batch.attention_mask).logits
            answers, _ = model.answer(batch)
        assert video.focus is not None
        ends.append((embeds, logits, answers, video.tokens, video.focus.frames))
    assert len(ends[0][1]) == 2 * 8
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))
