"""Other ways to choose frames, at the same number of tokens."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dynfocus.errors import ConfigError, SelectorError
from dynfocus.method.connector import Connector
from dynfocus.method.dpe import EventPrototypeSelector
from dynfocus.method.selectors import (
    FrameSelector,
    OracleSelector,
    RandomSelector,
    UniformSelector,
    build_selector,
)
from dynfocus.settings import ConnectorSettings
from dynfocus.types import Focus, FrameSketch, SelectorInputs, stack_sketches


def chosen(
    kind: type[FrameSelector], frames: int, keep: int, relevant: Tensor | None = None, row: int = 0, more: int = 0
) -> list[int]:
    one = tiny.pad_sketch(tiny.sketch(frames, settings=tiny.SETTINGS), more)
    focus = kind(tiny.SETTINGS, tiny.WIDTH, tiny.TEXT_WIDTH)(one, tiny.inputs(one, [keep], row, 0, relevant))
    assert focus.mask.all()
    assert torch.equal(focus.pooled, one.pooled[:, focus.frames[0]])
    assert torch.equal(focus.grains, one.grains[:, focus.frames[0]])
    return focus.frames[0].tolist()


@given(st.integers(1, 40), st.data(), st.sampled_from([UniformSelector, RandomSelector]), st.integers(0, 5))
@settings(max_examples=60)
def test_exactly_k_different_frames_in_time_order(
    frames: int, data: st.DataObject, kind: type[FrameSelector], more: int
) -> None:
    keep = data.draw(st.integers(1, frames))
    result = chosen(kind, frames, keep, more=more)
    assert result == sorted(set(result))
    assert len(result) == keep
    assert max(result) < frames
    assert result == chosen(kind, frames, keep)


def test_uniform_takes_the_middles_of_equal_shares() -> None:
    assert chosen(UniformSelector, 24, 3) == [4, 12, 20]
    assert chosen(UniformSelector, 10, 4) == [1, 3, 6, 8]
    assert chosen(UniformSelector, 7, 1) == [3]


def test_random_is_keyed_by_the_row() -> None:
    same = [chosen(RandomSelector, 30, 5, row=3) for _ in range(2)]
    assert same[0] == same[1]
    assert len({tuple(chosen(RandomSelector, 30, 5, row=row)) for row in range(6)}) == 6


def test_random_frames_are_all_alike_likely() -> None:
    counts = torch.zeros(10)
    for row in range(400):
        counts[chosen(RandomSelector, 10, 3, row=row)] += 1
    assert (counts - 120).abs().max() < 5 * (400 * 0.3 * 0.7) ** 0.5


def test_oracle_takes_one_of_each_event_first_then_more_then_uniform() -> None:
    relevant = torch.zeros(1, 20, dtype=torch.bool)
    relevant[0, [3, 4, 5, 11, 12]] = True
    assert chosen(OracleSelector, 20, 1, relevant) == [3]
    assert chosen(OracleSelector, 20, 2, relevant) == [3, 11]
    assert set(chosen(OracleSelector, 20, 4, relevant)) < {3, 4, 5, 11, 12}
    assert set(chosen(OracleSelector, 20, 8, relevant)) > {3, 4, 5, 11, 12}


def test_oracle_without_relevant_frames_is_uniform_and_without_knowledge_an_error() -> None:
    nothing = torch.zeros(1, 20, dtype=torch.bool)
    assert chosen(OracleSelector, 20, 4, nothing) == chosen(UniformSelector, 20, 4)
    with pytest.raises(ConfigError, match="oracle"):
        chosen(OracleSelector, 20, 4, None)


@pytest.mark.parametrize("name", ["uniform", "random", "oracle", "dpe"])
def test_all_selectors_answer_the_same_call(name: str) -> None:
    both = stack_sketches([tiny.sketch(4), tiny.sketch(12, seed=2)])
    relevant = torch.zeros(2, 12, dtype=torch.bool)
    focus = build_selector(tiny.SETTINGS, tiny.WIDTH, tiny.TEXT_WIDTH).__class__  # the default
    assert focus is EventPrototypeSelector
    chooser = build_selector(
        ConnectorSettings(**{**vars(tiny.SETTINGS), "selector": name}), tiny.WIDTH, tiny.TEXT_WIDTH
    )
    result = chooser(both, tiny.inputs(both, [1, 3], relevant=relevant))
    assert result.kept(12).sum(1).tolist() == [1, 3]
    assert not result.kept(12)[0, 4:].any()


def test_a_selector_of_ones_own_needs_only_rank() -> None:
    class Last(FrameSelector):
        def rank(self, sketch: FrameSketch, inputs: SelectorInputs) -> Tensor:
            return torch.arange(sketch.mask.shape[1]).float().expand(sketch.mask.shape)

    assert chosen(Last, 9, 3, more=2) == [6, 7, 8]
    with pytest.raises(
        SelectorError, match=r"FrameSelector, whose rank fails \(NotImplementedError: FrameSelector\.rank"
    ):
        chosen(FrameSelector, 9, 3)


class Returning(FrameSelector):
    """Ranks frames by what it is given."""

    scores: Any

    def rank(self, sketch: FrameSketch, inputs: SelectorInputs) -> Any:
        return self.scores(sketch.mask) if callable(self.scores) else self.scores


@pytest.mark.parametrize(
    ("scores", "output"),
    [
        (0.5, "a float"),
        (torch.tensor(0.5), r"a tensor of shape \[\]"),
        (lambda mask: torch.rand(mask.shape[1]), r"a tensor of shape \[7\]"),
        (lambda mask: torch.rand(len(mask), 1), r"a tensor of shape \[2, 1\]"),
        (lambda mask: mask.cumsum(-1), r"a tensor of torch\.int64"),
        (lambda mask: torch.where(mask, torch.nan, 0.0), "scores that are NaN or infinite"),
        (lambda mask: torch.where(mask, -torch.inf, 0.0), "scores that are NaN or infinite"),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_scores_that_rank_nothing_are_named(scores: Any, output: str, training: bool) -> None:
    both, net = stack_sketches([tiny.sketch(4), tiny.sketch(7, seed=2)]), Returning(tiny.SETTINGS, 0, 0)
    net.train(training).scores = scores
    with pytest.raises(SelectorError, match=rf"Returning, whose rank returns {output}\. Needed.*\[B, T\] = \[2, 7\]"):
        net(both, tiny.inputs(both, [2, 2]))


def test_padding_may_be_ranked_by_anything() -> None:
    both, net = stack_sketches([tiny.sketch(4), tiny.sketch(7, seed=2)]), Returning(tiny.SETTINGS, 0, 0)
    net.scores = lambda mask: torch.where(mask, 1.0, torch.nan)
    assert net(both, tiny.inputs(both, [2, 2])).frames.tolist() == [[0, 1], [0, 1]]


class Reads(TorchDispatchMode):
    """Counts how often a number of a tensor is read on the host, for which a GPU would have to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_scores_are_read_on_the_host_once_a_call() -> None:
    one, net, counts = tiny.sketch(7), UniformSelector(tiny.SETTINGS, 0, 0), []
    for training in (True, True, True, False, False, True):
        inputs = tiny.inputs(one, [2])
        with Reads() as reads:
            net.train(training)(one, inputs)
        counts.append(reads.count)
    assert counts == [1] * 6


