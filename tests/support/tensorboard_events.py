"""What observers say of a run: as they tell it in every process, and as it stands in a logger's files."""

import csv
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks.observer import Observer

Told = list[tuple[str, int, dict[str, float]]]  # phase, optimizer steps taken, numbers
NAMES = ("health.SelectorHealth", "tokens.TokenCounts", "throughput.Throughput", "probes.Probes", "answers.Answers")
ALL = tuple(part for name in NAMES for part in ("--trainer.callbacks+", f"callbacks.{name}"))


def noting(kind: type[Observer]) -> Any:
    """An observer of this kind that keeps all that it tells, as ``told``."""

    class Noting(kind):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.told: Told = []

        def compute(self, phase: str, trainer: Trainer) -> dict[str, float]:
            values = super().compute(phase, trainer)
            self.told.append((phase, trainer.global_step, dict(values)))
            return values

    return Noting()


class Logging(Callback):
    """Gives a run that has no logger one, and says how often it logs."""

    def __init__(self, every: int = 1, folder: Path | None = None) -> None:
        self.every, self.folder = every, folder

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        trainer.log_every_n_steps = self.every  # type: ignore[attr-defined]
        if self.folder is not None:
            trainer.loggers = [CSVLogger(self.folder, name="", version="")]


def written(folder: Path) -> dict[str, list[float]]:
    """The numbers in a CSVLogger's file, by their tags."""
    result: dict[str, list[float]] = {}
    with open(folder / "metrics.csv", newline="") as file:
        for row in csv.DictReader(file):
            for tag, value in row.items():
                if value and tag != "step":
                    result.setdefault(tag, []).append(float(value))
    return result


def events(run: Path) -> EventAccumulator:
    """All that a run has told TensorBoard."""
    return EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "images": 0}).Reload()


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    """The scalars of a run, by their tags, with their steps."""
    report = events(run)
    return {tag: [(one.step, one.value) for one in report.Scalars(tag)] for tag in report.Tags()["scalars"]}
