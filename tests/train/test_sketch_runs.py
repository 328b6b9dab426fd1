"""Training, tests and questions with a sketch cache, through the real command line on the miniature world."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_sketches import count_calls
from tiny_world import ROOT, arguments, call

from dynfocus.cli import main
from dynfocus.records.jsonl import read_jsonl
from dynfocus.records.predictions import Prediction

NO_CACHE = ("--data.init_args.sketch_cache", "null")
VISIBLE = 8 + 2 + 2  # videos of the miniature world; its images come on top


def entries(folder: Path) -> int:
    return len(list(folder.rglob("*.safetensors")))


@pytest.fixture(scope="module")
def start(trained_runs: Path) -> tuple[str, str]:
    return "--model.init_from", str(trained_runs / "stage1" / "projectors.safetensors")


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_cache_changes_no_bit_of_training(
    place: Path, start: tuple[str, str], tmp_path: Path, precision: str
) -> None:
    quiet = ("--trainer.enable_model_summary", "false")  # it warns that it cannot count in mixed precision
    more = (*start, *quiet, "--trainer.max_steps", "3", "--trainer.precision", precision)
    assert call(place, "fit", "stage2", tmp_path / "cached", *more) == 0
    more = (*more, *NO_CACHE, "--trainer.limit_val_batches", "0")
    with count_calls() as calls:
        assert call(place, "fit", "stage2", tmp_path / "encoded", *more) == 0
    assert calls["reader"] > 0
    assert calls["encoder"] > 0
    ends = [load_file(tmp_path / name / "model" / "model.safetensors") for name in ("cached", "encoded")]
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())


def test_the_cache_changes_no_answer(place: Path, trained_runs: Path, tmp_path: Path) -> None:
    predictions = []
    for name, more in (("cached", ()), ("encoded", NO_CACHE)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model").symlink_to(trained_runs / "stage2" / "model")
        assert call(place, "test", "stage2", tmp_path / name, *more) == 0
        predictions.append(list(read_jsonl(tmp_path / name / "predictions.jsonl", Prediction)))
    assert predictions[0] == predictions[1]
    assert len(predictions[0]) > 10


def test_a_filled_cache_costs_neither_decoding_nor_the_encoder(
    place: Path, start: tuple[str, str], trained_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`dynfocus sketch` fills it for training and for every test of the model that training leaves."""
    cache = ("--data.init_args.sketch_cache", str(tmp_path / "cache"))
    config = arguments(place, "sketch", "stage2", tmp_path / "fit", *start, *cache)
    assert main(config) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    count = entries(tmp_path / "cache")
    assert count > VISIBLE
    assert last == (
        f"sketches: 0 were there, {count} computed, 0 computed again as they were damaged; in {tmp_path / 'cache'}"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "fit.yaml"]
    next((tmp_path / "cache").rglob("*.safetensors")).write_bytes(b"half")
    next((tmp_path / "cache").rglob("*.safetensors")).unlink()
    more = (*start, *cache, "--trainer.max_steps", "2")
    with count_calls() as calls:
        assert main(config) == 0
    shown = capsys.readouterr().out.splitlines()[-1]
    assert re.match(rf"sketches: {count - 1} were there, 1 computed, 0|sketches: {count - 2} were there, 1 ", shown), (
        shown
    )
    assert calls["encoder"] > 0
    with count_calls() as calls:
        assert main(config) == 0
        assert call(place, "fit", "stage2", tmp_path / "fit", *more) == 0
        assert call(place, "validate", "stage2", tmp_path / "fit", *cache) == 0
        assert call(place, "test", "stage2", tmp_path / "fit", *cache) == 0
        model, video = tmp_path / "fit" / "model", str(place / "data" / "videos" / "test_000000.mp4")
        asked = ["what color is the star", "how many stars", "--model", str(model), "--cache", str(tmp_path / "cache")]
        assert main(["ask", video, *asked]) == 0
        assert main(["sketch", video, video, *asked[2:]]) == 0
    assert not calls
    assert entries(tmp_path / "cache") == count
    assert f"sketches: {count} were there, 0 computed, 0 computed again" in (shown := capsys.readouterr().out)
    assert shown.splitlines()[-1].startswith("sketches: 1 were there, 0 computed")
    assert [line for line in shown.splitlines() if line.startswith("question:")] == [
        f"question:      {question}" for question in asked[:2]
    ]


def test_videos_are_sketched_ahead_for_a_trained_model(
    place: Path, trained_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, cache = str(trained_runs / "stage2" / "model"), str(tmp_path / "cache")
    videos = [str(place / "data" / "videos" / f"val_{n:06}.mp4") for n in range(2)]
    assert main(["sketch", *videos, "--model", model, "--cache", cache]) == 0
    assert capsys.readouterr().out.startswith("sketches: 0 were there, 2 computed")
    with count_calls() as calls:
        assert main(["ask", videos[0], "how many stars", "--model", model, "--cache", cache]) == 0
    cached, _, _ = capsys.readouterr().out.partition("time:")
    assert not calls
    with count_calls() as calls:
        assert main(["ask", videos[0], "how many stars", "--model", model]) == 0
    assert calls["reader"] == 1
    assert capsys.readouterr().out.startswith(cached + "time:")


def test_sketches_of_a_config_without_a_cache(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = arguments(place, "sketch", "stage1", tmp_path / "run", *NO_CACHE)
    assert main(args) == 1
    assert "data.init_args.sketch_cache" in capsys.readouterr().err.splitlines()[-1]
    boring = ("--data.class_path", "lightning.pytorch.demos.boring_classes.BoringDataModule")
    overlay = tmp_path / "boring.yaml"
    overlay.write_text("model: {encoders: x, language_model: x}\n")
    assert main(["sketch", "--config", str(overlay), *boring]) == 1
    assert "sketch" in capsys.readouterr().err.splitlines()[-1]


def test_two_training_processes_fill_a_share_each(place: Path, start: tuple[str, str], tmp_path: Path) -> None:
    cache = ("--data.init_args.sketch_cache", str(tmp_path / "cache"))
    more = ("--trainer.devices", "2", "--trainer.strategy", "ddp", "--trainer.max_steps", "2")
    args = arguments(place, "fit", "stage2", tmp_path / "run", *start, *cache, *more)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests" / "support")))}
    command = [sys.executable, "-m", "dynfocus", *args]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    parts = {int(part): int(total) for part, total in re.findall(r"part (\d) of 2: 100%\D*(?:\d+)/(\d+) ", done.stderr)}
    assert parts.keys() == {1, 2}, done.stderr
    assert sum(parts.values()) == entries(tmp_path / "cache")
    assert (tmp_path / "run" / "model" / "config.json").exists()
