"""Ask a trained model the questions of a benchmark: resumed where it stopped, judged by rules, summarized."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dynfocus.errors import ConfigError
from dynfocus.evals.benchmarks import find_benchmark, find_split
from dynfocus.evals.summary import write_results
from dynfocus.models.loading import read_trained_config
from dynfocus.models.processor import read_processor_state
from dynfocus.records.atomic import write_text
from dynfocus.records.predictions import read_answers
from dynfocus.train.finished import digest
from dynfocus.train.fit import Experiment, run

CONFIG = Path(__file__).parents[2] / "lightning_configs" / "evaluate.yaml"
CARD = "card.json"


class Evaluation(Experiment):
    """The `test` of LightningCLI on the questions of a benchmark, without the record of finished runs."""

    def before_instantiate_classes(self) -> None:
        """The model is named by its folder."""

    def test(self, **options: Any) -> None:
        if len(self.datamodule.read_rows()):
            self.trainer.test(**options)


def evaluate(
    benchmark: str,
    root: Path,
    out: Path,
    model: Path,
    frames: int | None,
    arms: Sequence[str],
    settings: Mapping[str, Any],
    trainer: Mapping[str, Any],
) -> dict[str, Any]:
    """Ask, judge and summarize; returns what metrics.json holds.

    Args:
        benchmark: its name.
        root: folder of its files.
        out: folder of the results; answers that are there already are not asked for again.
        model: folder of a trained model.
        frames: most frames of a video, instead of as many as in training.
        arms: as in `DynFocusModule`.
        settings: further arguments of `BenchmarkDataModule`.
        trainer: further arguments of Lightning's Trainer.

    Raises:
        ConfigError: if the folder holds answers that were made with other settings.
    """
    reading = read_processor_state(model)
    rule = replace(reading["frame_rule"], frames=frames or reading["frame_rule"].frames)
    card = {
        "benchmark": benchmark,
        "split": find_split(benchmark, settings["split"]),
        "model": digest(model),
        "frame_rule": asdict(rule),
        "arms": list(arms),
        "options_shuffled": settings["shuffle"],
        "max_new_tokens": settings["max_new_tokens"],
    }
    _check_card(out / CARD, card)
    options = {
        **{f"model.{name}": str(model) for name in ("encoders", "language_model", "init_from")},
        "model.connector": asdict(read_trained_config(model).settings),
        "model.frame_rule": asdict(rule),
        "model.template": reading["prompt"],
        **{f"model.{name}": reading[name] for name in ("system_prompt", "slots")},
        "model.arms": list(arms),
        "model.max_new_tokens": settings["max_new_tokens"],
        "data.init_args.benchmark": benchmark,
        "data.init_args.root": str(root),
        "data.init_args.run": str(out),
        "data.init_args.arms": list(arms),
        **{f"data.init_args.{name}": value for name, value in settings.items() if name != "max_new_tokens"},
        "trainer.default_root_dir": str(out),
        **{f"trainer.{name}": value for name, value in trainer.items()},
    }
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in options.items()}
    args = [word for name, text in texts.items() if options[name] is not None for word in (f"--{name}", text)]
    done = run(["test", "--config", str(CONFIG), *args], Evaluation)
    if not done.trainer.is_global_zero:
        return {}
    answers = read_answers(out)
    predictions = [
        answers[arm, id]
        for arm in dict.fromkeys(arm for arm, _ in answers)
        for id in done.datamodule.ids
        if (arm, id) in answers
    ]
    return write_results(out, predictions, find_benchmark(benchmark), card | done.datamodule.facts)


def _check_card(file: Path, card: dict[str, Any]) -> None:
    """Write what answers are made with; raises ConfigError where others were made with something else."""
    before = json.loads(file.read_text()) if file.exists() else card
    changed = [name for name, value in card.items() if before.get(name) != json.loads(json.dumps(value))]
    if file.exists() and changed:
        raise ConfigError(
            f"{file.parent}, whose answers were made with another {' and '.join(changed)}",
            "the settings that its answers began with",
            "Give another --out, or delete the folder.",
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(card, indent=2) + "\n")
