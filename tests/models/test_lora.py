"""LoRA and QLoRA: what is packed into 4 bits, what gradients pass through it, and folders of adapters."""

import json
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import tiny
import torch
from lightning.pytorch.plugins import MixedPrecision
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModel

from dynfocus.errors import CheckpointError, ConfigError
from dynfocus.models.model import DynFocusModel
from dynfocus.settings import LoraSettings
from dynfocus.train.build import Building
from dynfocus.train.optim import FusedAdamW, optimizer_class
from dynfocus.train.summary import overview

LORA = LoraSettings(rank=4, alpha=8, dropout=0.0)
FULL = "32-true"


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return tiny.towers(tmp_path_factory.mktemp("towers"))


def built(towers: tuple[Path, Path], precision: str = FULL, **options: Any) -> DynFocusModel:
    torch.manual_seed(0)
    model = Building(*towers, tiny.SETTINGS, **{"stage": "stage2", "lora": LORA, **options}).build(precision)
    for name, weight in model.named_parameters():  # as after some training
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.2)
    return model.eval()


def logits(model: DynFocusModel) -> torch.Tensor:
    batch = tiny.batch([7, 0, 3], answers=True)
    with torch.no_grad():
        embeds, _ = model.embed(batch)
        return model.language_model(inputs_embeds=embeds, attention_mask=batch.attention_mask).logits


def test_the_language_model_alone_is_packed_into_four_bits(towers: tuple[Path, Path]) -> None:
    model = built(towers, quantize="nf4")
    packed = [name for name, part in model.named_modules() if isinstance(part, bnb.nn.Linear4bit)]
    assert len(packed) == 2 * 7
    assert all(name.startswith("language_model.") and "lm_head" not in name for name in packed)
    # Both libraries match names by their ends: one of ours like the language model's would be taken for it.
    assert not [name for name, _ in model.connector.named_modules() if name.endswith("proj")]
    weight = model.get_submodule(packed[0]).weight
    assert weight.dtype == torch.uint8
    assert weight.quant_state.quant_type == "nf4"
    assert weight.quant_state.nested
    assert not weight.requires_grad


