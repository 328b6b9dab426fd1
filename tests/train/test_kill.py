"""Runs of stage 2 that are killed, several times each; the same command goes on and ends with the same weights."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from spawn_ranks import together
from tiny_world import CONFIGS, ROOT, arguments, call
from training_ranks import alike

STEPS = 14  # an epoch has 12, with validation after 6 and 12 and a checkpoint after every second
DROPPING = ("--model.lora.rank", "4", "--model.lora.alpha", "8", "--model.lora.dropout", "0.5")
TWO = ("--trainer.devices", "2", "--data.init_args.batch_size", "2")
DDP = (*TWO, "--trainer.strategy", "ddp")
SHARDED = (*TWO, "--config", str(CONFIGS / "fsdp.yaml"), "--trainer.precision", "32-true")


def weights(run: Path) -> dict[str, torch.Tensor]:
    """All that the run has exported."""
    files = sorted((run / "model").rglob("*.safetensors"))
    return {f"{file.name}: {name}": tensor for file in files for name, tensor in load_file(file).items()}


def fit_until_it_ends(
    place: Path, trained_runs: Path, run: Path, processes: int, *more: str, kill: tuple[int, ...] = ()
) -> int:
    """Give the same command until it ends; says how often it was killed."""
    marks = run.with_name(f"{run.name}.marks")
    marks.mkdir()
    deadly = ("--trainer.callbacks+=tiny_world.KillAt", f"--trainer.callbacks.marks={marks}")
    deadly += (f"--trainer.callbacks.steps={list(kill)}",)
    start = ("--model.init_from", str(trained_runs / "stage1" / "projectors.safetensors"))
    options = (*start, "--trainer.max_steps", str(STEPS), "--trainer.max_epochs", "2", *more, *deadly)

    def work(rank: int) -> None:
        assert call(place, "fit", "stage2", run, *options) == 0

    for attempt in range(len(kill) + 1):
        try:
            together(work, processes)
        except AssertionError:
            if len(list(marks.iterdir())) <= attempt:
                raise
        else:
            return attempt
    raise AssertionError("killed more often than asked for")


def at_random(seed: int, times: int) -> tuple[int, ...]:
    """Steps, and those right after a checkpoint that a validation or a new epoch follows."""
    return tuple(sorted({7, 13, *random.Random(seed).sample(range(1, STEPS), times)}))


@pytest.mark.parametrize(
    "more",
    [
        pytest.param((), marks=pytest.mark.slow, id="plain"),
        pytest.param((*DROPPING, "--data.init_args.num_workers", "1"), id="dropout and workers"),
    ],
)
def test_one_process_ends_with_the_same_bits(
    place: Path, trained_runs: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    """With dropout, which draws from a generator; with workers, which fetch rows ahead."""
    assert fit_until_it_ends(place, trained_runs, tmp_path / "whole", 1, *more) == 0
    kill = at_random(0, 1)
    assert fit_until_it_ends(place, trained_runs, tmp_path / "killed", 1, *more, kill=kill) == len(kill)
    whole, killed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert whole.keys() == killed.keys()
    assert all(torch.equal(tensor, killed[name]) for name, tensor in whole.items())


@pytest.mark.parametrize(
    "strategy", [pytest.param(DDP, marks=pytest.mark.slow, id="ddp"), pytest.param(SHARDED, id="sharded")]
)
def test_two_processes_end_with_the_weights_of_one(
    place: Path, trained_runs: Path, tmp_path: Path, strategy: tuple[str, ...]
) -> None:
    assert fit_until_it_ends(place, trained_runs, tmp_path / "one", 1) == 0
    assert fit_until_it_ends(place, trained_runs, tmp_path / "two", 2, *strategy, kill=(5,)) == 1
    alike(weights(tmp_path / "two"), weights(tmp_path / "one"))


@pytest.mark.slow
def test_a_real_process_killed_at_any_time(place: Path, trained_runs: Path, tmp_path: Path) -> None:
    """Also between steps, while a checkpoint is written, and before the first one."""
    start = ("--model.init_from", str(trained_runs / "stage1" / "projectors.safetensors"))
    start += ("--trainer.max_epochs", "20", "--trainer.max_steps", "80")
    commands = {
        name: [sys.executable, "-m", "dynfocus", *arguments(place, "fit", "stage2", tmp_path / name, *start, *DROPPING)]
        for name in ("whole", "killed")
    }
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    assert subprocess.run(commands["whole"], env=environment, check=False).returncode == 0
    checkpoint, draw = tmp_path / "killed" / "checkpoints" / "last.ckpt", random.Random(0)
    for _ in range(4):
        process = subprocess.Popen(commands["killed"], env=environment)
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        while process.poll() is None and (checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0) == before:
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "killed" / "model").exists()
    assert subprocess.run(commands["killed"], env=environment, check=False).returncode == 0
    whole, killed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(tensor, killed[name]) for name, tensor in whole.items())
