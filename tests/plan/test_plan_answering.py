"""What `plan` says of answers: FLOPs as torch counts them, the KV cache's tensors, memory as the allocator tells it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from saved_models import processor
from tiny_steps import FRAMES, LONG, count_flops, list_towers, measure_allocated, random_model, random_step, shapes
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config

from dynfocus.budget import budget
from dynfocus.models.export import export
from dynfocus.models.model import DynFocusModel
from dynfocus.plan import Plan, Training, list_numbers, write_page
from dynfocus.plan.flops import count_answer_flops
from dynfocus.plan.memory import ANSWER, Memory, estimate_answer, estimate_step
from dynfocus.plan.sizes import Sizes, language_sizes, read_sizes
from dynfocus.plan.towers import read_towers
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
    training = replace(one.training, text=one.training.text + one.training.answer, answer=0)
    planned = count_answer_flops(FRAMES, tiny.SETTINGS, training, shapes().towers, new)
    parts = count_flops(lambda: one.model.eval().answer(one.batch, max_new_tokens=new, min_new_tokens=new))
    connecting = count_flops(lambda: one.model.connect(one.batch))
    first = count_flops(lambda: one.model.answer(one.batch, max_new_tokens=1))
    assert parts["VisionTower"] == planned["vision"]
    assert parts["InstructionTower"] == planned["instruction"]
    whole, prompt = (one_of["Global"] - connecting["Global"] for one_of in (parts, first))
    assert prompt == pytest.approx(planned["prefill"], rel=0.002)  # angles of positions aside
    assert whole - prompt == pytest.approx(planned["generation"], rel=0.002)
    assert parts["Global"] == pytest.approx(sum(planned.values()) - planned["new_token"], rel=0.1)
    assert planned["new_token"] == pytest.approx(planned["generation"] / (new - 1), rel=0.01)


def test_every_block_that_instructblips_files_hold_is_counted() -> None:
    width, hidden, rows = 1408, 6144, 257
    block = 2 * rows * (4 * width**2 + 2 * width * hidden) + 2 * 2 * rows**2 * width
    stem = 2 * 256 * width * 3 * 14**2
    flops = count_answer_flops(1, PAPER, Training(), read_towers(), 1)["vision"]
    assert flops == 39 * block + stem


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
    size = sum(part.numel() * part.element_size() for layer in layers for part in (layer.keys, layer.values))
    assert read_sizes(language_model=tmp_path).kv_bytes(prompt + new - 1, number.itemsize) == size


def test_the_cache_of_seven_billion_takes_half_a_mebibyte_a_token() -> None:
    assert Sizes().kv_bytes(1) == 2 * 32 * 4096 * 2 == 1 << 19
    shared = LlamaConfig(num_key_value_heads=8, max_position_embeddings=4096)
    assert Sizes(**language_sizes(shared)).kv_bytes(4096) * 4 == Sizes().kv_bytes(4096)


def test_the_sizes_known_without_torch_are_those_of_the_papers_towers() -> None:
    towers = read_towers()
    assert Sizes(**language_sizes(towers.language)) == Sizes()
    assert (towers.vision.image_size // towers.vision.patch_size) ** 2 == Sizes().patches


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
    towers = list_towers(model)
    model.language_model.to(number)
    batch = tiny.batch([LONG] * rows)
    text = batch.input_ids.shape[1] - budget(LONG, tiny.SETTINGS).visual_tokens
    precision: Any = "32" if number == torch.float32 else "bf16-mixed"
    asked = Training("stage1", rows=rows, text=text, answer=0, precision=precision)
    needs = estimate_answer(LONG, tiny.SETTINGS, asked, new, towers, overhead=0)
    weights = sum(size for name, (size, _) in needs.rows.items() if name.startswith("weights"))

    def work() -> None:
        model.answer(batch, max_new_tokens=new, min_new_tokens=new)

    work()
    assert needs.total - weights == pytest.approx(measure_allocated(work), rel=0.25)


@pytest.mark.parametrize(("train", "precision"), [("stage2", "bf16-mixed"), ("stage2", "32"), ("lora", "bf16-mixed")])
def test_what_a_run_leaves_answers_with_the_planned_weights(train: Any, precision: Any, tmp_path: Path) -> None:
    towers, lora = tiny.towers(tmp_path / "towers"), LoraSettings(rank=3) if train == "lora" else None
    made = Building(*towers, tiny.SETTINGS, "stage2", lora=lora).build(precision)
    made.save(tmp_path / "left")
    processor(made).save_pretrained(tmp_path / "left")
    export(tmp_path / "left", tmp_path / "exported", merge=True, dtype="bfloat16")
    training = Training(train, rank=3, precision=precision)
    plan = Plan(9, tiny.SETTINGS, training, read_sizes(*towers))

    def count_bytes(part: nn.Module) -> int:
        return sum(weight.numel() * weight.element_size() for weight in part.parameters())

    def bytes_of_parts(needs: Memory) -> dict[str, int]:
        rows = {name: size for name, (size, _) in needs.rows.items()}
        adapters = rows.get("weights: adapters", 0)
        return {
            "vision": rows["weights: vision encoder"],
            "instruction": rows["weights: instruction encoder"],
            "connector": rows["weights: connector"],
            "language_model": rows["weights: language model"] + adapters,
        }

    for folder, how in (("left", plan.asked), ("exported", plan.exported)):
        model = DynFocusModel.from_folder(tmp_path / folder)
        needs = estimate_answer(9, tiny.SETTINGS, how, 1, read_towers(*towers))
        assert bytes_of_parts(needs) == {name: count_bytes(part) for name, part in model.named_children()}, folder


def test_a_model_left_in_fp32_is_told_beside_its_export() -> None:
    plans = {train: Plan(32, training=Training(train)) for train in ("stage1", "stage2")}
    numbers = {train: list_numbers(plan) for train, plan in plans.items()}
    whole, half = numbers["stage2"]["answering"], numbers["stage2"]["exported"]
    names = "weights: language model", "KV cache"
    assert all(whole["rows"][name]["bytes"] == 2 * half["rows"][name]["bytes"] for name in names)
    cache = {train: one["kv_cache"] for train, one in numbers.items()}
    assert cache["stage2"]["bytes_a_token"] == 2 * cache["stage1"]["bytes_a_token"]
    assert cache["stage2"]["bytes"] == whole["rows"]["KV cache"]["bytes"]
    assert cache["stage2"]["exported"] == half["rows"]["KV cache"]["bytes"]
    text = "".join(write_page(plans["stage2"]))
    assert "the same, exported in bfloat16: 16.2 GiB = 14.9 of weights + 0.4 of KV cache" in text
    assert "KV cache       0.9 GiB, 1 MiB a token; 0.4 GiB where exported in bfloat16" in text
    assert "exported" not in "".join(write_page(plans["stage1"]))


def test_weights_that_answer_are_those_of_the_towers() -> None:
    towers = read_towers()
    needs = estimate_answer(32, PAPER, Training("lora", answer=0), 16, towers)
    sizes = {name: size for name, (size, _) in needs.rows.items()}
    assert sizes["weights: language model"] == 2 * 6_738_415_616
    assert sizes["weights: connector"] == 4 * 50_159_872
    step = estimate_step(32, PAPER, Training("lora"), towers)
    assert sizes["weights: adapters"] == step.rows["weights: adapters, trained"][0]
    packed = estimate_answer(32, PAPER, Training("qlora", answer=0), 16, towers)
    assert packed.rows["weights: language model"][0] < 0.3 * sizes["weights: language model"]
    assert needs.worst in ANSWER


def test_longer_videos_and_answers_never_need_less() -> None:
    def needs(frames: int, new: int) -> tuple[int, int]:
        asked, towers = Training("stage2", answer=0), read_towers()
        total = estimate_answer(frames, PAPER, asked, new, towers).total
        return total, sum(count_answer_flops(frames, PAPER, asked, towers, new).values())

    for frames, new in ((1, 1), (40, 16)):
        least = needs(frames, new)
        for longer in (needs(frames + 200, new), needs(frames, new + 10)):
            assert all(one <= two for one, two in zip(least, longer, strict=True))
