"""The base class of selectors that choose sets: what it hands over, what it refuses; and Eq. 3 around kept frames."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor

from dynfocus.errors import SelectorError
from dynfocus.method.selectors import SetSelector, UniformSelector, build_selector, find_events
from dynfocus.types import stack_sketches


class Returning(SetSelector):
    """Returns what it is made with."""

    def __init__(self, result: Any) -> None:
        super().__init__(tiny.SETTINGS, 0, 0)
        self.result, self.calls = result, []

    def choose(self, frames: Tensor, keep: int, relevance: Tensor | None) -> Any:
        self.calls.append((frames.shape, frames.dtype, keep, relevance))
        return self.result(frames, keep) if callable(self.result) else self.result


def test_choose_is_given_each_video_without_padding_in_full_precision() -> None:
    both = stack_sketches([tiny.sketch(4), tiny.sketch(7, seed=2)])
    both = replace(both, pooled=both.pooled.half(), grains=both.grains.half())
    select = Returning(lambda frames, keep: torch.arange(len(frames)).flip(0)[:keep])
    focus = select(both, tiny.inputs(both, [2, 3]))
    features = tiny.SETTINGS.pooled * tiny.WIDTH
    assert [call[:3] for call in select.calls] == [((4, features), torch.float32, 2), ((7, features), torch.float32, 3)]
    assert [call[3] for call in select.calls] == [None, None]
    assert focus.frames.tolist() == [[2, 3, 0], [4, 5, 6]]
    assert focus.mask.tolist() == [[True, True, False], [True] * 3]
    assert torch.equal(focus.pooled[1], both.pooled[1, 4:7].float())
    assert torch.equal(focus.grains[1], both.grains[1, 4:7].float())
    assert focus.frame_scores is None


def test_choose_is_given_the_relevance_where_it_reads_the_question() -> None:
    one, given = tiny.pad_sketch(tiny.sketch(4), 2), torch.rand(1, 6)
    select = Returning([3, 0])
    select.reads = "question"
    focus = select(one, tiny.inputs(one, [2], relevance=given))
    assert torch.equal(select.calls[0][3], given[0, :4])
    assert focus.frames.tolist() == [[0, 3]]
    assert torch.equal(focus.frame_scores[0, :4], given[0, :4])


@pytest.mark.parametrize(
    ("result", "output"),
    [
        ([1, 1], r"returns the frames \[1, 1\] of video 0, which has 5 frames and K' = 2"),
        ([1, 5], r"returns the frames \[1, 5\]"),
        ([-1, 2], r"returns the frames \[-1, 2\]"),
        ([1], r"returns the frames \[1\]"),
        ([0, 1, 2], r"returns the frames \[0, 1, 2\]"),
        ([0.0, 1.0], r"returns \[0\.0, 1\.0\], which are no whole numbers in a row"),
        (torch.tensor([0.0, 1.0]), r"returns tensor.* no whole numbers"),
        (torch.tensor([[0, 1]]), r"returns tensor.* no whole numbers"),
        (torch.tensor([True, False]), r"returns tensor.* no whole numbers"),
        (None, "returns None, which are no whole numbers"),
    ],
)
def test_indices_that_are_no_k_frames_are_named(result: Any, output: str) -> None:
    one = tiny.sketch(5)
    with pytest.raises(SelectorError, match=rf"test_set_selector\.Returning, whose choose {output}"):
        Returning(result)(one, tiny.inputs(one, [2]))


def test_a_mistake_in_choose_is_named_with_its_line() -> None:
    class Wrong(SetSelector):
        def choose(self, frames: Tensor, keep: int, relevance: Tensor | None) -> Tensor:
            return frames.view(3)  # a mistake

    line = next(n for n, text in enumerate(Path(__file__).read_text().splitlines(), 1) if text.endswith("# a mistake"))
    one = tiny.sketch(5)
    with pytest.raises(SelectorError, match=rf"Wrong, whose choose fails \(.*test_set_selector\.py, line {line}\)"):
        Wrong(tiny.SETTINGS, 0, 0)(one, tiny.inputs(one, [2]))
    with pytest.raises(SelectorError, match=r"whose choose fails \(NotImplementedError: SetSelector\.choose"):
        SetSelector(tiny.SETTINGS, 0, 0)(one, tiny.inputs(one, [2]))


def test_choose_cannot_change_what_others_read() -> None:
    one, given = tiny.sketch(6), torch.rand(1, 6)
    before = one.pooled.clone(), given.clone()

    def spoil(frames: Tensor, keep: int) -> list[int]:
        frames.zero_()
        select.calls[-1][3].zero_()
        return [0, 1]

    select = Returning(spoil)
    select.reads = "question"
    focus = select(one, tiny.inputs(one, [2], relevance=given))
    assert torch.equal(one.pooled, before[0])
    assert torch.equal(given, before[1])
    assert torch.equal(focus.pooled[0], before[0][0, :2])


MERGED = replace(tiny.SETTINGS, merge_kept=True)


@pytest.mark.parametrize("neighbourhood", ["cluster", "nearest"])
def test_a_kept_representative_becomes_its_event_prototype(neighbourhood: Any) -> None:
    both = stack_sketches([tiny.sketch(9), tiny.sketch(12, seed=2)])
    own = replace(MERGED, neighbourhood=neighbourhood)
    events = find_events(both, own)

    class Representatives(SetSelector):
        def choose(self, frames: Tensor, keep: int, relevance: Tensor | None) -> list[int]:
            return events.frames[0 if len(frames) == 9 else 1][1::2].tolist()

    focus = Representatives(own, 0, 0)(both, tiny.inputs(both, [2, 2]))
    assert torch.equal(focus.frames, events.frames[:, 1::2])
    assert torch.allclose(focus.pooled, events.prototypes[:, 1::2], atol=1e-6)
    assert not torch.allclose(focus.pooled[0], both.pooled[0, focus.frames[0]], atol=1e-3)
    plain = Representatives(tiny.SETTINGS, 0, 0)(both, tiny.inputs(both, [2, 2]))
    assert torch.equal(plain.pooled[0], both.pooled[0, focus.frames[0]])


def test_a_kept_frame_that_is_no_representative_is_merged_with_the_frames_around_it() -> None:
    """Frames 0 to 3 and 4 to 7 are two scenes; of eight frames five are representatives."""
    scenes = torch.eye(2, tiny.WIDTH)[[0] * 4 + [1] * 4] * 8
    noise = 0.3 * torch.randn(8, tiny.SETTINGS.pooled, tiny.WIDTH, generator=tiny.generator(3))
    one = replace(tiny.sketch(8), pooled=(scenes[:, None] + noise)[None])
    own = replace(MERGED, events=2)
    representatives = find_events(one, own).frames[0].tolist()
    other = next(t for t in range(8) if t not in representatives)
    select = Returning([other])
    select.settings = own
    focus = select(one, tiny.inputs(one, [1]))
    frame, scene = one.pooled[0, other], one.pooled[0, 4 * (other // 4) : 4 * (other // 4) + 4]
    # Its cluster is of its own scene alone, and may be the frame by itself.
    assert (focus.pooled[0, 0] - scene.mean(0)).abs().max() <= (scene - scene.mean(0)).abs().max() + 1e-6
    assert ((focus.pooled[0, 0] >= scene.amin(0) - 1e-5) & (focus.pooled[0, 0] <= scene.amax(0) + 1e-5)).all()
    assert focus.pooled[0, 0].shape == frame.shape
    again = build_selector(replace(own, selector="uniform"), tiny.WIDTH, tiny.TEXT_WIDTH)
    many = stack_sketches([one, tiny.sketch(12, seed=4)])
    together = again(many, tiny.inputs(many, [3, 5]))
    alone = again(one, tiny.inputs(one, [3]))
    assert torch.equal(together.pooled[0, :3], alone.pooled[0])
    assert together.pooled[0, 3:].count_nonzero() == 0


def test_where_every_frame_is_kept_nothing_is_merged_into_another() -> None:
    one = tiny.sketch(6)
    focus = UniformSelector(MERGED, 0, 0)(one, tiny.inputs(one, [6]))
    assert torch.allclose(focus.pooled, one.pooled, atol=1e-6)
