"""One plain checkpoint of a trained model, with its adapters merged or in another precision; whole, or not at all."""

import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from saved_models import QUESTION, contents, logits, processor
from transformers import AutoModel, AutoProcessor

from dynfocus.cli import main
from dynfocus.inspection.answerer import Answerer
from dynfocus.models.config import DynFocusConfig
from dynfocus.models.lora import add_adapters
from dynfocus.models.model import DynFocusModel
from dynfocus.settings import LoraSettings
from dynfocus.types import Batch


def test_export_in_another_precision(folder: Path, tmp_path: Path, video: Path, capsys: Any) -> None:
    out = tmp_path / "new" / "half"
    assert main(["export", str(folder), str(out), "--dtype", "bfloat16"]) == 0
    assert str(out) in capsys.readouterr().out
    half, read = AutoModel.from_pretrained(out), AutoProcessor.from_pretrained(out)
    exact = DynFocusModel.from_pretrained(folder, dtype=torch.bfloat16).eval()
    exact.vision.to(torch.bfloat16)
    exact.instruction.to(torch.bfloat16)
    assert half.state_dict().keys() == exact.state_dict().keys()
    assert all(torch.equal(value, exact.state_dict()[name]) for name, value in half.state_dict().items())
    assert {weight.dtype for weight in half.connector.parameters()} == {torch.float32}
    for part in (half.vision, half.instruction, half.language_model):
        assert {weight.dtype for weight in part.parameters()} == {torch.bfloat16}
    inputs = read(text=QUESTION, videos=video)
    assert torch.equal(half.generate(**inputs), exact.generate(**inputs))
    assert Answerer(out).ask(video, QUESTION) == Answerer(out).ask(video, QUESTION)


def test_export_of_a_plain_folder_is_the_same_folder(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert main(["export", str(folder), str(out), "--merge"]) == 0
    card = {"README.md": (out / "README.md").read_bytes()}
    assert contents(out) == contents(folder) | card
    assert DynFocusConfig.from_pretrained(out).settings == tiny.SETTINGS


@pytest.fixture
def adapted(tmp_path: Path) -> tuple[Path, DynFocusModel]:
    """A folder of adapters that changed the language model, and the model it was saved from."""
    net = DynFocusModel.from_towers(*tiny.towers(tmp_path / "towers"), tiny.SETTINGS)
    net.language_model = add_adapters(net.language_model, LoraSettings(rank=4, alpha=8))
    with torch.no_grad():
        for name, weight in net.language_model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.3, generator=tiny.generator(4))
    folder = tmp_path / "adapted"
    net.eval().save(folder)
    processor(net).save_pretrained(folder)
    assert not list(folder.glob("model*.safetensors"))
    return folder, net


def test_merged_adapters_give_equal_logits(
    adapted: tuple[Path, DynFocusModel], tmp_path: Path, video: Path, capsys: Any
) -> None:
    folder, net = adapted
    out = tmp_path / "out"
    assert main(["export", str(folder), str(out)]) == 1
    assert "Add --merge" in capsys.readouterr().err
    assert not out.exists()
    assert main(["export", str(folder), str(out), "--merge"]) == 0
    shutil.rmtree(tmp_path / "towers")  # which nothing needs any more
    plain, read = AutoModel.from_pretrained(out), AutoProcessor.from_pretrained(out)
    assert not [name for name in plain.state_dict() if "lora" in name]
    inputs = read(text=[QUESTION, "how many circles"], videos=[video, None])
    exact = logits(net, Batch(**inputs))
    torch.testing.assert_close(logits(plain, Batch(**inputs)), exact, atol=1e-4, rtol=1e-4)
    net.language_model.disable_adapter_layers()
    assert (logits(net, Batch(**inputs)) - exact).abs().max() > 0.1
    net.language_model.enable_adapter_layers()
    assert torch.equal(plain.generate(**inputs), net.generate(**inputs))


def test_export_writes_over_nothing_and_leaves_no_half(folder: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert main(["export", str(folder), str(out)]) == 1
    assert "there already" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["notes.txt"]
    assert main(["export", str(tmp_path), str(tmp_path / "other")]) == 1
    assert "no trained model" in capsys.readouterr().err
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        assert main(["export", str(folder), str(tmp_path / "full")]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "full, which could not be written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
