"""Gates on what the connector may cost: counts and growth, not seconds."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from statistics import median
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from dynfocus.budget import budget
from dynfocus.device import one_thread
from dynfocus.method import cce, distances
from dynfocus.plan.connector_flops import Sizes
from dynfocus.settings import ConnectorSettings
from perf.cases import Bench, count_answer, count_step
from perf.long import measure_top_k
from perf.peak_memory import extra_peak, free_at_once
from perf.roofline import seconds

DEFAULTS = ConnectorSettings()
NARROW = Sizes(width=32, text=16, out=48, question=8)  # counts do not depend on widths
FORWARD, BACKWARD, SYNCS = 200, 150, 10
MEGABYTE, GIGABYTE = 10**6, 10**9


@pytest.fixture(scope="module")
def counts() -> dict[int, tuple[dict[str, Any], dict[str, Any]]]:
    """Of an answer and of a training step, of one video in one chunk, by its frames."""
    made = {frames: Bench(DEFAULTS, NARROW, chunk=frames) for frames in (30, 64, 200)}
    return {frames: (count_answer(one, frames), count_step(one, frames)) for frames, one in made.items()}


def test_one_chunk_takes_few_operations(counts: dict) -> None:
    for answer, step in counts.values():
        assert answer["operations_forward"] <= FORWARD
        assert step["operations_forward"] <= FORWARD
        assert step["operations_backward"] <= BACKWARD


def test_one_chunk_waits_seldom(counts: dict) -> None:
    for answer, step in counts.values():
        assert answer["syncs"] <= SYNCS
        assert step["syncs"] <= SYNCS


def test_longer_videos_take_no_more_operations(counts: dict) -> None:
    for kind in (0, 1):
        result = [{**both[kind], "tokens": 0} for both in counts.values()]
        assert result[0] == result[1] == result[2]
        assert [both[kind]["tokens"] for both in counts.values()] == [budget(t, DEFAULTS).visual_tokens for t in counts]


def test_another_chunk_repeats_the_sketch_alone() -> None:
    made = (Bench(DEFAULTS, NARROW, chunk=chunk) for chunk in (32, 16, 8))
    two, four, eight = (count_answer(one, 64)["operations_forward"] for one in made)
    assert 0 < four - two < two
    assert eight - four == 2 * (four - two)


def test_a_training_step_grows_slower_than_its_video() -> None:
    made = Bench(DEFAULTS, Sizes(width=704, text=384, out=2048))  # half of ViT-G's: seconds then grow to about 2.2
    steps = {frames: partial(made.step, frames) for frames in (64, 256)}
    products = []
    with one_thread():
        for step in steps.values():
            with FlopCounterMode(display=False) as counter:
                step()
            products.append(counter.get_total_flops())
        spent = [{frames: seconds(step) for frames, step in steps.items()} for _ in range(3)]
    assert products[1] <= 2.0 * products[0]  # 1.92: counted, so near its gate, which noise keeps seconds away from
    assert median(turn[256] / turn[64] for turn in spent) <= 4.0


def apart(work: Callable[..., Any], *asked: Any) -> Any:
    """What ``work`` gives in a process of its own, where nothing of other tests is weighed, nor checks of shapes."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(work, *asked).result()


def test_the_perturbed_top_k_counts_instead_of_keeping_every_choice() -> None:
    extra = apart(measure_top_k, 1000, 450, 500)["extra_bytes"]
    assert extra is not None
    assert extra <= 20 * MEGABYTE  # noise and counts are 2 MB each; every choice would be 900


def content(settings: ConnectorSettings, sizes: Sizes, frames: int) -> tuple[int, int]:
    """The extra memory of a video from patches to tokens, and what its sketch and its tokens need at least."""
    made = Bench(settings, sizes)
    tokens = budget(frames, settings).visual_tokens
    with one_thread():
        made.answer(64)
        result = []
        extra = extra_peak(lambda: result.append(made.answer(frames).tokens.shape[1]))
    assert result == [tokens]
    assert extra is not None
    bytes_each = torch.finfo(getattr(torch, settings.sketch_dtype)).bits // 8
    sketch = frames * (settings.pooled + settings.grains) * sizes.width * bytes_each
    return extra, sketch + tokens * sizes.out * 4


def held_in_blocks(block: int, *asked: Any) -> tuple[int, int]:
    with pytest.MonkeyPatch.context() as patch, free_at_once():
        for module in (distances, cce):
            patch.setattr(module, "BLOCK", block)
        patch.setattr(distances, "SLICE", 4 * block)
        return content(*asked)


def test_a_long_video_takes_its_sketch_and_its_distances() -> None:
    settings, sizes, frames = replace(DEFAULTS, patches=64, sketch_dtype="float16"), Sizes(1024, 32, 64, 8), 3072
    extra, least = apart(held_in_blocks, 64, settings, sizes, frames)  # blocks so small that 3072 frames are many
    least += 4 * frames**2
    pooled, patches = (frames * rows * sizes.width * 2 for rows in (settings.pooled, settings.patches))
    assert 0.9 * least < extra < least + 0.4 * min(pooled, patches)  # no room for a copy of f_t, nor for V


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "most"), [("float16", 2 * GIGABYTE), ("float32", 3 * GIGABYTE)])
def test_hours_of_video_fit(precision: Any, most: int) -> None:
    with free_at_once():
        extra, least = content(replace(DEFAULTS, sketch_dtype=precision), Sizes(), 10_000)
    assert least < extra < most
