"""`dynfocus plan`: its numbers, its page, what it refuses, and which way to train needs more than which."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import CLIPConfig, LlamaConfig

from dynfocus.budget import budget
from dynfocus.cli import main
from dynfocus.errors import CheckpointError, ConfigError, VideoError
from dynfocus.plan import Plan, Training, list_numbers, list_tokens, make_plan, write_page
from dynfocus.plan.cards import PEAKS, data_sheet, list_fitting
from dynfocus.plan.flops import count_step_flops
from dynfocus.plan.memory import Memory, estimate_step
from dynfocus.plan.numbers import LONGEST, fit_context
from dynfocus.plan.plan import GPUS
from dynfocus.plan.towers import read_towers
from dynfocus.plan.ways import WAYS, list_ways
from dynfocus.settings import ConnectorSettings

PAPER = ConnectorSettings()


def page(plan: Plan) -> str:
    return "\n".join(write_page(plan))


def memory(frames: int, training: Training) -> Memory:
    return estimate_step(frames, PAPER, training, read_towers())


@pytest.mark.parametrize(
    ("frames", "events", "keep", "tokens"),
    [(1, None, None, 40), (16, None, None, 526), (32, None, None, 824), (200, 70, 0.4, 1464)],
)
def test_tokens_are_the_published_ones(frames: int, events: int | None, keep: float | None, tokens: int) -> None:
    numbers = list_tokens(make_plan(frames=frames, events=events, keep=keep))
    assert numbers["visual_tokens"] == numbers["cones"] + numbers["rods"] == tokens
    assert numbers["every_patch"] == 256 * frames
    assert numbers["prompt"]["asked"] == tokens + 64
    assert numbers["prompt"]["learned"] == tokens + 64 + 32


def test_each_turn_shows_the_video_again() -> None:
    once, thrice = (list_numbers(make_plan(frames=16, turns=turns)) for turns in (1, 3))
    assert thrice["prompt"]["asked"] - once["prompt"]["asked"] == 2 * 526
    for flops in ("answered", "learned"):
        one, three = once["flops"][flops], thrice["flops"][flops]
        assert three["vision"] == one["vision"]
        assert three["instruction"] == 3 * one["instruction"]
        assert 2.5 * one["connector"] < three["connector"] < 3 * one["connector"]  # but one sketch
    sizes = [numbers["memory"]["rows"]["forward: connector"]["bytes"] for numbers in (once, thrice)]
    assert sizes[0] < sizes[1] < 3 * sizes[0]  # one sketch here too


@given(st.integers(1, 3000), st.integers(1, 200), st.sampled_from([0.05, 0.4, 0.8, 1.0]), st.integers(1, 3))
def test_what_is_said_to_fit_fits_and_one_more_does_not(frames: int, events: int, keep: float, turns: int) -> None:
    plan = make_plan(frames=frames, events=events, keep=keep, turns=turns)
    fit, room = fit_context(plan), 4096 - 64 - 32

    def fits(frames: int, now: ConnectorSettings) -> bool:
        return turns * budget(frames, now).visual_tokens <= room

    assert fit["fits"] == fits(frames, plan.settings) == (fit["needed"] <= 4096)
    assert fit["frames"] == 0 or fits(fit["frames"], plan.settings)
    assert not fits(fit["frames"] + 1, plan.settings)
    assert fit["events"] is None or fits(frames, replace(plan.settings, events=fit["events"]))
    assert fit["keep"] is None or fits(frames, replace(plan.settings, keep=fit["keep"]))


def test_a_context_is_the_language_models_own(tmp_path: Path) -> None:
    LlamaConfig(max_position_embeddings=555).save_pretrained(tmp_path)
    plan = make_plan(frames=16, language_model=tmp_path)
    fit, text = list_tokens(plan)["context"], next(write_page(plan))
    assert (fit["tokens"], fit["needed"], fit["fits"]) == (555, 526 + 64 + 32, False)
    assert budget(fit["frames"], PAPER).visual_tokens <= 555 - 96 < budget(fit["frames"] + 1, PAPER).visual_tokens
    assert f"67 too many; each of these alone makes it fit: --frames {fit['frames']}, --events" in text
    nothing = make_plan(frames=16, language_model=tmp_path, text=600)
    assert list_tokens(nothing)["context"]["frames"] == 0
    assert "no T, L or K/L alone makes it fit" in next(write_page(nothing))


def test_average_pooling_has_no_events_to_tell_of() -> None:
    shown = page(Plan(20, replace(PAPER, encoder="average_pooling"), Training(precision="32")))
    assert "20 frames, each averaged, none chosen\nvisual tokens  320: 6.2% of the 5120 at 256 a frame" in shown
    assert "adamw, fp32:" in shown


def test_frames_that_cost_nothing_fit_in_any_number() -> None:
    free = Plan(16, replace(PAPER, redundant_tokens=0))
    assert fit_context(free)["frames"] is None
    assert "any number of frames does" in next(write_page(free))


def test_another_vision_encoder_gives_its_own_patches(tmp_path: Path) -> None:
    CLIPConfig(vision_config={"image_size": 336, "patch_size": 14, "hidden_size": 768}).save_pretrained(tmp_path)
    plan = make_plan(frames=4, vision=tmp_path)
    assert plan.settings.patches == plan.sizes.patches == 576
    assert list_numbers(plan)["visual_tokens"] == 4 * 40
    with pytest.raises(ConfigError, match=r"connector\.patches = 256 with a vision encoder of 576"):
        replace(plan, settings=PAPER)


def test_a_step_learns_from_the_global_batch() -> None:
    plan = make_plan(frames=16, rows=8, global_batch=128, gpus=4)
    flops = list_numbers(plan)["flops"]
    assert plan.training.accumulate == 4
    assert flops["step"] == 128 * flops["learned"]["total"]
    assert [plan.on(gpus).accumulate for gpus in (1, 16, 64)] == [16, 1, 1]
    assert plan.notes == ("128 rows a step are no whole batches of 8 on 32, 64 GPUs: lower batch_size there.",)
    assert make_plan(frames=16, rows=8, global_batch=512).notes == ()


def test_hours_are_the_flops_over_what_the_cards_are_assumed_to_reach() -> None:
    plan = make_plan(frames=32, gpus=8, epoch_rows=700_000, utilisation=0.5, card="a100")
    row = sum(count_step_flops(32, PAPER, Training(), read_towers()).values())
    hours = list_numbers(plan)["hours"]
    assert hours["hours"] == pytest.approx(700_000 * row / (8 * 0.5 * 312e12) / 3600)
    assert (hours["rows"], hours["gpus"], hours["card"], hours["utilisation"]) == (700_000, 8, "a100", 0.5)
    shown = page(plan)
    assert f"training on 700000 rows with 8 x a100: {hours['hours']:.1f} hours" in shown
    assert "if each reaches 50% of 312 TFLOP/s, its data sheet's dense bf16 peak (assumed)" in shown
    twice = list_numbers(replace(plan, training=plan.on(16)))["hours"]["hours"]
    assert twice == pytest.approx(hours["hours"] / 2)
    assert list_numbers(replace(plan, epoch_rows=None))["hours"] is None


def test_peaks_are_found_by_the_name_that_torch_gives_a_card() -> None:
    assert data_sheet("NVIDIA H200") == data_sheet("NVIDIA H100 80GB HBM3") == PEAKS["h100"] == 989e12
    assert data_sheet("NVIDIA A100-SXM4-80GB") == 312e12
    assert data_sheet("NVIDIA H100 PCIe") == PEAKS["h100-pcie"] < 989e12
    assert data_sheet("NVIDIA GeForce RTX 4090") == 165e12
    assert data_sheet("NVIDIA T4") is None


def test_the_table_holds_what_each_way_alone_says() -> None:
    plan = make_plan(frames=32, rows=8, optimizer="adamw8bit", checkpointing=False)
    ways = {(way["train"], way["strategy"], way["gpus"]): way for way in list_ways(plan)}
    assert set(ways) == {(*way, gpus) for way in WAYS for gpus in GPUS}
    for (train, strategy, gpus), way in ways.items():
        if strategy == "fsdp":
            assert way["size"] is None
            continue
        how = Training(train, gpus, rows=8, optimizer="adamw8bit", checkpointing=False)
        assert way["size"] == memory(32, how).total
        assert way["fits"] == list_fitting(way["size"])


@pytest.mark.parametrize(
    "options",
    [
        {"frames": 40, "rows": 3, "global_batch": 64},
        {"frames": 4, "rows": 16, "precision": "32", "checkpointing": False},
        {"frames": 300, "events": 80},
    ],
    ids=str,
)
def test_more_gpus_share_more_and_adapters_need_less(options: dict[str, Any]) -> None:
    precision = {"precision": options.pop("precision")} if "precision" in options else {}
    plan = make_plan(**options)
    plan = replace(plan, training=replace(plan.training, **precision))
    needs = {
        (train, strategy, gpus): memory(plan.frames, plan.on(gpus, train=train, strategy=strategy))
        for train, strategy in WAYS
        for gpus in GPUS
    }
    for train, strategy in WAYS:
        row = [needs[train, strategy, gpus].total for gpus in GPUS]
        if strategy == "fsdp":
            assert row == sorted(row, reverse=True)
    # What is computed is left out: adapters keep what goes through them too, and on long batches without checkpointing
    # that is more than the gradients and states they save.
    updates = {way: one.at("update") for way, one in needs.items()}
    for gpus in GPUS:
        assert updates["qlora", "ddp", gpus] < updates["lora", "ddp", gpus] < updates["stage2", "ddp", gpus]
        assert updates["stage1", "ddp", gpus] < updates["stage2", "ddp", gpus]
        if plan.training.checkpointing:
            row = [needs[train, "ddp", gpus].total for train in ("qlora", "lora", "stage2")]
            assert row == sorted(row)


@pytest.mark.parametrize("train", ["stage1", "lora"])
def test_more_frames_and_rows_never_need_less(train: Any) -> None:
    def needs(frames: int, rows: int) -> int:
        return memory(frames, Training(train, rows=rows)).total

    assert needs(1, 1) <= needs(20, 1) <= needs(20, 4) <= needs(100, 4)


def test_the_command_prints_a_short_page_and_details_where_a_way_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["plan", "--frames", "32", "--gpus", "8", "--strategy", "fsdp", "--no-checkpointing"]
    assert main(command) == 0
    short = capsys.readouterr().out
    assert len(short.splitlines()) <= 30
    assert max(map(len, short.splitlines())) <= 120
    assert "824 = 760 cones + 64 rods: 10.1% of the 8192 at 256 a frame" in short
    assert "920 of 4096 tokens: fits; up to 1620 frames do" in short
    assert "training, 1 row a GPU, 2 batches a step, every activation kept, adamw, bf16-mixed:" in short
    assert "-: cannot be sharded" not in short
    assert main([*command[:3], "--optimizer", "adamw8bit", "--rows", "8", "--global-batch", "128"]) == 0
    barred = capsys.readouterr().out
    assert "8 rows a GPU, 128 rows a step" in barred
    assert "-: cannot be sharded" in barred
    assert max(map(len, barred.splitlines())) <= 120
    assert main([*command, "--train", "lora"]) == 0
    shown = capsys.readouterr().out
    needs = memory(32, Training("lora", gpus=8, strategy="fsdp", checkpointing=False))
    assert f"lora fsdp on 8 GPUs: {needs.total / 2**30:.1f} GiB on each" in shown
    starred = [float(line.split()[-2]) for line in shown.splitlines() if line.endswith("*")]
    assert sum(starred[:-1]) == pytest.approx(starred[-1], abs=0.06)
    assert starred[-1] == pytest.approx(needs.total / 2**30, abs=0.005)


def test_the_commands_json_holds_finite_numbers_under_the_same_names(capsys: pytest.CaptureFixture[str]) -> None:
    def read_plan(*options: str) -> dict[str, Any]:
        assert main(["plan", "--frames", "32", "--json", *options]) == 0
        return json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))

    def shape(value: Any) -> Any:
        return {name: shape(part) for name, part in value.items()} if isinstance(value, dict) else None

    def plain(value: Any) -> list[Any]:
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return [leaf for part in parts for leaf in plain(part)] if isinstance(value, dict | list) else [value]

    numbers, other = read_plan(), read_plan("--events", "7", "--rows", "3", "--gpus", "2")
    assert all(math.isfinite(leaf) and leaf >= 0 for leaf in plain(numbers) if isinstance(leaf, int | float))
    rows = other["memory"]["rows"].pop("gradient buckets of DDP")
    assert rows["bytes"] == other["memory"]["rows"]["gradients"]["bytes"]
    assert shape(numbers) == shape(other)
    assert numbers["memory"]["total"] == memory(32, Training()).total
    assert other["prototypes"] == 7
    assert {"visual_tokens", "prompt", "context", "flops", "answering", "training", "memory", "ways"} <= set(numbers)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"frames": 0}, VideoError, "0 frames"),
        ({}, ConfigError, "no number of frames"),
        ({"frames": 3, "keep": 0.0}, ConfigError, "keep = 0.0"),
        ({"frames": 3, "keep": 1.1}, ConfigError, "keep = 1.1"),
        ({"frames": 3, "events": 0}, ConfigError, "events = 0"),
        ({"frames": 3, "gpus": 0}, ConfigError, "gpus = 0"),
        ({"frames": 3, "turns": 0}, ConfigError, "turns = 0"),
        ({"frames": 3, "new": 0}, ConfigError, "max_new_tokens = 0"),
        ({"frames": 3, "global_batch": 0}, ConfigError, "global_batch = 0"),
        ({"frames": 3, "epoch_rows": 0}, ConfigError, "epoch_rows = 0"),
        ({"frames": 3, "utilisation": 1.5}, ConfigError, "utilisation = 1.5"),
        ({"frames": 3, "train": "qlora", "strategy": "fsdp"}, ConfigError, "sharded"),
        ({"frames": 3, "encoders": Path("nowhere")}, CheckpointError, r"nowhere/config.json, which cannot be read"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_what_cannot_be_is_said_in_three_parts(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"{message}.*Needed: "):
        make_plan(**options)


def test_tokens_of_any_size_are_counted_and_flops_of_what_can_be_run() -> None:
    plan = make_plan(frames=10**20, rows=10**12, new=10**12)
    numbers = list_tokens(plan)
    assert numbers["context"]["events"] is numbers["context"]["keep"] is None
    assert numbers["kv_cache"]["bytes"] > 10**12 * numbers["kv_cache"]["bytes_a_token"]
    for large in (plan, make_plan(frames=3, rows=10**12)):
        with pytest.raises(ConfigError, match=f"FLOPs and memory of .*at most {LONGEST} frames"):
            list_numbers(large)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *[("[1]", "no JSON object"), ("{", "cannot be read"), ('{"model_type": "nothing"}', "cannot be read")],
        (json.dumps(LlamaConfig().to_dict() | {"num_attention_heads": 0}), "num_attention_heads = 0"),
        (json.dumps(LlamaConfig().to_dict() | {"hidden_size": "wide"}), "hidden_size = 'wide'"),
    ],
    ids=["list", "broken", "family", "heads", "width"],
)
def test_sizes_that_cannot_be_are_said(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=f"{message}.*Needed: "):
        make_plan(frames=3, language_model=tmp_path)


def test_files_of_lavis_are_taken_for_the_papers(tmp_path: Path) -> None:
    (tmp_path / "eva_vit_g.pth").touch()
    assert make_plan(frames=3, encoders=tmp_path).sizes == make_plan(frames=3).sizes
    towers, paper = read_towers(encoders=tmp_path), read_towers()
    assert towers.vision.to_dict() == paper.vision.to_dict()


def test_the_command_refuses_in_one_sentence() -> None:
    command = [sys.executable, "-m", "dynfocus", "plan", "--frames", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("dynfocus: a video of 0 frames. Needed: ")
    assert done.stdout == ""
