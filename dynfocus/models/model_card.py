"""Write a trained model's card: what it was trained on, its numbers and what they rest on, licences, how to load it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dynfocus.budget import budget
from dynfocus.models.hub import CARD
from dynfocus.records.atomic import write_text
from dynfocus.settings import ConnectorSettings, selector_label

OWN_TOWERS = "tower.json"  # what the world's own towers have in their folders
PARTS = {"encoders": "vision encoder and Q-Former", "vision": "vision encoder", "language_model": "language model"}
LOADING = """```python
import dynfocus.models.processor  # the installed package; or pass trust_remote_code=True, which imports it
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("FOLDER")
processor = AutoProcessor.from_pretrained("FOLDER")
inputs = processor(videos="my_video.mp4", text="What happens?", return_tensors="pt").to(model.device)
ids = model.generate(**inputs, max_new_tokens=16)  # the answer alone, without the prompt
print(processor.batch_decode(ids, skip_special_tokens=True)[0])
```"""


@dataclass(frozen=True)
class Training:
    """What a run's folder says of how its model came about.

    Attributes:
        config: of the run, as ``config.yaml`` holds it; empty where there is none.
        metrics: of its test, as ``metrics.json`` holds them; empty where it was not tested.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)


def read_training(run: Path, tested: bool = True) -> Training:
    """Read what a run's folder holds; nothing where it is no run's.

    Args:
        run: the folder of ``config.yaml`` and ``metrics.json``.
        tested: false while the model is still in training, when ``metrics.json`` would be another model's.
    """
    config, metrics = run / "config.yaml", run / "metrics.json"
    read: Any = OmegaConf.to_container(OmegaConf.load(config)) if config.is_file() else {}
    return Training(
        read if "model" in read else {},
        json.loads(metrics.read_text()) if read and tested and metrics.is_file() else {},
    )


def write_card(folder: Path, training: Training, settings: ConnectorSettings, license: str | None = None) -> None:
    """Write ``README.md`` into a model's folder, in the form of the Hugging Face Hub.

    Args:
        folder: the trained model's.
        training: see `read_training`.
        settings: the model's connector.
        license: an identifier such as ``apache-2.0``; without one the card says that none was stated.
    """
    head = ["library_name: transformers", "pipeline_tag: image-text-to-text"]
    head += ["tags:", "- dynfocus", "- video-text-to-text", "- frame-selection"]
    head += [] if license is None else [f"license: {license}"]
    sections = {
        "How to load it": LOADING,
        "How it was trained": "\n".join(_describe_training(training.config)),
        "What a video costs": _describe_cost(settings),
        "Numbers": "\n".join(_describe_numbers(training.metrics)),
        "Licence": "\n".join(_describe_license(training.config, license)),
    }
    text = "\n\n".join(f"## {title}\n\n{body}" for title, body in sections.items())
    about = (
        "A video language model with DynFocus between its vision encoder and its language model: it looks closely at "
        "the frames that matter ([arXiv 2411.12355](https://arxiv.org/abs/2411.12355); an independent implementation)."
    )
    write_text(folder / CARD, "\n".join(["---", *head, "---", "", "# DynFocus model", "", about, "", text, ""]))


def _describe_training(config: Mapping[str, Any]) -> list[str]:
    if not config:
        return ["Not known: no `config.yaml` of a run lay beside the model when this card was written."]
    model, data, trainer = config["model"], config.get("data") or {}, config.get("trainer") or {}
    arguments = data.get("init_args") or {}
    sets = list(arguments.get("sets") or [])
    sets += [source["name"] for source in arguments.get("sources") or [] if "name" in source]
    name = str(data.get("class_path", "unknown data")).rpartition(".")[2]
    lines = [
        f"* stage: `{model.get('stage')}`, seed {config.get('seed_everything')}, "
        f"{trainer.get('max_epochs')} epochs, learning rate {model.get('lr')}, precision {trainer.get('precision')}",
        f"* data: {name}" + (f" ({', '.join(sets)})" if sets else ""),
    ]
    lines += [f"* {part}: {Path(model[key]).name}" for key, part in PARTS.items() if model.get(key)]
    lines += [f"* started from: {Path(model['init_from']).name}"] if model.get("init_from") else []
    return [*lines, f"* adapters: {json.dumps(model['lora'])}"] if model.get("lora") else lines


def _describe_cost(settings: ConnectorSettings) -> str:
    cost = budget(32, settings)
    return (
        f"A video of 32 frames costs the language model {cost.visual_tokens} visual tokens, counted from the "
        f"connector's settings: selector {selector_label(settings.selector)}, events {settings.events}, "
        f"keep {settings.keep}."
    )


def _describe_numbers(metrics: Mapping[str, Any]) -> list[str]:
    if not metrics.get("arms"):
        return [
            "None: the model was not tested when this card was written. `dynfocus test` measures it, and "
            "`dynfocus export` then writes the numbers here."
        ]
    facts = f"{metrics.get('n')} questions of the benchmark `{metrics.get('benchmark')}`"
    facts += f", seed {metrics['seed']}" if "seed" in metrics else ""
    lines = [f"Measured by `dynfocus test` on {facts}; in brackets 95 % intervals, and how many values each rests on."]
    names = [name for name in next(iter(metrics["arms"].values()))["columns"] if "/" not in name]
    lines += ["", f"| kept frames | {' | '.join(names)} | hit rate | visual tokens |", "|---" * (len(names) + 3) + "|"]
    for arm, result in metrics["arms"].items():
        cells = [_describe_value(result["columns"].get(name)) for name in names]
        hit = "-" if result.get("hit_rate") is None else f"{result['hit_rate']:.3f}"
        lines.append(f"| {arm} | {' | '.join(cells)} | {hit} | {result['visual_tokens']:.0f} |")
    if metrics.get("benchmark") == "world":
        lines += ["", "These are questions about small rendered videos; they say nothing about real videos."]
    return lines


def _describe_value(column: Mapping[str, Any] | None) -> str:
    if column is None:
        return "-"
    low, high = column["interval"]
    return f"{column['value']:.3f} [{low:.3f}, {high:.3f}], n {column['n']}"


def _describe_license(config: Mapping[str, Any], license: str | None) -> list[str]:
    lines = [
        "The code, the package dynfocus, is under Apache-2.0.",
        f"The weights are under {license}, as whoever wrote this folder stated."
        if license
        else "No licence of the weights was stated; `dynfocus export --license NAME` states one.",
    ]
    for key, part in PARTS.items():
        if place := (config.get("model") or {}).get(key):
            lines.append(f"* {part}, {Path(place).name}: {_read_license(Path(place))}")
    return [*lines, "", "A licence of the parts and of the data that they were trained on holds for this model too."]


def _read_license(folder: Path) -> str:
    """What the folder of a part says of its licence."""
    if (folder / OWN_TOWERS).is_file():
        return "trained by this project on its own rendered world, Apache-2.0"
    try:
        lines = (folder / CARD).read_text().split("---", 2)[1].splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("license:"))
    except (OSError, UnicodeDecodeError, IndexError, StopIteration):
        return "its folder does not say"