@pytest.mark.parametrize("training", [True, False])
def test_scores_that_become_nan_later_are_named(training: bool) -> None:
    one, net = tiny.sketch(7), Returning(tiny.SETTINGS, 0, 0).train(training)
    net.scores = torch.rand(1, 7)
    net(one, tiny.inputs(one, [2]))
    net.scores = torch.full((1, 7), torch.nan)
    with pytest.raises(SelectorError, match="scores that are NaN"):
        net(one, tiny.inputs(one, [2]))


class Altering(FrameSelector):
    """Centres the frames in place, as a selector may by mistake."""

    def rank(self, sketch: FrameSketch, inputs: SelectorInputs) -> Tensor:
        sketch.pooled -= sketch.pooled.mean(1, keepdim=True)
        inputs.question.zero_()
        return sketch.pooled.square().mean((2, 3))


@pytest.mark.parametrize("inference", [True, False])
def test_a_selector_cannot_change_what_others_read(inference: bool) -> None:
    with torch.inference_mode(inference):
        one = tiny.sketch(9)
        inputs = tiny.inputs(one, [3])
        before = one.pooled.clone(), inputs.question.clone()
        focus = Altering(tiny.SETTINGS, 0, 0)(one, inputs)
        assert torch.equal(one.pooled, before[0])
        assert torch.equal(inputs.question, before[1])
        assert torch.equal(focus.pooled[0], one.pooled[0, focus.frames[0]])


