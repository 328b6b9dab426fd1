"""All observers through the real command line: what they leave, and that a run with them is the run without."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard_events import ALL, events, read_csv_log, scalars
from tiny_world import CONFIGS, call
from training_ranks import several

from callbacks.probes import read_looks
from dynfocus.settings import read_config

SHARDED = ("--config", str(CONFIGS / "fsdp.yaml"), "--trainer.precision", "32-true")
STEPS = ("--trainer.max_steps", "6", "--trainer.log_every_n_steps", "1", "--trainer.val_check_interval", "4")
NOT_LEARNED = ("callbacks", "events")  # of a checkpoint: the seconds a run has taken, and the sizes of its logs


def resumable_parts(run: Path) -> dict[str, Any]:
    """All of a run's last checkpoint that says how it goes on."""
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return {name: part for name, part in checkpoint.items() if name not in NOT_LEARNED}


def same(one: Any, other: Any, where: str = "") -> None:
    """To the bit."""
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for name, part in one.items():
            same(part, other[name], f"{where}/{name}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for n, part in enumerate(one):
            same(part, other[n], f"{where}/{n}")
    else:
        assert one == other, where


def fits(place: Path, processes: int, run: Path, *more: str) -> int:
    """A fit of stage 2, in so many processes."""

    def fit(rank: int) -> int:
        return call(place, "fit", "stage2", run, *STEPS, *more)

    return fit(0) if processes == 1 else max(several(fit, processes, 200))


@pytest.mark.parametrize(
    ("processes", "more"),
    [
        (1, ("--trainer.accumulate_grad_batches", "2")),
        (1, ("--trainer.precision", "bf16-mixed", "--trainer.enable_model_summary", "false")),
        (2, ("--trainer.devices", "2", "--data.init_args.batch_size", "2", "--trainer.strategy", "ddp")),
        (2, ("--trainer.devices", "2", "--data.init_args.batch_size", "2", *SHARDED)),
    ],
    ids=["accumulated", "half precision", "ddp", "sharded"],
)
def test_a_run_that_is_watched_is_the_run_that_is_not(
    place: Path, trained_runs: Path, tmp_path: Path, processes: int, more: tuple[str, ...]
) -> None:
    start = ("--model.init_from", str(trained_runs / "stage1" / "projectors.safetensors"), *more)
    assert fits(place, processes, tmp_path / "plain", *start) == 0
    assert fits(place, processes, tmp_path / "watched", *start, *ALL) == 0
    same(resumable_parts(tmp_path / "plain"), resumable_parts(tmp_path / "watched"))
    plain, watched = (scalars(tmp_path / run) for run in ("plain", "watched"))
    assert plain.keys() < watched.keys()
    assert len(plain["train/loss"]) == 6
    for tag, values in plain.items():
        assert watched[tag] == values
    assert {tag.split("/")[0] for tag in watched.keys() - plain.keys()} >= {"dpe", "tokens", "pace"}
    assert min(look.step for look in read_looks(tmp_path / "watched" / "selections.jsonl")) < 6  # and learned after it


def test_so_is_one_that_was_stopped_and_went_on(place: Path, trained_runs: Path, tmp_path: Path) -> None:
    start = ("--model.init_from", str(trained_runs / "stage1" / "projectors.safetensors"), "--trainer.max_steps", "9")
    stop = ("--trainer.callbacks+=tiny_world.StopOnce", f"--trainer.callbacks.mark={tmp_path / 'stopped'}")
    assert fits(place, 1, tmp_path / "plain", *start) == 0
    assert fits(place, 1, tmp_path / "watched", *start, *ALL, *stop) == 130
    assert fits(place, 1, tmp_path / "watched", *start, *ALL, *stop) == 0
    same(resumable_parts(tmp_path / "plain"), resumable_parts(tmp_path / "watched"))
    assert [step for step, _ in scalars(tmp_path / "watched")["pace/memory_gib"]][-1] == 8


DPE = {"entropy", "score_spread", "most_kept", "hit_rate", "distance"}
TOKENS = {"cones", "rods", "visual", "text", "total", "share_of_256_per_frame"}
TAGS = {
    *(f"dpe/{phase}/{name}" for phase in ("train", "val", "test") for name in DPE),
    *(f"dpe/train/{name}" for name in ("soft_hard_gap", "never_kept", "gradient_snr")),
    *(f"tokens/{phase}/{name}" for phase in ("train", "val", "test") for name in TOKENS),
    *(f"pace/{name}" for name in ("videos_per_second", "tokens_per_second", "loader_wait_share", "memory_gib")),
    *(f"pace/gradient_norm/{name}" for name in ("score_net", "cones", "rods", "language_model")),
    *(f"pace/lr/{name}" for name in ("connector", "language_model")),
}


def test_every_tag_is_read_back(place: Path, trained_runs: Path, tmp_path: Path) -> None:
    start = ("--model.init_from", str(trained_runs / "stage1" / "projectors.safetensors"))
    assert call(place, "fit", "stage2", tmp_path / "run", *start, "--trainer.log_every_n_steps", "4", *ALL) == 0
    assert call(place, "test", "stage2", tmp_path / "run", *ALL) == 0
    numbers = scalars(tmp_path / "run")
    assert {tag for tag in numbers if tag.split("/")[0] in ("dpe", "tokens", "pace")} - {"dpe/val/churn"} == TAGS
    loss = [step for step, _ in numbers["train/loss"]]
    assert len(loss) > 1
    for tag in TAGS:
        if tag.startswith("pace") or "/train/" in tag:
            assert [step for step, _ in numbers[tag]] == loss
    assert numbers["tokens/val/visual"] == numbers["val/visual_tokens"]
    for (_, mine), (_, metric) in zip(numbers["dpe/val/hit_rate"], numbers["val/hit_rate"], strict=True):
        assert mine == pytest.approx(metric, abs=1e-6)
    assert events(tmp_path / "run").Tags()["images"]


def csv_logger(run: Path) -> tuple[str, ...]:
    arguments = {"save_dir": run, "name": "logs", "version": "csv"}
    logger = ("--trainer.logger", "lightning.pytorch.loggers.CSVLogger")
    return (*logger, *(part for key, value in arguments.items() for part in (f"--trainer.logger.{key}", str(value))))


@pytest.mark.parametrize("logger", [lambda run: ("--trainer.logger", "false"), csv_logger], ids=["none", "csv"])
def test_without_tensorboard_numbers_alone_are_logged(
    place: Path, trained_runs: Path, tmp_path: Path, logger: Callable[[Path], tuple[str, ...]]
) -> None:
    run = tmp_path / "run"
    start = ("--model.init_from", str(trained_runs / "stage1" / "projectors.safetensors"), *logger(run))
    assert fits(place, 1, run, *start, *ALL) == 0
    assert not list(run.rglob("*tfevents*"))
    if "false" not in start:
        numbers = read_csv_log(run / "logs" / "csv")
        assert {tag for tag in TAGS if "/test" not in tag} <= set(numbers)


def test_the_recipes_name_all_observers() -> None:
    for stage in ("stage1", "stage2"):
        callbacks = str(read_config(CONFIGS / f"{stage}.yaml").trainer.callbacks)
        assert all(name in callbacks for name in ALL[1::2])
