"""Runs that are stopped, resumed, repeated with other settings, or refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_world import ROOT, arguments, call

from dynfocus.world.towers.quality import CONTENT


def test_an_interrupted_run_goes_on_and_ends_with_the_same_bits(
    place: Path, trained_runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = place / "runs" / "again"
    more = ("--model.init_from", str(trained_runs / "stage1" / "projectors.safetensors"), "--trainer.max_steps", "9")
    assert call(place, "fit", "stage2", place / "runs" / "whole", *more) == 0
    stop = ("--trainer.callbacks+=tiny_world.StopOnce", f"--trainer.callbacks.mark={place / 'stopped'}")
    assert call(place, "fit", "stage2", run, *more, *stop) == 130
    assert "goes on from here" in capsys.readouterr().err
    assert (run / "checkpoints" / "last.ckpt").exists()
    assert not (run / "model").exists()
    half = run / "checkpoints" / ".last.ckpt.123.abcd"  # as a kill while writing leaves it
    half.touch()
    assert call(place, "fit", "stage2", run, *more, *stop) == 0
    assert not half.exists()
    card = json.loads((run / "fit.json").read_text())
    assert card["steps"] == 9
    ends = [load_file(place / "runs" / name / "model" / "model.safetensors") for name in ("whole", "again")]
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_checkpoint_does_not_replace_the_settings(place: Path, trained_runs: Path) -> None:
    run = place / "runs" / "faster"
    shutil.copytree(trained_runs / "stage2" / "checkpoints", run / "checkpoints")
    last = run / "checkpoints" / "last.ckpt"
    rates = torch.load(last, weights_only=True)["hyper_parameters"]["lr"]
    more = ("--model.init_from", "null", "--ckpt_path", str(last), "--model.lr", "0.125", "--trainer.max_epochs", "2")
    assert call(place, "fit", "stage2", run, *more) == 0
    newest = max((run / "checkpoints").glob("*.ckpt"), key=lambda file: file.stat().st_mtime)
    assert torch.load(newest, weights_only=True)["hyper_parameters"]["lr"] == 0.125 != rates
    assert "lr: 0.125" in (run / "config.yaml").read_text()


def test_a_run_of_other_settings_moves_the_earlier_one_aside(place: Path, trained_runs: Path) -> None:
    run = place / "runs" / "moved"
    more = ("--model.init_from", "null", "--trainer.max_steps", "2")
    assert call(place, "fit", "stage2", run, *more) == 0
    assert call(place, "fit", "stage2", run, *more, "--model.lr", "1e-4") == 0
    assert (run.with_name("moved.1") / "fit.json").exists()
    assert (run.with_name("moved.1") / "config.yaml").read_text() != (run / "config.yaml").read_text()


def test_stage1_refuses_a_language_model_that_cannot_read(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(place, "fit", "stage1", tmp_path / "run", "--data.init_args.check", "true") == 1
    assert "towers.json" in capsys.readouterr().err
    record = place / "towers" / "towers.json"
    made = {"content": CONTENT, "quality": {"detail": 0.5}}
    record.write_text(json.dumps({"vision": made, "language": made}))
    assert call(place, "fit", "stage1", tmp_path / "run", "--data.init_args.check", "true") == 1
    assert "detail is 0.50" in capsys.readouterr().err
    record.write_text(json.dumps({"vision": {}, "language": made}))
    assert call(place, "fit", "stage1", tmp_path / "run", "--data.init_args.check", "true") == 1
    assert "that an earlier version of this project made" in capsys.readouterr().err
    record.unlink()


@pytest.mark.parametrize(
    ("more", "cause"),
    [
        (("--model.lrr", "1"), "lrr"),
        (("--model.lr", "fast"), "model.lr"),
        (("--model.init_from", "nowhere.safetensors"), "nowhere.safetensors"),
        (("--model.encoders", "nowhere"), "nowhere"),
        (("--model.connector.selector", "unifrm"), "unifrm"),
        (("--model.connector.keep", "2"), "keep"),
        (("--model.connector.selector", "{class_path: uniform, init_args: {a: 1}}"), "uniform(a=1)"),
        (("--model.connector.selector.init_args.a", "1"), "Write it as {class_path: "),
        (("--model.arms", "[blond]"), "Did you mean blind? Correct model.arms"),
        (("--model.arms", "[{class_path: uniform, init_args: {a: 1}}]"), "uniform(a=1)"),
        (("--data.init_args.sketch_cache", "/proc/none"), "/proc/none"),
        (("--config", "nowhere.yaml"), "nowhere.yaml"),
    ],
)
def test_bad_input_costs_one_sentence_and_nothing_else(
    place: Path, trained_runs: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], cause: str
) -> None:
    run = place / "runs" / "bad"
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.yaml").write_text("an earlier run")
    before = sorted(path.name for path in run.parent.iterdir())
    assert call(place, "fit", "stage2", run, *more) == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("dynfocus: ")
    assert cause in message
    assert "Needed: " in message
    assert sorted(path.name for path in run.parent.iterdir() if path.name != "bad.yaml") == [
        name for name in before if name != "bad.yaml"
    ]
    assert (run / "config.yaml").read_text() == "an earlier run"


def test_a_mistake_that_a_loaders_worker_finds_costs_one_sentence_too(
    place: Path, trained_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shutil.copytree(place / "data", tmp_path / "data")
    broken = data / "videos" / "test_000001.mp4"
    broken.write_bytes(b"no video")
    more = ("root", str(data)), ("sketch_cache", "null"), ("num_workers", "1")
    assert (
        call(place, "test", "stage2", trained_runs / "stage2", *(f"--data.init_args.{name}={v}" for name, v in more))
        == 1
    )
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith(f"dynfocus: {broken}")
    assert message.count("Needed: ") == 1


def test_ctrl_c_in_a_process_of_its_own(place: Path, trained_runs: Path, tmp_path: Path) -> None:
    """A real process, a real signal; the next call goes on from the last checkpoint."""
    run, mark = tmp_path / "stage2", tmp_path / "waiting"
    projectors = str(trained_runs / "stage1" / "projectors.safetensors")
    wait = ("--trainer.callbacks+=tiny_world.WaitOnce", f"--trainer.callbacks.mark={mark}")
    args = arguments(place, "fit", "stage2", run, "--model.init_from", projectors, *wait)
    command = [sys.executable, "-m", "dynfocus", *args]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests" / "support")))}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 120
    while not mark.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "going on with the unfinished run" in again.stderr + again.stdout
    assert (run / "model" / "config.json").exists()


def test_a_disk_without_room_costs_one_sentence_and_leaves_nothing(
    place: Path, trained_runs: Path, tmp_path: Path
) -> None:
    """A real limit of the system on the size of files, which a checkpoint exceeds and the log does not."""
    run = tmp_path / "stage2"
    args = arguments(
        place, "fit", "stage2", run, "--model.init_from", str(trained_runs / "stage1" / "projectors.safetensors")
    )
    limit = "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); "
    start = limit + "runpy.run_module('dynfocus', run_name='__main__', alter_sys=True)"
    command = [sys.executable, "-c", start, *args]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "last.ckpt, which could not be written" in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not run.exists()
