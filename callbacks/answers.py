"""What the model says beside what it should have said, as text, and a run's settings beside its scores."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard.summary import hparams

from callbacks.observer import gathered
from dynfocus.errors import ConfigError
from dynfocus.evals.score import summary
from dynfocus.records.predictions import Prediction

MARKUP = re.compile(r"[\\`*_\[\]<>|&~!]")  # what Markdown, its tables or HTML would take for more than a letter
LONGEST = 200  # letters of a text in the table
SCORES = ("balanced", "detail", "temporal", "hit_rate")
FINAL = ("train/loss", *(f"{phase}/{score}" for phase in ("val", "test") for score in SCORES))
TOLD = ("batch_size", "global_batch", "seed", "weights")  # of the data module, beside all of the model's settings
LEFT_OUT = ("activation_checkpointing", "arms", "attention")  # how it runs; TensorBoard shows the first names alone


class Answers(Callback):
    """Show a sample of answers at every validation and test, and a run's settings beside its last scores.

    TensorBoard's TEXT tab gets the table ``answers/PHASE/samples``; its HPARAMS tab gets the settings and
    ``final/PHASE/SCORE``, which any other logger gets too.

    Args:
        rows: how many answers, of those that the first process reads.

    Raises:
        ConfigError: if no answer is asked for.
    """

    def __init__(self, rows: int = 8) -> None:
        if rows < 1:
            raise ConfigError(f"rows = {rows}", "at least 1", "Raise it, or leave callbacks.answers.Answers out.")
        self.rows = rows
        self.met: list[Prediction] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.announce(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.met = []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self.met += outputs

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.show(trainer, "val")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.conclude(trainer, {key: float(value) for key, value in trainer.callback_metrics.items() if key in FINAL})

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.announce(trainer, pl_module)
        self.met = []

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self.met += [one for one in outputs if one.arm == outputs[0].arm]

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if every := [one for part in gathered(trainer, self.met) for one in part]:
            told = summary(every)
            scores = told["accuracy_by_kind"] | {name: told[name] for name in ("balanced", "hit_rate")}
            self.conclude(trainer, {f"test/{name}": scores[name] for name in SCORES if scores.get(name) is not None})
        self.show(trainer, "test")

    def show(self, trainer: Trainer, phase: str) -> None:
        """Write the sample down."""
        if not self.met or not trainer.is_global_zero:
            return
        # The same rows every time, of many videos: those of one often stand side by side.
        chosen = sorted(np.random.default_rng(0).permutation(len(self.met))[: self.rows].tolist())
        told = table([self.met[place] for place in chosen])
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text(f"answers/{phase}/samples", told, trainer.global_step)

    def announce(self, trainer: Trainer, module: LightningModule) -> None:
        """Tell TensorBoard the settings, and under which names scores will come: it reads what comes first alone."""
        if not trainer.is_global_zero:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        given = {key: value for key, value in module.hparams.items() if key not in LEFT_OUT}
        told = flat(given | {"data": {key: getattr(data, key, None) for key in TOLD}})
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                for part in hparams(told, {f"final/{name}": 0.0 for name in FINAL}):
                    logger.experiment._get_file_writer().add_summary(part)

    def conclude(self, trainer: Trainer, scores: Mapping[str, float]) -> None:
        """Write down the last scores."""
        if not trainer.is_global_zero or trainer.interrupted:
            return
        for logger in trainer.loggers:
            logger.log_metrics({f"final/{name}": value for name, value in scores.items()}, trainer.global_step)


def table(predictions: list[Prediction]) -> str:
    """Predictions as a table in Markdown."""
    lines = ["| question | answer | truth | kept frames | video |", "|---|---|---|---|---|"]
    for one in predictions:
        # No column of its own: TensorBoard breaks words in narrow ones.
        answer = f"{'right' if one.correct else '**wrong**'}: {escaped(one.answer)}"
        kept = ", ".join(map(str, one.kept)) or "none"
        lines.append(f"| {escaped(one.question)} | {answer} | {escaped(one.truth)} | {kept} | {escaped(one.video)} |")
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Text in one line that Markdown shows letter by letter, cut where it is long."""
    line = " ".join(text.split())
    line = line if len(line) <= LONGEST else line[: LONGEST - 3] + "..."
    return MARKUP.sub(lambda found: f"&#{ord(found[0])};", line) or "(nothing)"


def flat(settings: Mapping[str, Any], before: str = "") -> dict[str, int | float | str]:
    """Those settings that are set, by their paths, such as ``connector/events``; what is no number is text."""
    told: dict[str, int | float | str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            told |= flat(value, f"{before}{key}/")
        elif value is not None:
            number = isinstance(value, int | float) and not isinstance(value, bool)  # TensorBoard would show 1.0
            told[before + key] = value if number else str(value)
    return told
