"""Two processes as people start them: torchrun, and Lightning's own launcher."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tiny_world import CONFIGS, ROOT, arguments, call
from training_ranks import alike

SHARDED = ("--config", str(CONFIGS / "fsdp.yaml"), "--trainer.precision", "32-true")


@pytest.mark.slow  # every process imports all anew
@pytest.mark.parametrize(
    ("launch", "strategy"),
    [
        (("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"), SHARDED),
        ((), ("--trainer.strategy", "ddp")),
        ((), SHARDED),
    ],
    ids=["torchrun", "ddp", "sharded"],
)
def test_a_launched_run_learns_what_one_process_learns(
    place: Path, trained_runs: Path, tmp_path: Path, launch: tuple[str, ...], strategy: tuple[str, ...]
) -> None:
    start = ("--model.init_from", str(trained_runs / "stage1" / "projectors.safetensors"), "--trainer.max_steps", "4")
    assert call(place, "fit", "stage2", tmp_path / "one", *start) == 0
    two = ("--trainer.devices", "2", "--data.init_args.batch_size", "2", *strategy)
    command = [
        sys.executable,
        *launch,
        "-m",
        "dynfocus",
        *arguments(place, "fit", "stage2", tmp_path / "two", *start, *two),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    weights, expected = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("two", "one"))
    alike(weights, expected)
