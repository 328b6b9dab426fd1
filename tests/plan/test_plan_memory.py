"""What `plan --train` says: parameters and bytes against the real modules, activations against measured steps."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import tiny
import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig

from dynfocus.errors import CheckpointError, ConfigError
from dynfocus.method.connector import build_connector
from dynfocus.plan import TOWERS, Training, fitting, memory, planned, read_towers
from dynfocus.plan.memory import ALWAYS, BACKWARD, FORWARD, Memory, adapters, nf4_bytes, state_bytes
from dynfocus.plan.towers import LanguageSizes, Weight, parameters
from dynfocus.plan.ways import WAYS, ways
from dynfocus.settings import ConnectorSettings

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "lightning_configs"
PAPER = ConnectorSettings()
GIB = 2**30


def count(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def on_meta(build: Callable[[], nn.Module]) -> int:
    with torch.device("meta"):
        return count(build())


def test_the_papers_towers_are_counted_to_the_last_parameter() -> None:
    vision, qformer = transformers.InstructBlipVisionConfig(), transformers.InstructBlipQFormerConfig(vocab_size=30523)
    assert parameters(TOWERS.vision.weights) == on_meta(lambda: transformers.InstructBlipVisionModel(vision))
    assert parameters(TOWERS.instruction.weights) == on_meta(lambda: transformers.InstructBlipQFormerModel(qformer))
    assert parameters(TOWERS.language.weights) == on_meta(lambda: transformers.LlamaForCausalLM(LlamaConfig()))
    assert parameters(TOWERS.language.weights) == 6_738_415_616


@pytest.mark.parametrize(
    "changed",
    [{}, {"score_reads_question": True}, {"selector": "uniform"}, {"encoder": "average_pooling"}],
    ids=str,
)
def test_the_connector_is_counted_to_the_last_parameter(changed: dict[str, Any]) -> None:
    settings = replace(PAPER, **changed)
    built = on_meta(lambda: build_connector(settings, 1408, 768, 4096))
    assert parameters(TOWERS.connector(settings)) == built


LANGUAGES = [
    transformers.LlamaConfig(attention_bias=True, mlp_bias=True, num_hidden_layers=2),
    transformers.LlamaConfig(num_key_value_heads=4, head_dim=96, tie_word_embeddings=True, num_hidden_layers=2),
    transformers.MistralConfig(num_hidden_layers=2),
    transformers.Qwen2Config(num_hidden_layers=2),
    transformers.GemmaConfig(num_hidden_layers=2),
    transformers.GemmaConfig(),
]


@pytest.mark.parametrize("config", LANGUAGES, ids=lambda config: config.model_type)
def test_language_models_are_read_from_their_config(config: Any, tmp_path: Path) -> None:
    config.save_pretrained(tmp_path)
    found = read_towers(language_model=tmp_path)
    assert parameters(found.language.weights) == on_meta(lambda: transformers.AutoModelForCausalLM.from_config(config))
    assert found.vision == TOWERS.vision


@pytest.mark.parametrize("config", [transformers.CLIPVisionConfig(), transformers.SiglipVisionConfig(image_size=384)])
def test_other_encoders_are_read_from_their_config(config: Any, tmp_path: Path) -> None:
    family = transformers.CLIPConfig if config.model_type.startswith("clip") else transformers.SiglipConfig
    family(vision_config=config.to_dict()).save_pretrained(tmp_path)
    assert parameters(read_towers(tmp_path).vision.weights) == on_meta(
        lambda: transformers.AutoModel.from_config(config)
    )
    assert read_towers(tmp_path).instruction == TOWERS.instruction


def test_instructblip_is_read_from_its_config(tmp_path: Path) -> None:
    encoders, language = tiny.towers(tmp_path)
    found, model = read_towers(encoders, language), tiny.model()
    assert parameters(found.vision.weights) == count(model.vision)
    assert parameters(found.instruction.weights) == count(model.instruction)
    assert parameters(found.language.weights) == count(model.language_model)
    assert found.vision.patches == model.vision.patches
    transformers.InstructBlipConfig().save_pretrained(tmp_path / "plain")
    assert read_towers(tmp_path / "plain").instruction.vocab_size == 30522


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "gemma"])
def test_what_a_config_leaves_out_is_its_familys_default(family: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    config = transformers.AutoConfig.for_model(family)
    built = on_meta(lambda: transformers.AutoModelForCausalLM.from_config(config))
    found = read_towers(language_model=tmp_path).language
    assert parameters(found.weights) == built
    assert found.max_position_embeddings == config.max_position_embeddings


def test_what_the_encoders_config_leaves_out_is_instructblips_default(tmp_path: Path) -> None:
    bare = {"model_type": "instructblip", "vision_config": {}, "qformer_config": {}}
    (tmp_path / "config.json").write_text(json.dumps(bare))
    found = read_towers(tmp_path)
    assert found.vision == TOWERS.vision
    assert found.instruction == replace(TOWERS.instruction, vocab_size=30522)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json, which cannot be read"):
        read_towers(tmp_path)
    transformers.GPT2Config().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"'gpt2'.*llama, mistral, qwen2, gemma"):
        read_towers(language_model=tmp_path)


@pytest.mark.parametrize("shape", [(64, 96), (200, 1000), (37, 64)])
def test_nf4_takes_as_many_bytes_as_bitsandbytes_does(shape: tuple[int, int]) -> None:
    layer = bitsandbytes.nn.Linear4bit(shape[1], shape[0], bias=False, quant_type="nf4", compress_statistics=True)
    weight = layer.to("cpu").weight
    state = weight.quant_state
    held = [weight, state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code]
    assert nf4_bytes(shape[0] * shape[1]) == sum(part.numel() * part.element_size() for part in held)


@pytest.mark.parametrize("size", [4095, 4096, 5000, 70_000])
@pytest.mark.parametrize("optimizer", ["adamw", "adamw8bit"])
def test_the_optimizers_states_take_as_many_bytes_as_planned(size: int, optimizer: str) -> None:
    weight = nn.Parameter(torch.ones(size))
    kind = {"adamw": torch.optim.AdamW, "adamw8bit": bitsandbytes.optim.AdamW8bit}[optimizer]
    stepper = kind([weight])
    weight.grad = torch.ones(size)
    stepper.step()
    own = {name: part for name, part in stepper.state[weight].items() if name != "step" and "qmap" not in name}
    held = sum(part.numel() * part.element_size() for part in own.values())
    assert state_bytes(Weight((size,)), optimizer) == held


def test_adapters_are_counted_to_the_last_parameter() -> None:
    model = tiny.model().language_model
    sizes = LanguageSizes(**{n: v for n, v in model.config.to_dict().items() if n in asdict(LanguageSizes())})
    tuned = get_peft_model(model, LoraConfig(r=3, target_modules="all-linear", task_type="CAUSAL_LM"))
    learned = sum(weight.numel() for weight in tuned.parameters() if weight.requires_grad)
    assert parameters(adapters(sizes.weights, 3)) == learned


def persistent(needs: Memory) -> int:
    return sum(row.size for row in needs.rows if row.moments == ALWAYS)


def test_full_tuning_holds_sixteen_bytes_a_trained_parameter() -> None:
    needs = memory(32, PAPER, Training("stage2"), overhead=0)
    learned = 6_738_415_616 + 50_159_872
    towers = 2 * (985_952_256 + 185_660_160)
    assert persistent(needs) == 16 * learned + towers
    assert needs.total >= persistent(needs)


def test_shards_divide_what_is_sharded_and_nothing_else() -> None:
    one = memory(32, PAPER, Training("stage2", strategy="fsdp"))
    eight = memory(32, PAPER, Training("stage2", strategy="fsdp", gpus=8))
    for name in ("weights: language model, trained", "weights: connector, trained", "gradients", "optimizer states"):
        assert eight[name] == -(-one[name] // 8)
    for name in ("weights: vision encoder", "gathered: two layers and the ends", "activations: connector"):
        assert eight[name] == one[name]


def test_replicas_hold_gradients_twice_and_one_gpu_does_not() -> None:
    buckets = "gradient buckets of DDP"
    two = memory(32, PAPER, Training("lora", gpus=2))
    assert two[buckets] == two["gradients"]
    assert buckets not in {row.name for row in memory(32, PAPER, Training("lora")).rows}


def test_without_accumulation_gradients_wait_for_the_backward_pass() -> None:
    once = memory(32, PAPER, Training("stage2", accumulate=1))
    again = memory(32, PAPER, Training("stage2", accumulate=2))
    assert again.at(FORWARD) - once.at(FORWARD) == again["gradients"]
    assert again.at(BACKWARD) == once.at(BACKWARD)


def test_lower_resources_need_less() -> None:
    totals = [memory(32, PAPER, Training(train)).total for train in ("stage2", "lora", "qlora")]
    assert totals == sorted(totals, reverse=True)
    eight_bits = memory(32, PAPER, Training("stage2", optimizer="adamw8bit"))
    assert eight_bits["optimizer states"] < memory(32, PAPER, Training("stage2"))["optimizer states"] / 3.8


@pytest.mark.parametrize("wrong", [{"train": "qlora"}, {"optimizer": "adamw8bit"}])
def test_what_cannot_be_sharded_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="sharded"):
        Training(strategy="fsdp", **wrong)


@pytest.mark.parametrize("name", ["gpus", "rows", "slots", "rank", "accumulate", "text", "answer"])
def test_impossible_numbers_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} = -1"):
        Training(**{name: -1})


def test_a_card_keeps_a_twentieth_of_what_it_shows_for_fragments() -> None:
    assert fitting(int(0.95 * 22 * GIB)) == (24, 48, 80, 141)
    assert fitting(int(0.95 * 22 * GIB) + 1) == (48, 80, 141)
    assert fitting(132 * GIB) == (141,)
    assert fitting(200 * GIB) == ()


def test_the_page_says_what_plan_says() -> None:
    text = (ROOT / "docs/plan.md").read_text()
    head = re.search(r"^\| GPUs((?: \| \d+)+) \|$", text, re.M)
    assert head is not None
    shown = re.findall(r"^\| `(\w+)`, (DDP|FSDP2)((?: \| [\d.]+ \((?:\d+|none)\))+) \|$", text, re.M)
    assert len(shown) == len(WAYS)
    said = {
        (train, {"DDP": "ddp", "FSDP2": "fsdp"}[strategy], int(gpus)): cell
        for train, strategy, cells in shown
        for gpus, cell in zip(head[1].split(" | ")[1:], cells.split(" | ")[1:], strict=True)
    }
    recipes = {
        name: {(way.train, way.strategy, way.gpus): way for way in ways(planned([CONFIGS / name], frames=32))}
        for name in ("stage1.yaml", "stage2.yaml")
    }
    for key, cell in said.items():
        way = recipes["stage1.yaml" if key[0] == "stage1" else "stage2.yaml"][key]
        assert way.size is not None
        assert cell == f"{way.size / GIB:.1f} ({way.fits[0] if way.fits else 'none'})", key
