"""Two real processes learn what one learns, replicated (DDP) and sharded (FSDP2): losses and weights to 5 digits."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from training_ranks import NOISY, Rows, TrainingResult, both, learn, same

from dynfocus.models.collate import Example
from dynfocus.settings import LoraSettings

STRATEGIES = ["ddp", "sharded"]


def sketches(counts: Sequence[int], start: int = 0) -> list[Example]:
    """Rows about videos of so many frames, 0 for text alone; the first of four has three turns, the others one."""
    return [
        tiny.example(start + n, count or 1, NOISY, media="v.mp4" if count else None, turns=1 if n % 4 else 3)
        for n, count in enumerate(counts)
    ]


def pixels(counts: Sequence[int], start: int = 0) -> list[Example]:
    """The same with frames, as where no sketch is cached."""
    return [
        replace(one, sketch=None, frames=tiny.frames(count or 1, start + n))
        for n, (one, count) in enumerate(zip(sketches(counts, start), counts, strict=True))
    ]


def sketch_frames(example: Example) -> Example:
    assert example.frames is not None
    return replace(example, sketch=tiny.model(NOISY).sketch(example.frames), frames=None)


# The first half of a step's rows is the first process's.
UNEVEN = [sketches([9, 3, 5, 7], 0), sketches([6, 0, 8, 12], 4), sketches([4, 4, 2, 9], 8)]
TEXT_ON_ONE = [sketches([0, 0, 5, 7], 0), sketches([9, 6, 0, 0], 4), sketches([0, 0, 2, 9], 8)]
FRAMES = [pixels([9, 3, 5, 7], 0), pixels([40, 0, 8, 12], 4), pixels([0, 0, 2, 20], 8)]  # encoded 16 at once
SHORT = [pixels([1, 2, 2, 3], 0), pixels([0, 3, 17, 1], 4)]
HALF_CACHED = [[*rows[:2], *map(sketch_frames, rows[2:])] for rows in FRAMES]
FRAME_MODE = replace(NOISY, instruction_mode="frame")
ALL_PATCHES = replace(NOISY, kept_tokens=256, events=3)


@dataclass
class Case:
    """Rows and settings; two processes may differ from one in how they hold them."""

    steps: Rows
    options: dict[str, Any] = field(default_factory=dict)
    two: dict[str, Any] = field(default_factory=dict)
    rows_of_two: Rows | None = None


CASES = {
    "other numbers of targets": Case(UNEVEN),
    "four batches a step": Case(UNEVEN, two={"accumulate": 2}),
    "one accumulates": Case(UNEVEN, {"accumulate": 2}, {"accumulate": 1}),
    "text alone on one": Case(TEXT_ON_ONE),
    "a cached half": Case(FRAMES, rows_of_two=HALF_CACHED),
    "sharded towers": Case(FRAMES, two={"shard_towers": True}),
    "sharded towers, a cached half": Case(FRAMES, two={"shard_towers": True}, rows_of_two=HALF_CACHED),
    "sharded towers in frame mode": Case(FRAMES, {"settings": FRAME_MODE}, {"shard_towers": True}),
    "sharded towers, every patch": Case(SHORT, {"settings": ALL_PATCHES}, {"shard_towers": True}),
    "a learning Q-Former": Case(UNEVEN, {"train_instruction": True}),
    "a learning Q-Former in frame mode": Case(FRAMES, {"settings": FRAME_MODE, "train_instruction": True}),
    "sharded towers beside a learning Q-Former": Case(
        FRAMES, {"settings": FRAME_MODE, "train_instruction": True}, {"shard_towers": True}
    ),
    "a score net without gradient": Case(UNEVEN, {"settings": replace(NOISY, keep=1.0)}),
    "no cones": Case(TEXT_ON_ONE, {"settings": replace(NOISY, kept_tokens=2)}),
    "no visual tokens of kept frames": Case(TEXT_ON_ONE, {"settings": replace(NOISY, kept_tokens=0)}),
    "no noise": Case(UNEVEN, {"settings": replace(NOISY, sigma=0.0)}),
    "average pooling": Case(TEXT_ON_ONE, {"settings": replace(NOISY, encoder="average_pooling")}),
    "stage 1": Case(UNEVEN, {"stage": "stage1"}),
    "adapters": Case(UNEVEN, {"lora": LoraSettings(4, 8, 0.0)}),
    "activations computed twice": Case(UNEVEN, two={"activation_checkpointing": True}),
}
SLOW = {
    *(("ddp", name) for name in ("four batches a step", "a cached half", "a learning Q-Former in frame mode")),
    *(("sharded", name) for name in ("one accumulates", "sharded towers", "a learning Q-Former", "no cones")),
    *(("sharded", name) for name in ("a learning Q-Former in frame mode", "a score net without gradient")),
    *((kind, name) for kind in STRATEGIES for name in ("average pooling", "stage 1", "activations computed twice")),
}
PAIRS = [
    pytest.param(kind, name, marks=[pytest.mark.slow] if (kind, name) in SLOW else [])
    for kind in STRATEGIES
    for name in CASES
    if kind == "sharded" or "towers" not in name
]
_ALONE: dict[str, TrainingResult] = {}


def alone(towers: Path, name: str) -> TrainingResult:
    """What one process learns, computed once."""
    if name not in _ALONE:
        _ALONE[name] = learn(towers, "one", CASES[name].steps, **CASES[name].options)
    return _ALONE[name]


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_two_processes_learn_what_one_learns(towers: Path, kind: str, name: str) -> None:
    case = CASES[name]
    learned = both(towers, kind, case.rows_of_two or case.steps, **{**case.options, **case.two})
    same(learned, alone(towers, name))


def test_the_rows_tell_a_mean_of_means_from_a_mean(towers: Path) -> None:
    processor = tiny.processor(NOISY, answers=True)
    for rows in UNEVEN:
        first, second = (int(processor(half).targets) for half in (rows[:2], rows[2:]))
        assert max(first, second) > 1.3 * min(first, second)


@pytest.mark.parametrize("kind", STRATEGIES)
def test_the_gradient_is_clipped_as_a_whole(towers: Path, kind: str) -> None:
    """At a length that some steps exceed and others do not."""
    length = sorted(alone(towers, "other numbers of targets").norms)[1] * 1.01
    one, two = (work(towers, name, UNEVEN, clip=length) for work, name in ((learn, "one"), (both, kind)))
    assert max(one.norms) == pytest.approx(length, rel=1e-4)
    assert min(one.norms) < 0.999 * length
    same(two, one)


@pytest.mark.parametrize("kind", STRATEGIES)
def test_validation_in_between_counts_every_row_once(towers: Path, kind: str) -> None:
    """Three rows on two processes: one of them answers an extra one."""
    val_rows = [tiny.example(n, 4 + n, NOISY, segments=((n,),)) for n in range(3)]
    one = learn(towers, "one", UNEVEN, val_rows=val_rows)
    two = both(towers, kind, UNEVEN, val_rows=val_rows)
    same(two, one)
    assert one.metrics["val/visual_tokens"] > 0
    assert two.metrics == pytest.approx(one.metrics, rel=1e-6)


@pytest.mark.parametrize("kind", STRATEGIES)
def test_half_precision_stays_near(towers: Path, kind: str) -> None:
    full, half = alone(towers, "other numbers of targets"), both(towers, kind, UNEVEN, precision="bf16-mixed")
    assert half.losses == pytest.approx(full.losses, rel=0.05)
    assert half.losses != full.losses
    assert {weight.dtype for name, weight in half.weights.items() if "connector" in name} == {torch.float32}