class Own(torch.nn.Module):
    """A selector with a forward of its own, which spoils what a good one returns."""

    def __init__(self, change: Any) -> None:
        super().__init__()
        self.change = change

    def forward(self, sketch: FrameSketch, inputs: SelectorInputs) -> Any:
        return self.change(UniformSelector(tiny.SETTINGS, 0, 0)(sketch, inputs))


def shorter(focus: Focus) -> Focus:
    return Focus(*(part[:, :2] for part in (focus.frames, focus.mask, focus.pooled, focus.grains)))


@pytest.mark.parametrize(
    ("change", "output"),
    [
        (lambda focus: focus.frames, "returns a Tensor"),
        (lambda focus: focus.nothing, r"fails \(AttributeError: .*test_selectors\.py, line \d+\)"),
        (
            lambda focus: replace(focus, frames=focus.frames.flip(1)),
            r"returns the frames \[7, 4, 1\] of video 0, which has 9",
        ),
        (lambda focus: replace(focus, frames=focus.frames * 0 + 4), r"returns the frames \[4, 4, 4\] of video 0"),
        (lambda focus: replace(focus, frames=focus.frames + 5), r"returns the frames \[6, 9, 12\] of video 0"),
        (
            lambda focus: replace(focus, mask=focus.mask & (focus.frames > 1)),
            r"returns the frames \[4, 7\] of .* K' = 3",
        ),
        (lambda focus: shorter(focus), r"returns frames that are no whole .* \[B, K\] = \[1, 3\]"),
        (lambda focus: replace(focus, pooled=focus.pooled[:, :, :2]), "returns pooled of another shape"),
        (lambda focus: replace(focus, grains=focus.grains / 0), "returns grains that are NaN or infinite"),
    ],
)
def test_a_forward_of_ones_own_is_checked(change: Any, output: str) -> None:
    one = tiny.sketch(9)
    torch.manual_seed(0)
    connector = Connector(tiny.SETTINGS, tiny.WIDTH, tiny.TEXT_WIDTH, tiny.OUT)
    inputs = tiny.inputs(one, [3])
    connector.select = Own(lambda focus: focus)
    connector(one, inputs.question, inputs.question_mask, inputs.rows)
    connector.select = Own(change)
    with pytest.raises(SelectorError, match=rf"Own, whose forward {output}"):
        connector(one, inputs.question, inputs.question_mask, inputs.rows)


def test_a_mistake_in_rank_is_named_with_its_line() -> None:
    class Wrong(FrameSelector):
        def rank(self, sketch: FrameSketch, inputs: SelectorInputs) -> Tensor:
            return inputs.question.view(3)  # a mistake

    line = next(n for n, text in enumerate(Path(__file__).read_text().splitlines(), 1) if text.endswith("# a mistake"))
    with pytest.raises(
        SelectorError, match=rf"Wrong, whose rank fails \(\w+: .*test_selectors\.py, line {line}\)"
    ) as raised:
        chosen(Wrong, 9, 3)
    assert isinstance(raised.value.__cause__, RuntimeError)
