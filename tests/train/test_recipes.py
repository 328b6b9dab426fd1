"""Post-tuning, LoRA and QLoRA from training to an answer, through the real command line on a miniature world."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_world import CONFIGS, call

from dynfocus.cli import main

BRIEF = ("--trainer.max_steps", "3", "--model.lr", "1e-2", "--trainer.limit_val_batches", "0")
RANK = ("--model.lora.rank", "4", "--model.lora.alpha", "8")
QUESTION = "what color is the star"


def ask(model: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    video = place / "data" / "videos" / "test_000000.mp4"
    assert main(["ask", str(video), QUESTION, "--model", str(model)]) == 0
    output, _, _ = capsys.readouterr().out.partition("time:")  # which differs
    return output


@pytest.fixture(scope="module", params=["lora", "qlora"])
def adapter_run(request: pytest.FixtureRequest, place: Path, trained_runs: Path) -> Path:
    """A run with adapters, trained and tested."""
    run = place / "recipes" / request.param
    more = ("--config", str(CONFIGS / f"{request.param}.yaml"), *RANK, *BRIEF)
    start = ("--model.init_from", str(trained_runs / "stage1" / "projectors.safetensors"))
    assert call(place, "fit", "stage2", run, *more, *start) == 0
    assert call(place, "test", "stage2", run, *more) == 0
    return run


def test_adapters_from_training_to_an_answer(
    adapter_run: Path, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = torch.load(adapter_run / "checkpoints" / "last.ckpt", weights_only=True)
    names = checkpoint["state_dict"]
    assert all(name.startswith("model.connector.") or ".lora_" in name for name in names)
    factors = {name: tensor for name, tensor in names.items() if "lora_B" in name}
    assert factors
    assert all(tensor.any() for tensor in factors.values())  # they begin as zeros
    assert len(checkpoint["optimizer_states"][0]["state"]) == len(names)
    assert json.loads((adapter_run / "metrics.json").read_text())["n"] == 2 * 8
    answer = ask(adapter_run / "model", place, capsys)
    merged = tmp_path / "merged"
    assert main(["export", str(adapter_run / "model"), str(merged), "--merge"]) == 0
    assert ask(merged, place, capsys) == answer


def test_post_tuning_goes_on_from_adapters(
    adapter_run: Path, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "posttune"
    assert call(place, "fit", "posttune", run, *BRIEF, "--model.init_from", str(adapter_run / "model")) == 0
    old, new = (
        load_file(place / "adapter" / "adapter_model.safetensors") for place in (adapter_run / "model", run / "model")
    )
    assert old.keys() == new.keys()
    assert any(not torch.equal(old[name], new[name]) for name in old)
    assert ask(run / "model", place, capsys)


def test_post_tuning_starts_from_stage_2(place: Path, trained_runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained_runs / "posttune"  # beside stage2, where its config looks
    assert call(place, "fit", "posttune", run, *BRIEF) == 0
    assert call(place, "test", "posttune", run, *BRIEF) == 0
    old, new = (load_file(trained_runs / stage / "model" / "model.safetensors") for stage in ("stage2", "posttune"))
    still = {name.split(".")[0] for name in old if torch.equal(old[name], new[name])}
    assert {"vision", "instruction"} <= still
    moved = {name.split(".")[0] for name in old if not torch.equal(old[name], new[name])}
    assert moved == {"connector", "language_model"}
    assert json.loads((run / "metrics.json").read_text())["n"] == 2 * 8
    assert ask(run / "model", place, capsys)


def test_an_optimizer_in_eight_bits(place: Path, trained_runs: Path, tmp_path: Path) -> None:
    start = ("--model.init_from", str(trained_runs / "stage1" / "projectors.safetensors"))
    assert call(place, "fit", "stage2", tmp_path / "run", *BRIEF, *start, "--model.optimizer", "adamw8bit") == 0
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    states = checkpoint["optimizer_states"][0]["state"].values()
    assert all("__bnb_optimizer_quant_state__" in state for state in states)  # bitsandbytes' own name


@pytest.mark.parametrize(
    ("more", "cause"),
    [
        (("--config", str(CONFIGS / "lora.yaml")), "lora of rank 64"),
        (("--model.quantize", "nf4"), "weights of 4 bits cannot be trained"),
        (("--model.attention", "flash_attention_2"), "flash-attn"),
        (("--model.shard_towers", "true"), "shard_towers where nothing is sharded"),
        (("--model.init_from", "TOWER"), "an encoder 'llama' of None pixels"),
        (("--trainer.strategy", "fsdp"), "GPU"),
        (("--trainer.devices", "two"), "should be an int"),
    ],
)
def test_post_tuning_that_cannot_be_costs_one_sentence(
    place: Path,
    trained_runs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    cause: str,
) -> None:
    start = ("--model.init_from", str(trained_runs / "stage2" / "model"))
    tower = str(place / "towers" / "language")
    assert call(place, "fit", "posttune", tmp_path / "run", *start, *(tower if m == "TOWER" else m for m in more)) == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("dynfocus: ")
    assert cause in message
    assert not (tmp_path / "run").exists()


def test_a_required_folder_is_named_with_its_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", str(CONFIGS / "stage2.yaml"), "--model.language_model", "somewhere"]) == 1
    shown = capsys.readouterr().err.strip().splitlines()[-1]
    assert shown.startswith("dynfocus: no model.encoders. Needed: a folder: this setting is required. ")
    assert "docs/weights.md" in shown
