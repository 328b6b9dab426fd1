"""What `plan` says of answers: FLOPs as torch counts them, the KV cache's tensors, memory as the allocator tells it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from saved_models import processor
from test_bench_training import FRAMES, QUESTION, counted, random_step, shapes
from test_memory_measured import FRAMES as LONG
from test_memory_measured import allocated, random_model, sizes_of
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config

from dynfocus.budget import budget
from dynfocus.models.export import export
from dynfocus.models.model import DynFocusModel
from dynfocus.plan import TOWERS, Memory, Plan, Training, memory, numbers, page
from dynfocus.plan.answer_memory import ANSWERING, answering_memory, kv_bytes
from dynfocus.plan.flops import answer_flops
from dynfocus.plan.from_folders import read_towers
from dynfocus.plan.towers import LanguageSizes, parameters
from dynfocus.settings import ConnectorSettings, LoraSettings
from dynfocus.train.build import Building

PAPER = ConnectorSettings()
SMALL = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "vocab_size": 50}
HEADS = {"num_attention_heads": 8, "num_key_value_heads": 2}


@pytest.mark.parametrize("train", ["stage2", "lora"])
def test_the_operations_of_an_answer_are_those_that_torch_counts(train: Any) -> None:
    one, new = random_step(train, rows=1), 4
    one.model.vision.encoder.set_attn_implementation("eager")  # torch counts no fused attention on a CPU
    one.model.instruction.encoder.set_attn_implementation("eager")
    asked = replace(one.training, text=one.training.text + one.training.answer, answer=0)
    found = answer_flops(FRAMES, tiny.SETTINGS, asked, shapes().towers, new, QUESTION)
    parts = counted(lambda: one.model.eval().answer(one.batch, max_new_tokens=new, min_new_tokens=new))
    connecting = counted(lambda: one.model.connect(one.batch))
    first = counted(lambda: one.model.answer(one.batch, max_new_tokens=1))
    assert parts["VisionTower"] == found.vision
    assert parts["InstructionTower"] == found.instruction
    whole, prompt = (one_of["Global"] - connecting["Global"] for one_of in (parts, first))
    assert prompt == pytest.approx(found.prefill, rel=0.002)  # angles of positions aside
    assert whole - prompt == pytest.approx(found.generation, rel=0.002)
    assert parts["Global"] == pytest.approx(found.total, rel=0.1)
    assert found.new_token == pytest.approx(found.generation / (new - 1), rel=0.01)


@pytest.mark.parametrize("number", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SMALL, **HEADS),
        LlamaConfig(**SMALL, num_attention_heads=4, head_dim=24),
        Qwen2Config(**SMALL, **HEADS),
        MistralConfig(**SMALL, **HEADS, sliding_window=10),
        Qwen2Config(**SMALL, **HEADS, use_sliding_window=True, sliding_window=10, max_window_layers=2),
    ],
    ids=["llama", "llama-head", "qwen2", "mistral-sliding", "qwen2-sliding"],
)
def test_the_cache_of_keys_and_values_is_counted_to_the_last_byte(
    config: Any, number: torch.dtype, tmp_path: Any
) -> None:
    model = AutoModelForCausalLM.from_config(config, dtype=number).eval()
    config.save_pretrained(tmp_path)
    prompt, new = 17, 5
    with torch.no_grad():
        embeds = model.get_input_embeddings()(torch.arange(prompt)[None])
        made: Any = model.generate(
            inputs_embeds=embeds,
            attention_mask=torch.ones(1, prompt, dtype=torch.long),
            **{"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "pad_token_id": 0},
            return_dict_in_generate=True,
        )
    layers = made.past_key_values.layers
    held = sum(part.numel() * part.element_size() for layer in layers for part in (layer.keys, layer.values))
    assert kv_bytes(read_towers(language_model=tmp_path).language, prompt + new - 1, number.itemsize) == held


def test_the_cache_of_seven_billion_takes_half_a_mebibyte_a_token() -> None:
    assert kv_bytes(TOWERS.language, 1) == 2 * 32 * 4096 * 2 == 1 << 19
    shared = replace(TOWERS.language, num_key_value_heads=8)
    assert kv_bytes(shared, 4096) * 4 == kv_bytes(TOWERS.language, 4096)


@pytest.mark.parametrize(
    ("hidden", "mlp", "layers", "vocab", "rows", "number"),
    [
        *[(128, 352, 4, 256, 3, torch.float32), (256, 704, 8, 256, 1, torch.bfloat16)],
        (512, 1024, 3, 8192, 1, torch.bfloat16),
    ],
)
def test_the_memory_of_an_answer_is_within_a_quarter(
    hidden: int, mlp: int, layers: int, vocab: int, rows: int, number: torch.dtype
) -> None:
    model, new = random_model(hidden, mlp, layers, vocab).eval(), 4
    sizes = sizes_of(model)
    model.language_model.to(number)
    batch = tiny.batch([LONG] * rows)
    text = batch.input_ids.shape[1] - budget(LONG, tiny.SETTINGS).visual_tokens
    precision: Any = "32" if number == torch.float32 else "bf16-mixed"
    asked = Training("stage1", rows=rows, text=text, answer=0, precision=precision)
    needs = answering_memory(LONG, tiny.SETTINGS, asked, new, sizes, overhead=0)
    weights = sum(row.size for row in needs.rows if row.name.startswith("weights"))

    def work() -> None:
        model.answer(batch, max_new_tokens=new, min_new_tokens=new)

    work()
    assert needs.total - weights == pytest.approx(allocated(work), rel=0.25)


@pytest.mark.parametrize(("train", "precision"), [("stage2", "bf16-mixed"), ("stage2", "32"), ("lora", "bf16-mixed")])
def test_what_a_run_leaves_answers_with_the_planned_weights(train: Any, precision: Any, tmp_path: Path) -> None:
    towers, lora = tiny.towers(tmp_path / "towers"), LoraSettings(rank=3) if train == "lora" else None
    made = Building(*towers, tiny.SETTINGS, "stage2", lora=lora).build(precision)
    made.save(tmp_path / "left")
    processor(made).save_pretrained(tmp_path / "left")
    export(tmp_path / "left", tmp_path / "exported", merge=True, dtype="bfloat16")
    training = Training(train, rank=3, precision=precision)
    plan = Plan(9, tiny.SETTINGS, training, read_towers(*towers))

    def held(part: nn.Module) -> int:
        return sum(weight.numel() * weight.element_size() for weight in part.parameters())

    def planned(needs: Memory) -> dict[str, int]:
        rows = {row.name: row.size for row in needs.rows}
        adapters = rows.get("weights: adapters", 0)
        return {
            "vision": rows["weights: vision encoder"],
            "instruction": rows["weights: instruction encoder"],
            "connector": rows["weights: connector"],
            "language_model": rows["weights: language model"] + adapters,
        }

    for folder, asked in (("left", plan.asked), ("exported", plan.exported)):
        model = DynFocusModel.from_folder(tmp_path / folder)
        needs = answering_memory(9, tiny.SETTINGS, asked, 1, plan.towers)
        assert planned(needs) == {name: held(part) for name, part in model.named_children()}, folder


def test_a_model_left_in_fp32_is_told_beside_its_export() -> None:
    told = {train: numbers(Plan(32, training=Training(train))) for train in ("stage1", "stage2")}
    whole, half = told["stage2"]["answering"], told["stage2"]["exported"]
    names = "weights: language model", "KV cache"
    assert all(whole["rows"][name]["bytes"] == 2 * half["rows"][name]["bytes"] for name in names)
    assert whole["kv_bytes_a_token"] == 2 * told["stage1"]["answering"]["kv_bytes_a_token"]
    assert "the same, exported in bfloat16: 16.2 GiB = 14.9 of weights" in page(told["stage2"])
    assert "exported" not in page(told["stage1"])


def test_weights_that_answer_are_those_of_the_towers() -> None:
    needs = answering_memory(32, PAPER, Training("lora", answer=0), 16)
    assert needs["weights: language model"] == 2 * 6_738_415_616
    assert needs["weights: connector"] == 4 * parameters(TOWERS.connector(PAPER))
    assert needs["weights: adapters"] == memory(32, PAPER, Training("lora"))["weights: adapters, trained"]
    packed = answering_memory(32, PAPER, Training("qlora", answer=0), 16)
    assert packed["weights: language model"] < 0.3 * needs["weights: language model"]
    assert needs.worst in ANSWERING


@given(st.integers(1, 2000), st.integers(1, 200), st.integers(1, 64))
def test_longer_videos_and_answers_never_need_less(frames: int, more: int, new: int) -> None:
    def needs(frames: int, new: int) -> tuple[int, int]:
        asked = Training("stage2", answer=0)
        total = answering_memory(frames, PAPER, asked, new).total
        return total, answer_flops(frames, PAPER, asked, TOWERS, new).total

    least = needs(frames, new)
    for longer in (needs(frames + more, new), needs(frames, new + more)):
        assert all(one <= two for one, two in zip(least, longer, strict=True))


def test_what_a_model_shares_it_caches_once() -> None:
    sizes = LanguageSizes(hidden_size=64, num_attention_heads=8, num_key_value_heads=2, num_hidden_layers=3)
    assert kv_bytes(sizes, 10, 4) == 2 * 3 * 16 * 10 * 4
