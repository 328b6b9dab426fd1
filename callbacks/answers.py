"""Log sample answers beside the true ones as text, and a run's settings beside its scores."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard.summary import hparams

from callbacks.observer import gather_objects, say_what_is_not_logged
from dynfocus.errors import ConfigError
from dynfocus.evals.protocol import Judged
from dynfocus.evals.summary import summarize
from dynfocus.records.predictions import Prediction

MARKUP = re.compile(r"[\\`*_\[\]<>|&~!]")  # what Markdown, its tables or HTML would take for more than a letter
MAX_LETTERS = 200  # of a text in the table
SCORES = ("balanced", "detail", "temporal", "hit_rate")
FINAL = ("train/loss", *(f"{phase}/{score}" for phase in ("val", "test") for score in SCORES))
DATA_SETTINGS = (
    "batch_size",
    "global_batch",
    "seed",
    "weights",
)  # of the data module, beside all of the model's settings
HIDDEN_SETTINGS = (
    "activation_checkpointing",
    "arms",
    "attention",
)  # how it runs; TensorBoard shows the first names alone
LAYOUT = {  # of TensorBoard's tab CUSTOM SCALARS: what to look at first; names are patterns of tags
    "learning": {
        "loss": ["Multiline", ["^train/loss$"]],
        "hit rate": ["Multiline", ["^dpe/train/hit_rate$", "^dpe/val/hit_rate$"]],
        "tokens": ["Multiline", ["^tokens/train/visual$", "^tokens/train/total$"]],
        "right answers": ["Multiline", [f"^val/{score}$" for score in SCORES[:3]]],
    }
}


class Answers(Callback):
    """Show a sample of answers at every validation and test, and a run's settings beside its last scores.

    TensorBoard's CUSTOM SCALARS tab gets a layout of what to look at first, its TEXT tab the table
    ``answers/PHASE/samples``, its HPARAMS tab the settings and ``final/PHASE/SCORE``, which any other logger gets too.

    Args:
        rows: how many answers, of those that the first process reads.

    Raises:
        ConfigError: if no answer is asked for.
    """

    def __init__(self, rows: int = 8) -> None:
        if rows < 1:
            raise ConfigError(f"rows = {rows}", "at least 1", "Raise it, or leave callbacks.answers.Answers out.")
        self.rows = rows
        self.predictions: list[Prediction] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        say_what_is_not_logged(trainer, "sample answers and settings", "predictions.jsonl holds the test's answers")
        self.log_settings(trainer, pl_module)
        for logger in trainer.loggers if trainer.is_global_zero else ():
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_custom_scalars(LAYOUT)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.predictions = []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self.predictions += outputs

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.log_sample(trainer, "val")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.log_final_scores(
            trainer, {key: float(value) for key, value in trainer.callback_metrics.items() if key in FINAL}
        )

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.log_settings(trainer, pl_module)
        self.predictions = []

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self.predictions += [one for one in outputs if one.arm == outputs[0].arm]

    def on_test_end(self, trainer: Trainer, pl_module: Any) -> None:
        if predictions := [one for part in gather_objects(trainer, self.predictions) for one in part]:
            results = summarize(predictions, pl_module.score.benchmark)
            scores = {name: column["value"] for name, column in results["columns"].items()}
            scores |= {"hit_rate": results["hit_rate"]}
            self.log_final_scores(
                trainer, {f"test/{name}": scores[name] for name in SCORES if scores.get(name) is not None}
            )
        self.log_sample(trainer, "test")

    def log_sample(self, trainer: Trainer, phase: str) -> None:
        """Log the sample of answers to TensorBoard."""
        if not self.predictions or not trainer.is_global_zero:
            return
        # The same rows every time, spread over the videos: rows of one video often stand side by side.
        rows = sorted(np.random.default_rng(0).permutation(len(self.predictions))[: self.rows].tolist())
        module: Any = trainer.lightning_module
        text = format_table(module.score.benchmark.judge(self.predictions[place] for place in rows))
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text(f"answers/{phase}/samples", text, trainer.global_step)

    def log_settings(self, trainer: Trainer, module: LightningModule) -> None:
        """Log the settings, and the names of later scores, before any score: TensorBoard reads only the first ones."""
        if not trainer.is_global_zero:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        model_settings = {key: value for key, value in module.hparams.items() if key not in HIDDEN_SETTINGS}
        settings = flatten_settings(model_settings | {"data": {key: getattr(data, key, None) for key in DATA_SETTINGS}})
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                for part in hparams(settings, {f"final/{name}": 0.0 for name in FINAL}):
                    logger.experiment._get_file_writer().add_summary(part)

    def log_final_scores(self, trainer: Trainer, scores: Mapping[str, float]) -> None:
        """Log the last scores."""
        if not trainer.is_global_zero or trainer.interrupted:
            return
        for logger in trainer.loggers:
            logger.log_metrics({f"final/{name}": value for name, value in scores.items()}, trainer.global_step)


def format_table(judged: list[Judged]) -> str:
    """Format predictions and their verdicts as a table in Markdown."""
    lines = ["| question | answer | truth | kept frames | video |", "|---|---|---|---|---|"]
    for one, verdict in judged:
        # No column of its own: TensorBoard breaks words in narrow ones.
        answer = f"{'right' if verdict.scores['correct'] else '**wrong**'}: {escape_markdown(one.answer)}"
        answer += " (cut off)" if one.cut else ""
        kept = ", ".join(map(str, one.kept)) or "none"
        question, truth, video = map(escape_markdown, (one.question, one.truth, one.video))
        lines.append(f"| {question} | {answer} | {truth} | {kept} | {video} |")
    return "\n".join(lines)


def escape_markdown(text: str) -> str:
    """Escape text so that Markdown shows it as it is, in one line, cut where it is long."""
    line = " ".join(text.split())
    line = line if len(line) <= MAX_LETTERS else line[: MAX_LETTERS - 3] + "..."
    return MARKUP.sub(lambda match: f"&#{ord(match[0])};", line) or "(nothing)"


def flatten_settings(settings: Mapping[str, Any], before: str = "") -> dict[str, int | float | str]:
    """Flatten the settings that are not None to paths such as ``connector/events``; all but numbers become text."""
    flat: dict[str, int | float | str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten_settings(value, f"{before}{key}/")
        elif value is not None:
            number = isinstance(value, int | float) and not isinstance(value, bool)  # TensorBoard would show 1.0
            flat[before + key] = value if number else str(value)
    return flat