def test_the_gradient_that_passes_through_four_bits_is_that_of_the_unpacked_weights(towers: tuple[Path, Path]) -> None:
    packed = built(towers, quantize="nf4")
    unpacked = deepcopy(packed)
    for name, part in list(unpacked.named_modules()):
        if isinstance(part, bnb.nn.Linear4bit):
            plain = nn.Linear(part.in_features, part.out_features, bias=part.bias is not None)
            values = bnb.functional.dequantize_4bit(part.weight.data, part.weight.quant_state)
            plain.weight = nn.Parameter(values.clone(), requires_grad=False)
            parent, _, last = name.rpartition(".")
            setattr(unpacked.get_submodule(parent), last, plain)
    assert not any(isinstance(part, bnb.nn.Linear4bit) for part in unpacked.modules())
    gradients = []
    for model in (packed, unpacked):
        model.connector.train()
        model(tiny.batch([9, 0, 4], answers=True), step=1)[0].backward()
        gradients.append({name: w.grad for name, w in model.named_parameters() if w.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert {"connector.cones.fine.0.weight", "connector.rods.f_k.weight"} < gradients[0].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-6, rtol=1e-4)
        assert gradient.abs().max() > 0, name


@pytest.mark.parametrize("quantize", [None, "nf4"])
def test_adapters_and_connector_come_back_together(towers: tuple[Path, Path], tmp_path: Path, quantize: Any) -> None:
    model = built(towers, quantize=quantize)
    model.save(tmp_path / "model")
    names = {path.relative_to(tmp_path / "model").as_posix() for path in (tmp_path / "model").rglob("*.*")}
    assert names == {
        *("config.json", "connector.safetensors", "adapter/adapter_config.json", "adapter/adapter_model.safetensors"),
        "modeling_dynfocus.py",
    }
    content = load_file(tmp_path / "model" / "adapter" / "adapter_model.safetensors")
    assert all("lora_" in name for name in content)
    again = DynFocusModel.from_folder(tmp_path / "model").eval()
    assert torch.equal(logits(again), logits(model))
    fours = sum(isinstance(part, bnb.nn.Linear4bit) for part in again.modules())
    assert fours == (14 if quantize else 0)
    shutil.copytree(tmp_path / "model", tmp_path / "moved")
    assert torch.equal(logits(DynFocusModel.from_folder(tmp_path / "moved").eval()), logits(model))


@pytest.mark.parametrize("quantize", [None, "nf4"])
def test_merging_gives_a_plain_model_that_says_the_same(
    towers: tuple[Path, Path], tmp_path: Path, quantize: Any
) -> None:
    model = built(towers, quantize=quantize)
    before = logits(model)
    model.merge()
    assert not any("lora_" in name or "base_layer" in name for name in model.state_dict())
    torch.testing.assert_close(logits(model), before, atol=1e-4, rtol=1e-4)
    model.save(tmp_path / "plain")
    assert (tmp_path / "plain" / "model.safetensors").exists()
    assert json.loads((tmp_path / "plain" / "config.json").read_text())["towers"] is None
    again = DynFocusModel.from_folder(tmp_path / "plain").eval()
    assert torch.equal(logits(again), logits(model))
    bare = DynFocusModel.from_towers(*towers, tiny.SETTINGS)
    bare.connector.load_state_dict(model.connector.state_dict())
    assert (logits(bare.eval()) - before).abs().max() > 0.1  # the adapters do something


def damage(folder: Path, what: str) -> None:
    connector, adapter = folder / "connector.safetensors", folder / "adapter" / "adapter_model.safetensors"
    if what == "no connector":
        connector.unlink()
    elif what == "no adapter":
        shutil.rmtree(adapter.parent)
    elif what == "a weight absent":
        state = load_file(connector)
        del state["connector.rods.f_k.weight"]
        save_file(state, connector)
    elif what == "a weight surplus":
        save_file(load_file(connector) | {"connector.more": torch.zeros(1)}, connector)
    elif what == "another shape":
        save_file({name: torch.zeros(1, 1) for name in load_file(connector)}, connector)
    elif what == "cut off":
        connector.write_bytes(connector.read_bytes()[:100])
    elif what == "adapters of other shapes":
        save_file({name: torch.zeros(3, 3) for name in load_file(adapter)}, adapter)
    elif what == "an adapter absent":
        save_file(dict(list(load_file(adapter).items())[1:]), adapter)
    elif what == "adapter settings cut off":
        (adapter.parent / "adapter_config.json").write_text('{"r": ')
    elif what == "towers gone":
        config = json.loads((folder / "config.json").read_text())
        config["towers"]["language_model"] = str(folder / "nowhere")
        (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    "what",
    [
        *("no connector", "no adapter", "a weight absent", "a weight surplus", "another shape", "cut off"),
        *("adapters of other shapes", "an adapter absent", "adapter settings cut off", "towers gone"),
    ],
)
def test_folders_of_adapters_that_are_not_whole_are_refused(
    towers: tuple[Path, Path], tmp_path: Path, what: str
) -> None:
    built(towers).save(tmp_path / "model")
    damage(tmp_path / "model", what)
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        DynFocusModel.from_folder(tmp_path / "model")
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        built(towers, stage="posttune", lora=None, init_from=tmp_path / "model")


def test_training_goes_on_from_a_folder_of_adapters(towers: tuple[Path, Path], tmp_path: Path) -> None:
    model = built(towers)
    model.save(tmp_path / "model")
    again = built(towers, stage="posttune", lora=None, init_from=tmp_path / "model")
    assert {n for n, w in again.named_parameters() if w.requires_grad} == {
        n for n, w in model.named_parameters() if w.requires_grad
    }


def test_frozen_parts_are_held_in_half_precision_and_trained_ones_in_full(towers: tuple[Path, Path]) -> None:
    for stage, lora, base in (("stage1", None, "bfloat16"), ("stage2", LORA, "bfloat16"), ("stage2", None, "float32")):
        model = built(towers, "bf16-mixed", stage=stage, lora=lora)
        for name, weight in model.named_parameters():
            wanted = "float32" if weight.requires_grad else "bfloat16"
            assert str(weight.dtype) == f"torch.{wanted}", name
        assert str(model.language_model.get_input_embeddings().weight.dtype) == f"torch.{base}"
        with torch.autocast("cpu", torch.bfloat16):
            loss, _ = model(tiny.batch([5, 0], answers=True))
        loss.backward()
        assert loss.isfinite()
        ids, _ = model.answer(tiny.batch([5, 0]), max_new_tokens=2)  # without autocast
        assert ids.shape == (2, 2)


def test_a_model_of_mixed_precision_comes_back_as_it_was(towers: tuple[Path, Path], tmp_path: Path) -> None:
    model = built(towers, "bf16-mixed", lora=None)
    model.save(tmp_path / "model")
    again = DynFocusModel.from_folder(tmp_path / "model").eval()
    for (name, ours), (_, theirs) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        assert ours.dtype == theirs.dtype, name
        assert torch.equal(ours, theirs), name
    assert torch.equal(logits(again), logits(model.eval()))


def test_states_of_the_optimizer_in_eight_bits() -> None:
    wide = nn.Linear(128, 64)  # states of fewer than 4096 numbers stay in fp32
    kind = optimizer_class("adamw8bit", torch.device("cpu"), FULL)
    optimizer = kind([{"params": list(wide.parameters()), "lr": 0.1}], betas=(0.9, 0.98), weight_decay=0.0)
    before = wide.weight.detach().clone()
    wide(torch.ones(2, 128)).sum().backward()
    optimizer.step()
    assert optimizer.state[wide.weight]["state1"].dtype == torch.uint8
    assert not torch.equal(before, wide.weight)


def test_gradients_are_clipped_before_a_fused_step() -> None:
    """Lightning clips nothing for an optimizer that would unscale gradients itself."""
    wide = nn.Linear(4, 4)
    plugin = MixedPrecision("bf16-mixed", "cpu")
    wide(torch.ones(2, 4)).sum().backward()
    plugin.clip_gradients(FusedAdamW(wide.parameters(), lr=0.1), clip_val=1.0)
    optimizer = FusedAdamW(wide.parameters(), lr=0.1)
    before = wide.weight.detach().clone()
    optimizer.step()
    assert not torch.equal(before, wide.weight)


def test_a_trained_instruction_encoder_stays_with_its_adapters(towers: tuple[Path, Path], tmp_path: Path) -> None:
    model = built(towers, train_instruction=True)
    with torch.no_grad():
        for weight in model.instruction.used():
            weight += 0.1
    model.save(tmp_path / "once")
    built(towers, stage="posttune", lora=None, init_from=tmp_path / "once").save(tmp_path / "twice")
    again = DynFocusModel.from_folder(tmp_path / "twice")
    for (name, ours), (_, theirs) in zip(
        model.instruction.named_parameters(), again.instruction.named_parameters(), strict=True
    ):
        assert torch.equal(ours, theirs), name


def test_other_adapters_than_those_of_the_folder_are_refused(towers: tuple[Path, Path], tmp_path: Path) -> None:
    built(towers).save(tmp_path / "adapters")
    with pytest.raises(ConfigError, match=r"lora of rank 8.* holds rank 4, alpha 8"):
        built(towers, lora=LoraSettings(rank=8, alpha=8, dropout=0.0), init_from=tmp_path / "adapters")
    built(towers, lora=None).save(tmp_path / "whole")
    with pytest.raises(ConfigError, match=r"lora of rank 4.* holds none"):
        built(towers, init_from=tmp_path / "whole")
    with pytest.raises(CheckpointError, match="to be quantised to 4 bits"):
        DynFocusModel.from_folder(tmp_path / "whole", quantize="nf4")


def test_going_on_from_adapters_keeps_what_is_under_them(towers: tuple[Path, Path], tmp_path: Path) -> None:
    built(towers, "bf16-mixed", quantize="nf4").save(tmp_path / "model")
    again = built(towers, "bf16-mixed", stage="posttune", lora=None, init_from=tmp_path / "model")
    assert sum(isinstance(part, bnb.nn.Linear4bit) for part in again.modules()) == 14
    assert again.language_model.get_input_embeddings().weight.dtype == torch.bfloat16
    assert (again.towers or {})["quantize"] == "nf4"


def test_adapters_alone_are_nothing_to_transformers(towers: tuple[Path, Path], tmp_path: Path) -> None:
    built(towers).save(tmp_path / "model")
    with pytest.raises(CheckpointError, match="export MODEL OUT --merge"):
        AutoModel.from_pretrained(tmp_path / "model")


def test_the_table_counts_what_is_packed(towers: tuple[Path, Path]) -> None:
    sizes = []
    for quantize in (None, "nf4"):
        lines = overview(built(towers, quantize=quantize), {}).splitlines()
        sizes.append(next(line.split()[1] for line in lines if line.startswith("language_model")))
    assert sizes[0] == sizes[1]


def test_encoders_are_read_as_exactly_as_they_were_written(towers: tuple[Path, Path], tmp_path: Path) -> None:
    model = built(towers, lora=None)
    model.save(tmp_path / "model")
    half = DynFocusModel.from_pretrained(tmp_path / "model", dtype=torch.bfloat16)
    assert half.language_model.dtype == torch.bfloat16
    for part in ("vision", "instruction", "connector"):
        for (name, ours), (_, theirs) in zip(
            getattr(model, part).named_parameters(), getattr(half, part).named_parameters(), strict=True
        ):
            assert torch.equal(ours, theirs), name
