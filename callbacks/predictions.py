"""Write predictions, verdicts and metrics after a test, predict.jsonl and predict.json after a prediction run."""

import json
import time
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from callbacks.export import FIT_CARD
from callbacks.observer import gather_objects
from dynfocus.evals.summary import summarize_arms
from dynfocus.evals.text_prior import score_text_prior
from dynfocus.records.atomic import set_aside, write_text
from dynfocus.records.commit import read_commit
from dynfocus.records.jsonl import write_jsonl
from dynfocus.records.predictions import Prediction


class Predictions(Callback):
    """Collect the predictions of a test and write them, with their summary, into the run's folder.

    Of the embedded world they hold its ``recipe``, and in ``text_prior`` how well the questions' text alone answers.

    ``metrics.json`` and ``predict.json`` say what made them: the command, all settings of the model, the data. Results
    of before are renamed to ``metrics.1.json`` and so on. A run with ``fast_dev_run`` writes none.

    Many processes give the files of one: arm after arm in the order of the data set's rows, which are shared out as
    `datamodules.sampler.RankDataset` does it. The first process writes.

    Args:
        dirpath: where to; the run's own folder if not given.
    """

    def __init__(self, dirpath: Path | None = None) -> None:
        self.dirpath = dirpath
        self.rows = 0
        self.numbered_predictions: list[tuple[int, Prediction]] = []
        self.start = 0.0

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.rows, self.numbered_predictions, self.start = 0, [], time.monotonic()

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self.add_predictions(trainer, outputs, batch)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.rows, self.numbered_predictions = 0, []

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self.add_predictions(trainer, [Prediction(**fields) for fields in outputs], batch)

    def add_predictions(self, trainer: Trainer, predictions: list[Prediction], batch: Any) -> None:
        """Add the predictions of this process's next batch with the row numbers that they have in the data set."""
        numbers = [n for n, record in enumerate(batch.records, self.rows) if record is not None]
        rows = cycle(trainer.global_rank + n * trainer.world_size for n in numbers)
        self.numbered_predictions += zip(rows, predictions, strict=False)
        self.rows += len(batch.records)

    def gather_predictions(self, trainer: Trainer) -> list[Prediction]:
        """Gather the predictions of all processes; every process has to call this."""
        parts = gather_objects(trainer, self.numbered_predictions)
        arms = {arm: n for n, arm in enumerate(dict.fromkeys(p.arm for part in parts for _, p in part))}
        pairs = [one for part in parts for one in part]
        return [p for _, p in sorted(pairs, key=lambda one: (arms[one[1].arm], one[0]))]

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        predictions = self.gather_predictions(trainer)
        card = {"n": len(predictions), **describe_run(trainer, pl_module)}
        self.write(trainer, {"predict.jsonl": predictions, "predict.json": card})

    def on_test_end(self, trainer: Trainer, pl_module: Any) -> None:
        predictions = self.gather_predictions(trainer)
        if not trainer.is_global_zero:
            return
        fit_card = self.folder(trainer) / FIT_CARD
        seconds = time.monotonic() - self.start
        if fit_card.exists():
            seconds += json.loads(fit_card.read_text())["seconds"]
        benchmark = pl_module.score.benchmark
        judged = benchmark.judge(predictions)
        card = {"benchmark": benchmark.name, "protocol": benchmark.protocol, "subtitles": benchmark.subtitled}
        card |= {"split": getattr(trainer.datamodule, "split", "test")}  # type: ignore[attr-defined]
        card |= {"arm": predictions[0].arm, "seconds": round(seconds, 1)}
        metrics = summarize_arms(judged, benchmark) | card | describe_run(trainer, pl_module)
        if hasattr(trainer.datamodule, "training_questions"):  # type: ignore[attr-defined]
            metrics["recipe"] = trainer.datamodule.recipe  # type: ignore[attr-defined]
            known = trainer.datamodule.training_questions()  # type: ignore[attr-defined]
            of_one_arm = [one for one in predictions if one.arm == predictions[0].arm]
            metrics["text_prior"] = score_text_prior(known, of_one_arm, benchmark)
        verdicts = [verdict for _, verdict in judged]
        self.write(trainer, {"predictions.jsonl": predictions, "verdicts.jsonl": verdicts, "metrics.json": metrics})

    def folder(self, trainer: Trainer) -> Path:
        return Path(self.dirpath or trainer.default_root_dir)

    def write(self, trainer: Trainer, results: dict[str, Any]) -> None:
        """Write predictions and what is said of them by the names of their files; earlier ones are renamed."""
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        paths = {self.folder(trainer) / name: content for name, content in results.items()}
        for path, place in set_aside(list(paths)).items():
            rank_zero_info(f"the earlier {path} now lies in {place}")
        for path, content in paths.items():
            if path.suffix == ".jsonl":
                write_jsonl(path, content)
            else:
                write_text(path, json.dumps(content, indent=2) + "\n")


def describe_run(trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
    """Describe what makes the results of a run."""
    data = trainer.datamodule  # type: ignore[attr-defined]
    files = {split: str(file) for split, file in getattr(data, "files", {}).items() if split == "test"}
    made_by = {
        "command": trainer.state.fn.value,  # type: ignore[union-attr]
        "settings": dict(pl_module.hparams),
        "data": {"root": str(getattr(data, "root", "")), "files": files},
    }
    return {"seed": torch.initial_seed(), "commit": read_commit(), "made_by": made_by}
