"""What `plan --train` says: parameters and bytes against the real modules, activations against measured steps."""

import json
from collections.abc import Callable
from dataclasses import replace
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
from dynfocus.models.model import DynFocusModel
from dynfocus.plan import Training
from dynfocus.plan.cards import list_fitting
from dynfocus.plan.dry_run import _watch_step, watch_step
from dynfocus.plan.memory import STEP, Memory, estimate_step, language_weights, nf4_bytes, state_bytes, weigh
from dynfocus.plan.sizes import read_sizes
from dynfocus.plan.towers import Towers, read_towers
from dynfocus.plan.ways import recipe_table
from dynfocus.settings import ConnectorSettings

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "lightning_configs"
PAPER = ConnectorSettings()
GIB = 2**30


def memory(training: Training, towers: Towers | None = None, **options: Any) -> Memory:
    return estimate_step(32, PAPER, training, towers or read_towers(), **options)


def model_of(towers: Towers, settings: ConnectorSettings = PAPER) -> DynFocusModel:
    return weigh(settings, Training("stage1"), towers)


def count(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def on_meta(build: Callable[[], nn.Module]) -> int:
    with torch.device("meta"):
        return count(build())


def test_the_papers_towers_are_counted_to_the_last_parameter() -> None:
    vision, qformer = transformers.InstructBlipVisionConfig(), transformers.InstructBlipQFormerConfig(vocab_size=30523)
    model = model_of(read_towers())
    assert count(model.vision) == on_meta(lambda: transformers.InstructBlipVisionModel(vision)) == 985_952_256
    assert count(model.instruction) == on_meta(lambda: transformers.InstructBlipQFormerModel(qformer)) == 185_660_160
    assert count(model.language_model) == on_meta(lambda: transformers.LlamaForCausalLM(LlamaConfig())) == 6_738_415_616


@pytest.mark.parametrize(
    "changed",
    [{}, {"score_reads_question": True}, {"selector": "uniform"}, {"encoder": "average_pooling"}],
    ids=str,
)
def test_the_connector_is_counted_to_the_last_parameter(changed: dict[str, Any]) -> None:
    settings = replace(PAPER, **changed)
    built = on_meta(lambda: build_connector(settings, 1408, 768, 4096))
    assert estimate_step(32, settings, Training(), read_towers()).rows["weights: connector, trained"][0] == 4 * built


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
    model = model_of(read_towers(language_model=tmp_path))
    assert count(model.language_model) == on_meta(lambda: transformers.AutoModelForCausalLM.from_config(config))


@pytest.mark.parametrize("config", [transformers.CLIPVisionConfig(), transformers.SiglipVisionConfig(image_size=384)])
def test_other_encoders_are_read_from_their_config(config: Any, tmp_path: Path) -> None:
    family = transformers.CLIPConfig if config.model_type.startswith("clip") else transformers.SiglipConfig
    family(vision_config=config.to_dict()).save_pretrained(tmp_path)
    towers, patches = read_towers(tmp_path), read_sizes(tmp_path).patches
    model = model_of(towers, replace(PAPER, patches=patches, pooled=1))
    assert count(model.vision) == on_meta(lambda: transformers.AutoModel.from_config(config))
    assert patches == model.vision.patches
    assert towers.instruction.to_dict() == read_towers().instruction.to_dict()


def test_instructblip_is_read_from_its_config(tmp_path: Path) -> None:
    folders, model = tiny.towers(tmp_path), tiny.model()
    weightless = model_of(read_towers(*folders), tiny.SETTINGS)
    for name, part in model.named_children():
        assert count(getattr(weightless, name)) == count(part), name
    assert read_sizes(*folders).patches == model.vision.patches
    transformers.InstructBlipConfig().save_pretrained(tmp_path / "plain")
    assert read_towers(tmp_path / "plain").instruction.vocab_size == 30522


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "gemma"])
def test_what_a_config_leaves_out_is_its_familys_default(family: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    config = transformers.AutoConfig.for_model(family)
    sizes, cache = read_sizes(language_model=tmp_path), config.num_key_value_heads or config.num_attention_heads
    assert (sizes.context, sizes.layers) == (config.max_position_embeddings, config.num_hidden_layers)
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    assert sizes.kv_width == cache * head
    assert read_towers(language_model=tmp_path).language.vocab_size == config.vocab_size


def test_what_the_encoders_config_leaves_out_is_instructblips_default(tmp_path: Path) -> None:
    bare = {"model_type": "instructblip", "vision_config": {}, "qformer_config": {}}
    (tmp_path / "config.json").write_text(json.dumps(bare))
    towers = read_towers(tmp_path)
    assert read_sizes(tmp_path).patches == 256
    assert towers.vision.to_dict() == read_towers().vision.to_dict()
    assert towers.instruction.vocab_size == 30522


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json, which cannot be read"):
        read_towers(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "of my own"}')
    for read in (read_sizes, read_towers):
        with pytest.raises(CheckpointError, match=r"config\.json, which cannot be read"):
            read(language_model=tmp_path)


@pytest.mark.parametrize("shape", [(64, 96), (200, 1000), (37, 64)])
def test_nf4_takes_as_many_bytes_as_bitsandbytes_does(shape: tuple[int, int]) -> None:
    layer = bitsandbytes.nn.Linear4bit(shape[1], shape[0], bias=False, quant_type="nf4", compress_statistics=True)
    weight = layer.to("cpu").weight
    state = weight.quant_state
    tensors = [weight, state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code]
    assert nf4_bytes(shape[0] * shape[1]) == sum(part.numel() * part.element_size() for part in tensors)


@pytest.mark.parametrize("size", [4095, 4096, 5000, 70_000])
@pytest.mark.parametrize("optimizer", ["adamw", "adamw8bit"])
def test_the_optimizers_states_take_as_many_bytes_as_planned(size: int, optimizer: str) -> None:
    weight = nn.Parameter(torch.ones(size))
    kind = {"adamw": torch.optim.AdamW, "adamw8bit": bitsandbytes.optim.AdamW8bit}[optimizer]
    stepper = kind([weight])
    weight.grad = torch.ones(size)
    stepper.step()
    own = {name: part for name, part in stepper.state[weight].items() if name != "step" and "qmap" not in name}
    state_size = sum(part.numel() * part.element_size() for part in own.values())
    assert state_bytes(size, optimizer) == state_size


def test_adapters_are_counted_to_the_last_parameter() -> None:
    model = tiny.model()
    tuned = get_peft_model(model.language_model, LoraConfig(r=3, target_modules="all-linear", task_type="CAUSAL_LM"))
    learned = sum(weight.numel() for weight in tuned.parameters() if weight.requires_grad)
    config = model.config
    towers = Towers(config.vision_config, config.qformer_config, config.text_config)
    planned = weigh(tiny.SETTINGS, Training("lora", rank=3), towers)
    assert sum(weight.numel() for weight in language_weights(planned)[1]) == learned


def persistent(needs: Memory) -> int:
    return sum(size for size, moments in needs.rows.values() if moments == STEP)


def test_full_tuning_holds_sixteen_bytes_a_trained_parameter() -> None:
    needs = memory(Training("stage2"), overhead=0)
    learned = 6_738_415_616 + 50_159_872
    towers = 2 * (985_952_256 + 185_660_160)
    assert persistent(needs) == 16 * learned + towers
    assert needs.total >= persistent(needs)


def test_shards_divide_what_is_sharded_and_nothing_else() -> None:
    one, eight = (memory(Training("stage2", strategy="fsdp", gpus=gpus)).rows for gpus in (1, 8))
    for name in ("weights: language model, trained", "weights: connector, trained", "gradients", "optimizer states"):
        assert eight[name][0] == -(-one[name][0] // 8)
    for name in ("weights: vision encoder", "gathered: two layers and the ends", "forward: connector"):
        assert eight[name] == one[name]


def test_replicas_hold_gradients_twice_and_one_gpu_does_not() -> None:
    buckets = "gradient buckets of DDP"
    two = memory(Training("lora", gpus=2)).rows
    assert two[buckets] == two["gradients"]
    assert buckets not in memory(Training("lora")).rows


def test_without_accumulation_gradients_wait_for_the_backward_pass() -> None:
    once, again = memory(Training("stage2", accumulate=1)), memory(Training("stage2", accumulate=2))
    assert again.at("forward") - once.at("forward") == again.rows["gradients"][0]
    assert again.at("backward") == once.at("backward")


def test_lower_resources_need_less() -> None:
    totals = [memory(Training(train)).total for train in ("stage2", "lora", "qlora")]
    assert totals == sorted(totals, reverse=True)
    states = [memory(Training(optimizer=name)).rows["optimizer states"][0] for name in ("adamw", "adamw8bit")]
    assert states[1] < states[0] / 3.8


@pytest.mark.parametrize("layers", [1, 5])
def test_what_is_said_of_many_layers_is_what_they_hold(layers: int) -> None:
    parts = tiny.configs()
    text = LlamaConfig(**{**parts["text_config"], "num_hidden_layers": layers})
    config = DynFocusModel.config_class(**{**parts, "text_config": text.to_dict()})
    towers = Towers(config.vision_config, config.qformer_config, text)
    for training in (Training("stage2", rows=2), Training("stage1", checkpointing=False)):
        whole = _watch_step(20, tiny.SETTINGS, training, towers)
        for moment, parts_at in watch_step(20, tiny.SETTINGS, training, towers).items():
            assert parts_at.total() == pytest.approx(whole[moment].total(), rel=0.02), moment


@pytest.mark.parametrize("wrong", [{"train": "qlora"}, {"optimizer": "adamw8bit"}])
def test_what_cannot_be_sharded_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="sharded"):
        Training(strategy="fsdp", **wrong)


@pytest.mark.parametrize("name", ["gpus", "rows", "slots", "rank", "accumulate", "text", "answer"])
def test_impossible_numbers_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} = -1"):
        Training(**{name: -1})


def test_a_card_keeps_a_twentieth_of_what_it_shows_for_fragments() -> None:
    assert list_fitting(int(0.95 * 22 * GIB)) == (24, 48, 80, 141)
    assert list_fitting(int(0.95 * 22 * GIB) + 1) == (48, 80, 141)
    assert list_fitting(132 * GIB) == (141,)
    assert list_fitting(200 * GIB) == ()


@pytest.mark.slow
def test_the_docs_hold_the_table_of_the_recipes() -> None:
    table = recipe_table(ROOT / "lightning_configs", 32)
    assert table in (ROOT / "docs/plan.md").read_text(), table
    rows = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in table.splitlines()}
    assert (rows["`stage1`, DDP"], rows["`stage2`, FSDP2"]) == ("16", "8")
