"""A miniature of the embedded world for the real command line: its settings, and callbacks that stop or kill a run."""

import os
import signal
import time
from pathlib import Path

from lightning import Callback, LightningModule, Trainer

from dynfocus.cli import main
from dynfocus.records.atomic import write_text

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "lightning_configs"

SMALL = """
model:
  encoders: {place}/towers/encoders
  language_model: {place}/towers/language
  connector:
    events: 5
    keep: 0.6
    neighbours: 3
    spatial_prototypes: [6, 3]
    spatial_neighbours: [4, 2]
    samples: 20
  frame_rule:
    size: 24
data:
  init_args:
    root: {place}/data
    sketch_cache: {place}/sketches
    index: {place}/index
    videos: 8
    val: 2
    test: 2
    batch_size: 4
    check: false
trainer:
  enable_progress_bar: false
  callbacks:
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args:
        dirpath: ${{trainer.default_root_dir}}/checkpoints
        save_last: true
        save_top_k: 0
        every_n_train_steps: 2
    - class_path: callbacks.export.Export
      init_args:
        what: {what}
    - class_path: callbacks.predictions.Predictions
"""


def arguments(place: Path, verb: str, stage: str, run: Path, *more: str) -> list[str]:
    overlay = run.with_name(f"{run.name}.yaml")
    overlay.parent.mkdir(parents=True, exist_ok=True)
    what = "projectors" if stage == "stage1" else "model"
    write_text(overlay, SMALL.format(place=place, what=what))  # at once: another process may be reading it
    recipe = ("stage2", "posttune") if stage == "posttune" else (stage,)
    configs = [*(CONFIGS / f"{name}.yaml" for name in (*recipe, "world")), overlay]
    flags = [part for config in configs for part in ("--config", str(config))]
    return [verb, *flags, "--trainer.default_root_dir", str(run), *more]


def call(place: Path, verb: str, stage: str, run: Path, *more: str) -> int:
    return main(arguments(place, verb, stage, run, *more))


class StopOnce(Callback):
    """Press Ctrl-C after the fifth step, the first time."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        if trainer.global_step == 5 and not self.mark.exists():
            self.mark.touch()
            self.stop()

    def stop(self) -> None:
        signal.raise_signal(signal.SIGINT)


class WaitOnce(StopOnce):
    """Leave another process a minute to do so."""

    def stop(self) -> None:
        time.sleep(60)


class KillAt(Callback):
    """Kill -9 the last process before it learns from a step's rows or right after, at each of some steps once."""

    def __init__(self, marks: Path, steps: list[int]) -> None:
        self.marks, self.steps = Path(marks), steps

    def die(self, trainer: Trainer, when: str) -> None:
        mark = self.marks / f"{trainer.global_step}"
        if trainer.global_rank == trainer.world_size - 1 and trainer.global_step in self.steps and not mark.exists():
            mark.write_text(when)
            os.kill(os.getpid(), signal.SIGKILL)

    def on_before_zero_grad(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        if trainer.global_step % 2:
            self.die(trainer, "before")

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        self.die(trainer, "after")


class StandStill(Callback):
    """Stop a process, or let it wait for ever, before its fifth step."""

    def __init__(self, how: str, rank: int) -> None:
        self.how, self.rank = how, rank

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        if trainer.global_step == 4 and trainer.global_rank == self.rank:
            if self.how == "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            while self.how == "wait":
                time.sleep(1)


class SignalOnce(Callback):
    """Send one process a signal within the fifth step, the first time."""

    def __init__(self, mark: Path, number: int, rank: int = 0) -> None:
        self.mark, self.number, self.rank = Path(mark), number, rank

    def on_before_zero_grad(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        if trainer.global_step == 4 and trainer.global_rank == self.rank and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), self.number)
