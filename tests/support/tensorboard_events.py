"""What observers say of a run: as they tell it in every process, and as it stands in a logger's files."""

import csv
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks.observer import Observer

Reports = list[tuple[str, int, dict[str, float]]]  # phase, optimizer steps taken, numbers
NAMES = ("health.SelectorHealth", "tokens.TokenCounts", "throughput.Throughput", "probes.Probes", "answers.Answers")
ALL = tuple(part for name in NAMES for part in ("--trainer.callbacks+", f"callbacks.{name}"))


def make_recorder(kind: type[Observer]) -> Any:
    """An observer of this kind that keeps all that it tells, as ``told``."""

    class Recorder(kind):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.reports: Reports = []

        def compute(self, phase: str, trainer: Trainer) -> dict[str, float]:
            values = super().compute(phase, trainer)
            self.reports.append((phase, trainer.global_step, dict(values)))
            return values

    return Recorder()


class Logging(Callback):
    """Gives a run that has no logger one, and says how often it logs."""

    def __init__(self, every: int = 1, folder: Path | None = None) -> None:
        self.every, self.folder = every, folder

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        trainer.log_every_n_steps = self.every  # type: ignore[attr-defined]
        if self.folder is not None:
            trainer.loggers = [CSVLogger(self.folder, name="", version="")]


def read_csv_log(folder: Path) -> dict[str, list[float]]:
    """The numbers in a CSVLogger's file, by their tags."""
    numbers: dict[str, list[float]] = {}
    with open(folder / "metrics.csv", newline="") as file:
        for row in csv.DictReader(file):
            for tag, value in row.items():
                if value and tag != "step":
                    numbers.setdefault(tag, []).append(float(value))
    return numbers


def events(run: Path) -> EventAccumulator:
    """All that a run has told TensorBoard."""
    return EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "images": 0}).Reload()


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    """The scalars of a run, by their tags, with their steps."""
    accumulator = events(run)
    return {tag: [(one.step, one.value) for one in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]}
