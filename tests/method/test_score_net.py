"""Eq. 4: scores against loops, their range, and what the question adds to them."""

import oracles
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dynfocus.method.score import LateInteraction, ScoreNet, rescale

SEEDS = st.integers(0, 10**6)


def real(count: int) -> Tensor:
    return torch.ones(1, count, dtype=torch.bool)


@pytest.mark.parametrize(("events", "pooled", "width"), [(1, 4, 16), (2, 1, 6), (7, 4, 10)])
def test_scores_and_their_gradients_equal_the_loops(events: int, pooled: int, width: int) -> None:
    torch.manual_seed(events)
    net = ScoreNet(width)
    torch.nn.init.normal_(net.net[0].weight)
    torch.nn.init.normal_(net.net[0].bias)
    m = torch.randn(1, events, pooled, width)
    weight = torch.randn(events)
    result = rescale(net(m))[0]
    (result * weight).sum().backward()
    slow = {name: value.detach().double().requires_grad_() for name, value in net.named_parameters()}
    exact = torch.stack(oracles.eq4(list(m[0].double()), slow))
    torch.testing.assert_close(result.double(), exact, atol=1e-5, rtol=1e-5)
    if events > 1:
        (exact * weight).sum().backward()
        for name, value in net.named_parameters():
            assert value.grad is not None
            torch.testing.assert_close(value.grad.double(), slow[name].grad, atol=1e-5, rtol=1e-4)


def test_scores_are_fp32_under_any_precision() -> None:
    net = ScoreNet(16).to(torch.bfloat16)
    assert net(torch.randn(1, 3, 4, 16)).dtype == torch.float32


@given(st.integers(1, 9), st.integers(0, 4), st.sampled_from([-99.0, 99.0]), SEEDS)
def test_rescaled_scores_span_zero_to_one_whatever_the_padding(count: int, more: int, fill: float, seed: int) -> None:
    raw = torch.randn(1, count, generator=tiny.generator(seed)) * 10
    long = torch.cat([raw, torch.full((1, more), fill)], 1)
    result = rescale(long, torch.arange(count + more)[None] < count)
    assert torch.equal(result[:, :count], rescale(raw, real(count)))
    assert result[:, count:].eq(0).all()
    assert result[:, :count].min() == 0
    assert result.max() == (1 if count > 1 else 0)


def test_equal_scores_become_zeros() -> None:
    raw = torch.full((1, 3), 3.0).requires_grad_()
    result = rescale(raw, real(3))
    assert result.eq(0).all()
    result.sum().backward()
    assert raw.grad is not None
    assert raw.grad.eq(0).all()


def test_the_question_adds_its_best_fit_to_the_scores() -> None:
    """The late interaction, number by number, and that it begins as the plain product of words and patches."""
    torch.manual_seed(0)
    term = LateInteraction(6, 4)
    assert torch.equal(term.text.weight, torch.eye(4))
    assert torch.equal(term.grain.weight, torch.eye(4, 6))
    grains, question = torch.randn(1, 3, 5, 6), torch.randn(1, 4, 4)
    mask = torch.tensor([[True, True, True, False]])
    result = term(grains, question, mask)
    gate = (question[0, :3] @ term.gate.weight[0] + term.gate.bias).softmax(0)
    for event in range(3):
        fits = [max(float(q @ z[:4]) for z in grains[0, event]) / 2 for q in question[0, :3]]
        torch.testing.assert_close(result[0, event], sum(g * fit for g, fit in zip(gate, fits, strict=True)))
    result.sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in (term.text.weight, term.gate.weight))
