"""Folders of others run no code: selectors, modules beside weights, adapters and pickles that they name or hold."""

import json
import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from ask_runs import ask, write_model
from safetensors.torch import load_file
from transformers import AutoModel

from dynfocus.cli import main
from dynfocus.errors import CheckpointError, ConfigError, DynFocusError
from dynfocus.inspection.answerer import Answerer
from dynfocus.models.export import export
from dynfocus.models.model import DynFocusModel
from dynfocus.models.towers import load_language_model, load_tokenizer, open_vision
from dynfocus.settings import LoraSettings
from dynfocus.train.build import Building

MARK = "open('it has run', 'w').close()\n"
OWN = MARK + "from dynfocus.method.selectors import UniformSelector as Mine\n"
NAMES: list[Any] = ["my_evil.Mine", "subprocess.Popen", {"class_path": "my_evil.Mine", "init_args": {}}]
NAMES.append({"class_path": "dpe", "init_args": {"a": {"class_path": "my_evil.Mine"}}})
NAMES.append({"class_path": "inverted", "init_args": {"of": "my_evil.Mine"}})


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder, with code that leaves a mark where it is imported."""
    (tmp_path / "my_evil.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_evil", raising=False)
    return tmp_path


def change(file: Path, path: str, value: Any) -> None:
    """Set one entry of a JSON file, such as ``connector.selector``."""
    whole = json.loads(file.read_text())
    *above, last = path.split(".")
    part = whole
    for name in above:
        part = part[name]
    part[last] = value
    file.write_text(json.dumps(whole))


def has_run(here: Path) -> bool:
    return (here / "it has run").exists()


@pytest.mark.parametrize("name", NAMES, ids=["own", "popen", "settings", "inner", "of"])
def test_a_folder_names_no_code_that_is_imported(name: Any, here: Path, video: Path, capsys: Any) -> None:
    model = write_model(tiny.SETTINGS, here / "model")
    change(model / "config.json", "connector.selector", name)
    capsys.readouterr()
    assert ask(model, video, tiny.QUESTIONS[0]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("dynfocus: the model in ")
    assert shown.count("\n") == 1
    assert "Needed: one of dpe, dpe_question" in shown
    assert "--trust-selector" in shown
    data = video.parents[1]
    assert main(["evaluate", "world", str(data), "--model", str(model), "--out", "out"]) == 1
    sys.path.append(str(here))  # whoever calls Python may import what lies there
    ways: list[Callable[[], Any]] = [
        lambda: DynFocusModel.from_folder(model),
        lambda: DynFocusModel.from_pretrained(model),
        lambda: AutoModel.from_pretrained(model),
        lambda: Answerer(model),
        lambda: export(model, here / "plain"),
    ]
    for way in ways:
        with pytest.raises(ConfigError, match="names the selector"):
            way()
    assert not has_run(here)


def test_a_folder_that_is_trusted_has_its_selector(here: Path, video: Path, capsys: Any) -> None:
    model = write_model(tiny.SETTINGS, here / "model")
    change(model / "config.json", "connector.selector", "my_evil.Mine")
    capsys.readouterr()
    assert ask(model, video, tiny.QUESTIONS[0], "--trust-selector", "--json") == 0
    assert has_run(here)
    shown = json.loads(capsys.readouterr().out)
    assert shown["settings"]["selector"] == "my_evil.Mine"
    for net in (
        DynFocusModel.from_pretrained(model, trust_selector=True),
        DynFocusModel.from_folder(model, replace(tiny.SETTINGS, selector="my_evil.Mine")),  # the caller's own settings
    ):
        assert type(net.connector.select).__name__ == "UniformSelector"


@pytest.mark.parametrize("name", ["uniform", "dynfocus.method.selectors.UniformSelector"])
def test_a_folder_names_selectors_of_ours(name: str, here: Path) -> None:
    model = write_model(replace(tiny.SETTINGS, selector=name), here / "model")
    assert type(DynFocusModel.from_folder(model).connector.select).__name__ == "UniformSelector"


def test_code_beside_weights_is_not_run(here: Path) -> None:
    """Nor is anybody asked whether it may."""
    encoders, language = tiny.towers(here / "towers")
    readers = {"AutoConfig": open_vision, "AutoModelForCausalLM": load_language_model, "AutoTokenizer": load_tokenizer}
    for kind, reader in readers.items():
        folder = encoders if kind == "AutoConfig" else language
        file = folder / ("tokenizer_config.json" if kind == "AutoTokenizer" else "config.json")
        before = file.read_text()
        (folder / "my_evil.py").write_text(OWN)
        change(file, "model_type", "evil")
        change(file, "tokenizer_class", "EvilTokenizer")
        change(file, "auto_map", {kind: "my_evil.Mine", "AutoConfig": "my_evil.Mine"})
        with pytest.raises(DynFocusError):
            reader(folder)
        file.write_text(before)
    assert not has_run(here)


class Bomb:
    """Leaves a mark where it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, (MARK,)


def test_pickles_are_not_run(here: Path) -> None:
    _, language = tiny.towers(here / "towers")
    weights = language / "model.safetensors"
    for state in (load_file(weights) | {"more": Bomb()}, Bomb()):
        weights.unlink(missing_ok=True)
        torch.save(state, language / "pytorch_model.bin")
        with pytest.raises(DynFocusError):
            load_language_model(language)
    (here / "lavis").mkdir()
    for name in ("eva_vit_g.pth", "instruct_blip_vicuna7b_trimmed.pth"):
        (here / "lavis" / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError, match="does not load as weights"):
        open_vision(here / "lavis")
    assert not has_run(here)


ODD = {"megatron_config": {"a": 1}, "megatron_core": "my_evil", "auto_mapping": {"parent_library": "my_evil"}}


@pytest.mark.parametrize("entry", [*ODD, "modules_to_save", "peft_type"])
def test_adapters_hold_what_training_writes(entry: str, here: Path) -> None:
    towers = tiny.towers(here / "towers")
    Building(*towers, tiny.SETTINGS, stage="stage2", lora=LoraSettings(2, 4)).build("32-true").save(here / "model")
    settings = here / "model" / "adapter" / "adapter_config.json"
    value = {"peft_type": "LN_TUNING", "modules_to_save": ["lm_head"]} | ODD
    change(settings, entry, value[entry])
    with pytest.raises(CheckpointError, match=rf"sets {entry}|peft"):
        DynFocusModel.from_folder(here / "model")
    assert not has_run(here)
