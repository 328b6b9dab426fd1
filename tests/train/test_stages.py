"""What each stage trains, by stepping once and comparing every tensor; and the table that says so."""

import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from tiny_world import call

from dynfocus.errors import ConfigError
from dynfocus.models.collate import Example
from dynfocus.models.model import DynFocusModel
from dynfocus.settings import STAGES, LoraSettings
from dynfocus.train.module import DynFocusModule
from dynfocus.train.summary import overview

LORA = LoraSettings(rank=2, alpha=4, dropout=0.0)
FRAME = replace(tiny.SETTINGS, instruction_mode="frame")


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return tiny.towers(tmp_path_factory.mktemp("towers"))


def build_module(towers: tuple[Path, Path], settings: Any = tiny.SETTINGS, **options: Any) -> DynFocusModule:
    torch.manual_seed(0)
    module = DynFocusModule(*towers, settings, **options)
    module.configure_model()
    return module


def lesson(net: DynFocusModel) -> Any:
    """Two videos and a row of text: every module that a stage trains hears of one of them."""
    examples = [Example(tiny.row(n), frames=tiny.frames(6 + n, n)) for n in range(2)]
    examples.append(Example(tiny.row(2, media=None), frames=torch.zeros(1, tiny.SIDE, tiny.SIDE, 3, dtype=torch.uint8)))
    return tiny.processor(net.settings, answers=True)(examples)


def step(module: DynFocusModule) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """All weights before and after one step."""
    net = module.model
    assert net is not None
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    weights = [weight for weight in net.parameters() if weight.requires_grad]
    net.connector.train()
    net(lesson(net), step=1)[0].backward()
    torch.optim.AdamW(weights, lr=0.1, weight_decay=0.0).step()
    return before, net.state_dict()


def list_moved(module: DynFocusModule) -> set[str]:
    before, after = step(module)
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


@pytest.mark.parametrize("stage", STAGES)
def test_a_step_moves_every_tensor_that_the_stage_trains_and_no_other(towers: tuple[Path, Path], stage: Any) -> None:
    module = build_module(towers, stage=stage)
    moved = list_moved(module)
    assert module.model is not None
    expected = {name for name in module.model.state_dict() if name.split(".")[0] in STAGES[stage].trains}
    assert moved == expected
    assert {name.removeprefix("model.") for name in module.trained()} == expected


@pytest.mark.parametrize("quantize", [None, "nf4"])
def test_adapters_move_and_the_language_model_under_them_stays(towers: tuple[Path, Path], quantize: Any) -> None:
    module = build_module(towers, stage="stage2", lora=LORA, quantize=quantize)
    moved = list_moved(module)
    assert module.model is not None
    names = module.model.state_dict()
    # The first factor's gradient is zero in the first step, as the second factor is.
    assert moved == {name for name in names if name.startswith("connector.") or "lora_B" in name}
    assert sum("lora_B" in name for name in names) == 2 * 7  # every linear layer of both blocks


@pytest.mark.parametrize("settings", [tiny.SETTINGS, FRAME])
def test_the_instruction_encoder_is_trained_where_asked(towers: tuple[Path, Path], settings: Any) -> None:
    assert not any(
        name.startswith("instruction.") for name in list_moved(build_module(towers, settings, stage="stage2"))
    )
    module = build_module(towers, settings, stage="stage2", train_instruction=True)
    moved = {name for name in list_moved(module) if name.startswith("instruction.")}
    assert module.model is not None
    used = {id(weight) for weight in module.model.instruction.used()}
    assert moved == {f"instruction.{n}" for n, w in module.model.instruction.named_parameters() if id(w) in used}
    cross_attention = {name for name in moved if "query_tokens" in name or "crossattention" in name}
    assert bool(cross_attention) == (settings.instruction_mode == "frame")


def test_the_table_says_what_is_trained(towers: tuple[Path, Path]) -> None:
    module = build_module(towers, stage="stage2", lora=LORA, lr=1e-3, language_lr=2e-4)
    assert module.model is not None
    lines = overview(module.model, module.rates).splitlines()
    rows = {line.split()[0]: re.split(r"\s{2,}", line.strip()) for line in lines[2:] if "  " in line}
    for name, row in rows.items():
        part = module.model.get_submodule(name)
        assert int(row[1].replace(",", "")) == sum(weight.numel() for weight in part.parameters())
        trained = sum(weight.numel() for weight in part.parameters() if weight.requires_grad)
        assert int(row[2].replace(",", "")) == trained
        assert row[3] == "float32"
        assert row[4] == ("0.0002" if name == "language_model" else "0.001" if trained else "-")
    assert sum(int(row[1].replace(",", "")) for row in rows.values()) == module.model.num_parameters()
    assert set(rows) == {
        *("vision", "instruction", "connector.select", "connector.cones", "connector.rods", "language_model")
    }


@pytest.mark.parametrize(
    ("change", "cause"),
    [({}, "as of an image"), ({"keep": 1.0}, "K/L = 1"), ({"kept_tokens": 2}, "kept_tokens = 2")],
)
def test_the_table_says_when_no_gradient_reaches_the_score_net(
    towers: tuple[Path, Path], change: dict[str, Any], cause: str
) -> None:
    settings = replace(tiny.SETTINGS, **change)
    module = build_module(towers, settings, stage="stage1")
    assert module.model is not None
    assert cause in overview(module.model, module.rates)
    moved = {name for name in list_moved(module) if name.startswith("connector.select")}
    assert bool(moved) == (not change)


def test_fit_prints_the_table(place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="lightning.pytorch.utilities.rank_zero"):
        assert call(place, "fit", "stage1", tmp_path / "run", "--trainer.max_steps", "1") == 0
    shown = next(record.getMessage() for record in caplog.records if "trainable" in record.getMessage())
    assert "connector.select (DPE: score net U)" in shown
    assert "vision" in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stage": "stage1", "lora": LORA}, "lora in stage1"),
        ({"stage": "stage1", "train_instruction": True}, "hands over nothing but projectors"),
        ({"stage": "stage2", "quantize": "nf4"}, "weights of 4 bits cannot be trained"),
        ({"stage": "posttune", "quantize": "nf4"}, "weights of 4 bits cannot be trained"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    towers: tuple[Path, Path], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        DynFocusModule(*towers, tiny.SETTINGS, **options)


def test_hyper_parameters_are_plain(towers: tuple[Path, Path], tmp_path: Path) -> None:
    module = DynFocusModule(*towers, tiny.SETTINGS, lora=LORA)
    torch.save(dict(module.hparams), tmp_path / "hparams.pt")
    hparams = torch.load(tmp_path / "hparams.pt", weights_only=True)
    assert hparams["connector"] == {**asdict(tiny.SETTINGS), "spatial_prototypes": [6, 3], "spatial_neighbours": [4, 2]}
    assert hparams["lora"] == asdict(LORA)
    assert hparams["encoders"] == str(towers[0])
