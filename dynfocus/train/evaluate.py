"""Ask a trained model the questions of a benchmark: resumed where it stopped, judged by rules, summarized."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dynfocus.evals.benchmarks import find_benchmark, find_split
from dynfocus.evals.card import CARD, check_card
from dynfocus.evals.files import BenchmarkFiles
from dynfocus.evals.protocol import OWN, Item, check_options, digest_prompts
from dynfocus.evals.summary import write_results
from dynfocus.method.selectors import refuse_foreign_selector
from dynfocus.models.loading import read_trained_config
from dynfocus.models.processor import read_processor_state
from dynfocus.records.predictions import read_answers
from dynfocus.settings import ConnectorSettings, Sampling, SelectorChoice, find_recipe, selector_label
from dynfocus.train.finished import digest
from dynfocus.train.fit import Experiment, run

SKETCHES = "sketches"


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
    reading: Mapping[str, Any],
    arms: Sequence[SelectorChoice],
    sampling: Sampling,
    settings: Mapping[str, Any],
    trainer: Mapping[str, Any],
    protocol: str = OWN,
    trust_selector: bool = False,
) -> dict[str, Any]:
    """Ask, judge and summarize; returns what metrics.json holds.

    Args:
        benchmark: its name.
        root: folder of its files.
        out: folder of the results; answers that are there already are not asked for again.
        model: folder of a trained model.
        reading: ``frames`` and ``fps``, where they replace those of the model's frame rule; 0 is no limit.
        arms: as in `DynFocusModule`.
        sampling: how answers are drawn; its seed is that of the whole run.
        settings: further arguments of `BenchmarkDataModule`. Where they name no folder for sketches, those of videos
            that several questions are about lie in the folder of the results until all is answered.
        trainer: further arguments of Lightning's Trainer.
        protocol: whose rules read and count answers: ``dynfocus`` or ``upstream``.
        trust_selector: see `DynFocusModel.from_folder`.

    Raises:
        ConfigError: if the folder holds answers that were made with other settings, options are to be shuffled where
            there are none, or the model names a selector that is not trusted.
    """
    connector = read_trained_config(model).settings
    if not trust_selector:
        refuse_foreign_selector(connector.selector, model)
    prompts = read_processor_state(model)
    rule = replace(prompts["frame_rule"], **{name: value or None for name, value in reading.items()})
    asked, split = find_benchmark(benchmark, protocol), find_split(benchmark, settings["split"])
    items = asked.read_items(BenchmarkFiles(root), split)
    if settings["shuffle"]:
        check_options(items, benchmark)
    card = {
        "benchmark": benchmark,
        "protocol": protocol,
        "split": split,
        "model": digest(model),
        "frame_rule": asdict(rule),
        "arms": list(arms),
        "options_shuffled": settings["shuffle"],
        "subtitles": any(item.subtitles for item in items),
        "prompts": digest_prompts(asked, items),
        **{name: prompts[name] for name in ("prompt", "system_prompt", "slots")},
        "max_new_tokens": asked.new_tokens if settings["max_new_tokens"] is None else settings["max_new_tokens"],
        "sampling": asdict(sampling),
    }
    check_card(out / CARD, card)
    sketches = settings["sketch_cache"] or _choose_sketches(out, connector, items[: settings["rows"]])
    options = {
        "seed_everything": sampling.seed,
        **{f"model.{name}": str(model) for name in ("encoders", "language_model", "init_from")},
        "model.connector": asdict(connector),
        "model.frame_rule": asdict(rule),
        "model.template": prompts["prompt"],
        **{f"model.{name}": prompts[name] for name in ("system_prompt", "slots")},
        "model.arms": list(arms),
        **{f"model.{name}": card[name] for name in ("max_new_tokens", "sampling")},
        "data.init_args.benchmark": benchmark,
        "data.init_args.root": str(root),
        "data.init_args.run": str(out),
        "data.init_args.arms": list(map(selector_label, arms)),
        "data.init_args.segments": not reading,
        **{f"data.init_args.{name}": value for name, value in settings.items() if name != "max_new_tokens"},
        "data.init_args.sketch_cache": sketches,
        "trainer.default_root_dir": str(out),
        **{f"trainer.{name}": value for name, value in trainer.items()},
    }
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in options.items()}
    args = [word for name, text in texts.items() if options[name] is not None for word in (f"--{name}", text)]
    done = run(["test", "--config", str(find_recipe("evaluate")), *args], Evaluation)
    if not done.trainer.is_global_zero:
        return {}
    answers = read_answers(out)
    predictions = [
        answers[arm, id]
        for arm in dict.fromkeys(arm for arm, _ in answers)
        for id in done.datamodule.ids
        if (arm, id) in answers
    ]
    if settings["sketch_cache"] is None:
        shutil.rmtree(out / SKETCHES, ignore_errors=True)
    return write_results(out, predictions, asked, card | done.datamodule.facts)


def _choose_sketches(out: Path, connector: ConnectorSettings, items: Sequence[Item]) -> str | None:
    """Choose a folder for sketches where they save work: questions share videos, and sketches know no question."""
    shown = [(item.video, item.span) for item in items if item.video is not None]
    return str(out / SKETCHES) if connector.instruction_mode != "frame" and len({*shown}) < len(shown) else None
