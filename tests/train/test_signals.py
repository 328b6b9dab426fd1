"""Real processes that end by SIGTERM, SIGHUP or SIGUSR1, with a checkpoint and a sentence, and go on."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from spawn_ranks import together
from tensorboard_events import scalars
from tiny_world import ROOT, arguments

from dynfocus.cli import main

DDP = ("--trainer.devices", "2", "--data.init_args.batch_size", "2", "--trainer.strategy", "ddp")


def fit(place: Path, trained_runs: Path, run: Path, code: int, *more: str, processes: int = 1) -> None:
    """Train 8 steps, a checkpoint every two, in real processes that have to end with this exit code."""
    start = ("--model.init_from", str(trained_runs / "stage1" / "projectors.safetensors"), "--trainer.max_steps", "8")
    args = arguments(place, "fit", "stage2", run, *start, *more)

    def work(rank: int) -> None:
        sys.argv = ["dynfocus", *args]
        assert main() == code

    together(work, processes)


def signals(run: Path, number: int, rank: int = 0) -> tuple[str, ...]:
    callback = ("--trainer.callbacks+=tiny_world.SignalOnce", f"--trainer.callbacks.mark={run}.mark")
    return (*callback, f"--trainer.callbacks.number={number}", f"--trainer.callbacks.rank={rank}")


def steps(run: Path) -> int:
    """The optimizer steps of the run's last checkpoint."""
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]


def stand_in_for_scontrol(folder: Path) -> Path:
    """A command of SLURM's that writes down what it is asked for."""
    folder.mkdir()
    command = folder / "scontrol"
    command.write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return folder


@pytest.mark.parametrize(
    "number",
    [signal.SIGUSR1, *(pytest.param(one, marks=pytest.mark.slow) for one in (signal.SIGHUP, signal.SIGTERM))],
    ids=lambda number: number.name,
)
def test_a_signal_in_training_loses_no_step(
    place: Path, trained_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """It comes within the fifth step; the periodic checkpoint is that of the fourth."""
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("PATH", f"{stand_in_for_scontrol(tmp_path / 'bin')}{os.pathsep}{os.environ['PATH']}")
    fit(place, trained_runs, tmp_path / "whole", 0)
    more = signals(tmp_path / "ended", number)
    fit(place, trained_runs, tmp_path / "ended", 128 + number, *more)
    assert steps(tmp_path / "ended") == 5
    asked = tmp_path / "bin" / "asked"
    assert (asked.read_text() if asked.exists() else "") == ("requeue 4711\n" if number == signal.SIGUSR1 else "")
    fit(place, trained_runs, tmp_path / "ended", 0, *more)
    assert sorted(path.name for path in (tmp_path / "ended" / "checkpoints").glob("last*")) == ["last.ckpt"]
    whole, ended = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("whole", "ended"))
    assert all(torch.equal(tensor, ended[name]) for name, tensor in whole.items())


@pytest.mark.slow
def test_a_signal_to_one_of_two_processes_stops_both(place: Path, trained_runs: Path, tmp_path: Path) -> None:
    more = (*DDP, *signals(tmp_path / "ended", signal.SIGHUP, rank=1))
    fit(place, trained_runs, tmp_path / "ended", 128 + signal.SIGHUP, *more, processes=2)
    assert steps(tmp_path / "ended") == 5
    fit(place, trained_runs, tmp_path / "ended", 0, *more, processes=2)
    assert (tmp_path / "ended" / "model").is_dir()


def test_a_signal_while_sketches_are_computed_ends_with_a_sentence(
    place: Path, trained_runs: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    start = ("--model.init_from", str(trained_runs / "stage1" / "projectors.safetensors"))
    args = arguments(place, "fit", "stage2", tmp_path / "run", *start, "--data.init_args.sketch_cache", str(cache))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "dynfocus", *args]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not any(cache.rglob("*.safetensors")):
        time.sleep(0.005)
    process.terminate()
    _, said = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, said
    assert "dynfocus: stopped by SIGTERM; called again, long work goes on from here" in said.splitlines()


def test_a_signal_while_two_processes_decode_ends_with_one_sentence(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes while the main process takes a clip over from one of them, who then finds nobody there."""
    connect, calls = socket.socket.connect, []
    sketch = arguments(
        place, "sketch", "stage1", tmp_path / "run", "--data.init_args.sketch_cache", str(tmp_path / "c")
    )
    said = tmp_path / "said.txt"

    def work(rank: int) -> None:
        own = os.getpid()

        def connect_and_stop(*args: Any) -> None:
            connect(*args)
            calls.append(args)
            if len(calls) == 3 and os.getpid() == own:
                time.sleep(0.2)  # until the other one asks who this is
                signal.raise_signal(signal.SIGTERM)

        monkeypatch.setattr(socket.socket, "connect", connect_and_stop)
        with open(said, "w", buffering=1) as file, redirect_stderr(file):
            sys.argv = ["dynfocus", *sketch]
            assert main() == 128 + signal.SIGTERM

    together(work, 1)
    time.sleep(2)  # for what the others have to say
    lines = said.read_text().replace("\r", "\n").splitlines()
    assert not any("Traceback" in line or "Error" in line for line in lines), lines
    assert sum(line.startswith("dynfocus: stopped by SIGTERM") for line in lines) == 1


def test_tensorboards_steps_rise_after_a_kill(place: Path, trained_runs: Path, tmp_path: Path) -> None:
    """Killed as the sixth step ends, after a checkpoint of the fourth: the fifth is logged twice."""
    log = ("--trainer.log_every_n_steps", "1", "--trainer.callbacks+=callbacks.health.SelectorHealth")
    log += ("--trainer.limit_val_batches", "0")  # with which Lightning logs the number of the epoch twice a step
    marks = tmp_path / "marks"
    marks.mkdir()
    deadly = ("--trainer.callbacks+=tiny_world.KillAt", f"--trainer.callbacks.marks={marks}")
    with pytest.raises(AssertionError):
        fit(place, trained_runs, tmp_path / "run", 0, *log, *deadly, "--trainer.callbacks.steps=[6]")
    before = scalars(tmp_path / "run")
    assert [step for step, _ in before["train/loss"]] == [0, 1, 2, 3, 4]
    fit(place, trained_runs, tmp_path / "run", 0, *log, *deadly, "--trainer.callbacks.steps=[6]")
    told = {tag: [step for step, _ in values] for tag, values in scalars(tmp_path / "run").items()}
    assert {tag for tag, steps in told.items() if steps != sorted(set(steps))} == set()
    assert set(told["train/loss"]) >= {0, 1, 2, 4, 5, 6, 7}  # Lightning logs a step after its checkpoint
