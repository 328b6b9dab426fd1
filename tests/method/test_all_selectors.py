"""What every selector by name keeps to: different real frames in time order, whatever the video and the batch."""

import inspect
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dynfocus.method.selectors import SELECTORS, build_selector, choose
from dynfocus.method.selectors.base import Reads
from dynfocus.types import FrameSketch, stack_sketches

NAMES = sorted(SELECTORS)
BEYOND = (
    "dpe",
    "dpe_question",
    "dpe_question_time",
    "dpe_frozen",
)  # they keep representatives, of which a video has at most L


def build(choice: Any, **changes: Any) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        own = replace(tiny.SETTINGS, selector=choice, **changes)
        return build_selector(own, tiny.WIDTH, tiny.TEXT_WIDTH).eval()


def numbers(frames: int, seed: int, equal: bool = False) -> tuple[Tensor, Tensor]:
    """Frames that a question needs, and the relevance of each, of which some or all are equal."""
    random = torch.randint(0, 1 if equal else 4, (1, frames), generator=tiny.generator(seed))
    return random > 2, random / 4


def kept(select: torch.nn.Module, one: FrameSketch, keep: list[int], relevant: Tensor, relevance: Tensor) -> list:
    focus = choose(select, one, tiny.inputs(one, keep, 5, 0, relevant, relevance))
    return [frames[real].tolist() for frames, real in zip(focus.frames, focus.mask, strict=True)]


def pad(values: Tensor, more: int, fill: float) -> Tensor:
    return torch.cat([values, values.new_full((len(values), more), fill)], 1)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data(), frames=st.integers(1, 14), more=st.integers(0, 3), seed=st.integers(0, 5))
@settings(max_examples=7)
def test_keeps_different_real_frames_in_time_order_whatever_stands_beside_them(
    name: str, data: st.DataObject, frames: int, more: int, seed: int
) -> None:
    keep = data.draw(st.integers(1, min(frames, 5) if name in BEYOND else frames))
    select, one, (relevant, relevance) = build(name), tiny.sketch(frames, seed), numbers(frames, seed)
    result = kept(select, one, [keep], relevant, relevance)
    assert result == [sorted(set(result[0]))]
    assert len(result[0]) == keep
    assert 0 <= result[0][0] <= result[0][-1] < frames
    padded = tiny.pad_sketch(one, more)
    assert kept(select, padded, [keep], pad(relevant, more, 1), pad(relevance, more, 9.0)) == result
    other, (needs, fits) = tiny.sketch(9, seed + 1), numbers(9, seed + 1)
    most = max(frames, 9)
    both = [
        torch.cat([pad(own, most - frames, 1), pad(others, most - 9, 1)])
        for own, others in ((relevant, needs), (relevance, fits))
    ]
    assert kept(select, stack_sketches([one, other]), [keep, 2], both[0], both[1])[0] == result[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("frames", [1, 2, 12])
@pytest.mark.parametrize("half", [False, True])
def test_keeps_k_frames_where_all_are_alike(name: str, frames: int, half: bool) -> None:
    """A still video whose frames all fit the question alike, in full and in half precision."""
    one = tiny.sketch(frames)
    still = replace(one, pooled=one.pooled[:, :1].expand_as(one.pooled), grains=one.grains[:, :1].expand_as(one.grains))
    if half:
        still = replace(still, pooled=still.pooled.half(), grains=still.grains.half())
    relevant, relevance = numbers(frames, 0, equal=True)
    for keep in {1, min(frames, 4)} | ({frames} if name not in BEYOND else set()):
        result = kept(build(name), still, [keep], relevant, relevance)
        assert result[0] == sorted(set(result[0]))
        assert len(result[0]) == keep


@pytest.mark.parametrize("name", [name for name in NAMES if name not in BEYOND])
def test_keeps_all_frames_where_as_many_are_asked_for(name: str) -> None:
    one, (relevant, relevance) = tiny.sketch(11), numbers(11, 1)
    assert kept(build(name), one, [11], relevant, relevance) == [list(range(11))]


@pytest.mark.parametrize("name", NAMES)
def test_reads_what_it_says(name: str) -> None:
    """Other frames, another question or other truth change nothing for a selector that does not read them."""
    reads = build(name).reads
    assert reads in get_args(Reads)
    differ = {"frames": 0, "question": 0, "truth": 0}
    for seed in range(8):
        one, (relevant, relevance) = tiny.sketch(12, seed), numbers(12, seed)
        truth, question = numbers(12, seed + 20)
        select = build(name)
        before = kept(select, one, [3], relevant, relevance)
        differ["frames"] += kept(select, tiny.sketch(12, seed + 9), [3], relevant, relevance) != before
        focus = choose(select, one, replace(tiny.inputs(one, [3], 5, 0, relevant, question), question=OTHER))
        differ["question"] += focus.frames.tolist() != before
        differ["truth"] += kept(select, one, [3], truth, relevance) != before
    changes = {what for what, count in differ.items() if count}
    wanted = {
        "nothing": [set()],
        "frames": [{"frames"}],
        "network": [{"frames"}],
        "question": [{"question"}, {"frames", "question"}],
        "network and question": [{"frames", "question"}],
        "truth": [{"truth"}],
    }
    assert changes in wanted[reads]


OTHER = torch.randn(1, 4, tiny.TEXT_WIDTH, generator=tiny.generator(77)) * 30


@pytest.mark.parametrize("name", NAMES)
def test_first_line_says_in_one_line_what_it_keeps(name: str) -> None:
    text = inspect.getdoc(SELECTORS[name]) or ""
    assert len(text.splitlines()[0]) <= 116
    assert text.splitlines()[1:2] in ([], [""])
    assert "O(" in text or name.startswith("dpe")
    assert "Source:" in text or "Paper" in text or "Departs:" in text or SELECTORS[name].reads in ("nothing", "truth")


def test_the_page_names_every_selector_and_what_it_reads() -> None:
    page = (Path(__file__).parents[2] / "docs" / "selectors.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")] for line in page.splitlines() if line.startswith("| `")]
    rows = [row for row in rows if len(row) == 7]  # five columns: the table of names
    named = {name: row[2] for row in rows for name in re.findall(r"`(\w+)`", row[1])}
    assert named == {name: kind.reads for name, kind in SELECTORS.items()}
    for row in rows:
        for name in re.findall(r"`(\w+)`", row[1]):
            assert set(re.findall(r"`(\w+)`", row[3])) <= {*inspect.signature(SELECTORS[name]).parameters}


def test_a_batch_of_videos_of_many_lengths_is_chosen_from_in_one_call() -> None:
    videos = [tiny.sketch(count, seed=count) for count in (3, 9, 14)]
    many = stack_sketches(videos)
    relevance = torch.rand(3, 14, generator=tiny.generator(1))
    for name in ("k_medoids", "mdp3", "random", "dpe"):
        result = kept(build(name), many, [2, 3, 5], relevance > 0.5, relevance)
        assert [len(frames) for frames in result] == [2, 3, 5]
        assert [max(frames) < count for frames, count in zip(result, (3, 9, 14), strict=True)] == [True] * 3
