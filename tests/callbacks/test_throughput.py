"""The pace of a run, by a clock that is turned by hand, and the norms of its gradients."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import training_ranks
from lightning import Callback
from tensorboard_events import Logging, make_recorder, read_csv_log
from training_ranks import NOISY, StepData, TrainingResult, learn, several

from callbacks import throughput
from callbacks.throughput import Throughput
from dynfocus.models.collate import Example

PARTS = ("score_net", "cones", "rods", "language_model")


def rows(counts: Sequence[int], start: int) -> list[Example]:
    return [tiny.example(start + n, c or 1, NOISY, media="v.mp4" if c else None) for n, c in enumerate(counts)]


STEPS = [rows(counts, 4 * n) for n, counts in enumerate(([9, 3, 0, 7], [6, 0, 8, 12], [4, 4, 2, 9]))]


class Clock:
    """Shows what it was turned to."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


class ClockTurner(Callback):
    """A step takes 1 second, and what is not training takes long."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def setup(self, trainer: Any, *_: Any, **__: Any) -> None:
        trainer.val_check_interval = 3

    def turn(self, seconds: float) -> None:
        self.clock.now += seconds

    def on_before_optimizer_step(self, *_: Any) -> None:
        self.turn(1)

    def on_validation_end(self, *_: Any) -> None:
        self.turn(1000)

    def on_save_checkpoint(self, *_: Any) -> None:
        self.turn(1000)

    def on_train_epoch_end(self, *_: Any) -> None:
        self.turn(1000)


class Saver(Callback):
    """Writes a checkpoint after the second step, as a ModelCheckpoint does: when other callbacks are through."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 2:
            trainer.save_checkpoint(self.path)


class Slow(StepData):
    """Every batch is waited for 3 seconds."""

    def __init__(self, clock: Clock, *options: Any) -> None:
        super().__init__(*options)
        self.clock = clock

    def train_dataloader(self) -> Any:
        loader = super().train_dataloader()
        loader.collate_fn = self.wait
        return loader

    def wait(self, batch: Any) -> Any:
        self.clock.now += 3
        return batch


def test_waiting_is_told_from_working(towers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, recorder = Clock(), make_recorder(Throughput)
    monkeypatch.setattr(throughput, "time", clock)
    monkeypatch.setattr(training_ranks, "StepData", partial(Slow, clock))
    steps = [*STEPS, *(rows([5, 6, 7], 40 + 3 * n) for n in range(2))]
    callbacks = [recorder, ClockTurner(clock), Saver(tmp_path / "one.ckpt"), Logging(every=5)]
    val_rows = [tiny.example(60, 5, NOISY, segments=((0,),))]
    learn(towers, "one", steps, val_rows=val_rows, callbacks=callbacks)
    values = next(numbers for phase, _, numbers in recorder.reports if phase == "train")
    # Of five batches the first is left out; the second was followed by a checkpoint, the third by a validation.
    assert values["pace/loader_wait_share"] == pytest.approx(6 / 10)
    assert values["pace/videos_per_second"] == pytest.approx((3 + 4 + 3 + 3) / 10)
    measured = [
        tiny.processor(NOISY, answers=True).measure(one.row, one.length).total for step in steps[1:] for one in step
    ]
    assert values["pace/tokens_per_second"] == pytest.approx(sum(measured) / 10)
    assert 0.05 < values["pace/memory_gib"] < 100


def learn_with_throughput(
    towers: Path, folder: Path, name: str, options: dict[str, Any], rank: int = 0
) -> TrainingResult:
    return learn(towers, name, STEPS, callbacks=[Throughput(), Logging(folder=folder)], **options)


@pytest.mark.parametrize("name", ["one", "ddp", "sharded"])
@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"clip": 0.01}], ids=["plain", "accumulated", "clipped"])
def test_norms_are_those_of_the_mean_loss_before_clipping(
    towers: Path, tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    work = partial(learn_with_throughput, towers, tmp_path, name, options)
    learned = work() if name == "one" else several(work)[0]
    log = read_csv_log(tmp_path)
    assert {tag.rpartition("/")[2] for tag in log if "gradient_norm" in tag} == set(PARTS)
    whole = torch.tensor([log[f"pace/gradient_norm/{part}"] for part in PARTS]).norm(dim=0)
    if "clip" in options:  # what is left of them is as long as the limit
        assert learned.norms == pytest.approx([0.01] * 3, rel=1e-3)
        plain = learn_with_throughput(towers, tmp_path / "plain", "one", {})
        assert whole[0].item() == pytest.approx(plain.norms[0], rel=1e-4)
    else:
        assert whole.tolist() == pytest.approx(learned.norms, rel=1e-4)


def test_rates_are_those_of_the_schedule(towers: Path, tmp_path: Path) -> None:
    learn(towers, "one", STEPS, lr=0.1, language_lr=0.2, callbacks=[Throughput(), Logging(folder=tmp_path)])
    log = read_csv_log(tmp_path)
    assert log["pace/lr/connector"] == pytest.approx([0.1, 0.075, 0.025])
    assert log["pace/lr/language_model"] == pytest.approx([0.2, 0.15, 0.05])
    assert "pace/gradient_norm/instruction" not in log
