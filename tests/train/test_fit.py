"""What both stages, the test and a question leave behind, through the real command line on a miniature world."""

import json
from logging import getLogger
from pathlib import Path

import pytest
import tiny
import torch
import yaml
from safetensors.torch import load_file
from tiny_world import CONFIGS, call

from dynfocus.cli import main
from dynfocus.evals.benchmarks.world import KINDS
from dynfocus.models.model import DynFocusModel
from dynfocus.records.jsonl import read_jsonl
from dynfocus.records.predictions import Prediction
from dynfocus.train.module import DynFocusModule


@pytest.mark.parametrize("config", sorted({path.name for path in CONFIGS.glob("*.yaml")} - {"trainer.yaml"}))
def test_every_config_goes_through_the_real_command_line(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    stage = config if config in ("stage1.yaml", "stage2.yaml") else "stage2.yaml"
    recipe = config in ("posttune.yaml", "lora.yaml", "qlora.yaml")  # which the data's overlay is laid over
    files = [*dict.fromkeys((stage, config, "world.yaml") if recipe else (stage, "world.yaml", config))]
    with pytest.raises(SystemExit) as done:
        main(["fit", *(part for file in files for part in ("--config", str(CONFIGS / file))), "--print_config"])
    assert done.value.code in (None, 0)
    assert "default_root_dir: runs/" in capsys.readouterr().out


def test_both_stages_share_their_trainer(capsys: pytest.CaptureFixture[str]) -> None:
    """Every setting of it is shown, and an overlay still changes or replaces any."""
    shared = yaml.safe_load((CONFIGS / "trainer.yaml").read_text())
    for stage in ("stage1", "stage2"):
        assert yaml.safe_load((CONFIGS / f"{stage}.yaml").read_text())["trainer"] == "trainer.yaml"
        towers = ("--model.encoders", "towers/encoders", "--model.language_model", "towers/language")
        with pytest.raises(SystemExit):
            main(
                ["fit", "--config", str(CONFIGS / f"{stage}.yaml"), *towers, "--print_config", "--trainer.max_epochs=7"]
            )
        shown = yaml.safe_load(capsys.readouterr().out)["trainer"]
        paths = [one["class_path"] for one in shown["callbacks"]]
        assert paths == [one["class_path"] for one in shared["callbacks"]]
        assert shown["callbacks"][0]["init_args"]["dirpath"] == f"runs/{stage}/checkpoints"
        assert (shown["max_epochs"], shown["precision"]) == (7, shared["precision"])


def test_a_run_reads_well(place: Path, trained_runs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One table of parameters, no bar before its length is known, nothing of what is none of the user's business."""
    start = ("--model.init_from", str(trained_runs / "stage1" / "projectors.safetensors"), "--trainer.max_steps", "12")
    bars = ("--trainer.enable_progress_bar", "true", "--trainer.callbacks+=callbacks.progress.Progress")
    kernels = getLogger("bitsandbytes.backends.cpu.ops")
    assert call(place, "fit", "stage2", tmp_path / "run", *start, *bars, "--heading", "stage 2 of 2: tuning") == 0
    assert call(place, "test", "stage2", tmp_path / "run", *bars) == 0
    kernels.warning("Failed to load CPU gemm_4bit_forward from kernels-community")
    shown = capfd.readouterr()
    assert shown.out.startswith("\nstage 2 of 2: tuning\n")
    assert "Epoch 0:" in shown.out
    assert "Testing" in shown.out
    for word in ("0/?", " 0it", "FLOPs", "kernels", "TPU", "Modules in eval mode"):  # but 5.60it/s is well
        assert word not in shown.out + shown.err, word
    assert f"the model is in {tmp_path / 'run' / 'model'}" in shown.out


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_a_recipe_alone_has_a_folder_too(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    towers = ("--model.encoders", "towers/encoders", "--model.language_model", "towers/language")
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(CONFIGS / f"{stage}.yaml"), *towers, "--print_config"])
    config = capsys.readouterr().out
    for name in ("default_root_dir: ", "save_dir: ", "dirpath: "):
        assert f"{name}runs/{stage}" in config
    assert ("init_from: runs/stage2/../stage1/projectors.safetensors" in config) == (stage == "stage2")


def test_the_end_of_a_run(trained_runs: Path) -> None:
    metrics = json.loads((trained_runs / "stage2" / "metrics.json").read_text())
    names = {"benchmark", "columns", "unparsed", "hit_rate", "visual_tokens", "seconds", "seed", "n", "commit"}
    assert names <= metrics.keys()
    assert metrics["n"] == 2 * 8
    assert metrics["visual_tokens"] == 3 * (4 + 9 + 2) + 17 * 2
    assert set(metrics["arms"]) == {"learned", "uniform", "random", "blind"}
    predictions = list(read_jsonl(trained_runs / "stage2" / "predictions.jsonl", Prediction))
    assert len(predictions) == 4 * metrics["n"]
    tokens = {arm: {p.visual_tokens for p in predictions if p.arm == arm} for arm in metrics["arms"]}
    assert tokens["learned"] == tokens["uniform"] == tokens["random"] == {79}
    assert tokens["blind"] == {0}
    assert all(len(p.kept) == 3 for p in predictions if p.arm != "blind")
    assert {p.hit for p in predictions if p.group in KINDS["temporal"]} == {None}


def test_stages_train_what_their_table_says(place: Path, trained_runs: Path) -> None:
    start = DynFocusModel.from_towers(
        place / "towers" / "encoders", place / "towers" / "language", tiny.SETTINGS
    ).state_dict()
    first = torch.load(trained_runs / "stage1" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    second = torch.load(trained_runs / "stage2" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert {name.split(".")[1] for name in first} == {"connector"}
    assert {name.split(".")[1] for name in second} == {"connector", "language_model"}
    after = load_file(trained_runs / "stage2" / "model" / "model.safetensors")
    for name, tensor in start.items():
        if name.split(".")[0] in ("vision", "instruction"):
            assert torch.equal(after[name], tensor), name
    changed = [
        n for n, t in start.items() if n.startswith("language_model") and not torch.equal(second[f"model.{n}"], t)
    ]
    assert len(changed) > 10
    scores = "model.connector.select.score_net.net.1.weight"
    assert not torch.equal(first[scores], start[scores.removeprefix("model.")])


def test_a_checkpoint_comes_back_as_a_module(trained_runs: Path) -> None:
    file = trained_runs / "stage2" / "checkpoints" / "last.ckpt"
    module = DynFocusModule.load_from_checkpoint(file, init_from=None)
    stored = torch.load(file, weights_only=True)
    assert module.trained() == set(stored["state_dict"])
    own = module.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in stored["state_dict"].items())
    assert module.building.connector == tiny.SETTINGS or module.building.connector.samples == 20


def test_stage2_takes_over_the_projectors_and_nothing_else(place: Path, trained_runs: Path) -> None:
    file = trained_runs / "stage1" / "projectors.safetensors"
    handed = load_file(file)
    assert {name.rsplit(".", 2)[0] for name in handed} == {"connector.cones.fine", "connector.rods.coarse"}
    torch.manual_seed(1)
    towers = place / "towers"
    module = DynFocusModule(towers / "encoders", towers / "language", tiny.SETTINGS, init_from=file)
    module.configure_model()
    assert module.model is not None
    assert {n.split(".")[0] for n, p in module.model.named_parameters() if p.requires_grad} == {
        "connector",
        "language_model",
    }
    own = module.model.state_dict()
    learned = torch.load(trained_runs / "stage1" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for name, tensor in own.items():
        if name in handed:
            assert torch.equal(tensor, handed[name]), name
            assert torch.equal(tensor, learned[f"model.{name}"]), name
    for name in ("connector.select.score_net.net.1.weight", "connector.rods.f_q.weight", "connector.rods.f_k.weight"):
        assert not torch.equal(own[name], learned[f"model.{name}"]), name


def test_a_setting_at_test_time_reaches_the_trained_model(place: Path, trained_runs: Path, tmp_path: Path) -> None:
    run = tmp_path / "stage2"
    (tmp_path / "stage2").mkdir()
    (run / "model").symlink_to(trained_runs / "stage2" / "model")
    more = ("--model.connector.selector", "uniform", "--model.arms", "[learned]")
    assert call(place, "test", "stage2", run, *more) == 0
    kept = {p.kept for p in read_jsonl(run / "predictions.jsonl", Prediction)}
    assert kept == {(3, 10, 16)}


def test_testing_an_untrained_run_says_what_is_missing(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(place, "test", "stage2", tmp_path / "run") == 1
    assert str(tmp_path / "run" / "model") in capsys.readouterr().err


def test_asking_the_trained_model(place: Path, trained_runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(trained_runs / "stage2" / "model")
    video = str(place / "data" / "videos" / "test_000000.mp4")
    assert main(["ask", video, "what color is the star", "--model", model]) == 0
    shown = capsys.readouterr().out
    assert "visual tokens: 79" in shown
    assert " of 20" in shown
    image = str(place / "data" / "images" / "train_000000.png")
    assert main(["ask", image, "what color is the star", "--model", model]) == 0
    assert "kept frames:   1 of 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("video", "question", "model", "cause"),
    [
        ("nowhere.mp4", "what", "runs/stage2/model", "nowhere.mp4"),
        ("garbage.mp4", "what", "runs/stage2/model", "garbage.mp4"),
        ("data/videos/test_000000.mp4", "what", "runs", "no trained model"),
        ("data/videos/test_000000.mp4", "what " * 600, "runs/stage2/model", "context"),
    ],
)
def test_a_question_that_cannot_be_asked_costs_one_sentence(
    place: Path,
    trained_runs: Path,
    capsys: pytest.CaptureFixture[str],
    video: str,
    question: str,
    model: str,
    cause: str,
) -> None:
    (place / "garbage.mp4").write_bytes(b"no video at all" * 100)
    assert main(["ask", str(place / video), question, "--model", str(place / model)]) == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("dynfocus: ")
    assert cause in message


def test_validate_and_predict(place: Path, trained_runs: Path, tmp_path: Path) -> None:
    run = tmp_path / "stage2"
    run.mkdir()
    (run / "model").symlink_to(trained_runs / "stage2" / "model")
    assert call(place, "predict", "stage2", run) == 0
    assert len(list(read_jsonl(run / "predict.jsonl", Prediction))) == 2 * 8
    assert call(place, "validate", "stage2", run) == 0
