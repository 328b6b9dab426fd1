"""What is said of a selector: each number against slow loops, known cases, and a gradient of known signal and noise."""

import math
import statistics
from dataclasses import replace
from itertools import groupby

import oracles
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dynfocus.method.diagnostics import (
    entropy,
    has_choice,
    hit_rate,
    measure_selector,
    never_kept,
    one_hot_choice,
    report_gradient,
    signal_and_noise,
    soft_hard_gap,
    spread,
)
from dynfocus.method.dpe import EventPrototypeSelector
from dynfocus.method.selectors import UniformSelector
from dynfocus.method.topk import PerturbedTopK, top_k
from dynfocus.settings import ConnectorSettings
from dynfocus.types import Focus, stack_sketches

SHARES = st.lists(st.integers(0, 8).map(lambda n: n / 8), min_size=2, max_size=9)
NOISY = replace(tiny.SETTINGS, sigma=0.3)


def padded(values: list[float]) -> tuple[Tensor, Tensor]:
    """Two prototypes longer, with zeros, as scores are."""
    mask = torch.arange(len(values) + 2)[None] < len(values)
    return torch.tensor([[*values, 0.0, 0.0]]), mask


@given(SHARES)
def test_entropy_and_spread_equal_the_loops(values: list[float]) -> None:
    total = sum(values)
    shares = [value / total if total else 1 / len(values) for value in values]
    wanted = -sum(p * math.log(p) for p in shares if p) / math.log(len(values))
    assert entropy(*padded(values)).item() == pytest.approx(wanted, abs=1e-6)
    assert spread(*padded(values)).item() == pytest.approx(statistics.pstdev(values), abs=1e-6)


def test_entropy_and_spread_of_what_is_known() -> None:
    scores = torch.tensor([[0.0, 0.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]])
    mask = torch.ones(4, 4, dtype=torch.bool)
    torch.testing.assert_close(entropy(scores, mask), torch.tensor([0.0, 1.0, 1.0, 0.5]))
    assert spread(scores, mask).tolist() == pytest.approx([3**0.5 / 4, 0, 0, 0.5])
    assert entropy(scores * math.nan, mask).isnan().all()  # no numbers are not said to lie evenly


def soft(count: int, keep: int, sigma: float, samples: int = 50, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    scores = torch.rand(1, count, generator=tiny.generator(seed))
    noise = torch.randn(1, samples, count, generator=tiny.generator(seed + 1))
    return scores, noise, PerturbedTopK.apply(scores, noise, sigma, [keep])


@given(st.integers(2, 8), st.data(), st.integers(0, 1000))
@settings(max_examples=30)
def test_gap_and_never_kept_count_the_samples(count: int, data: st.DataObject, seed: int) -> None:
    keep = data.draw(st.integers(1, count - 1))
    scores, noise, mixture = soft(count, keep, 0.3, seed=seed)
    best = oracles.top(scores[0].tolist(), keep)
    samples = [oracles.top((scores[0] + 0.3 * one).tolist(), keep) for one in noise[0]]
    other = [sum(one[slot] != best[slot] for one in samples) / len(samples) for slot in range(keep)]
    hard = torch.nn.functional.one_hot(torch.tensor([best]), count).bool()
    assert soft_hard_gap(mixture, hard).item() == pytest.approx(sum(other) / keep, abs=1e-6)
    unseen = set(range(count)) - {place for one in samples for place in one}
    result = never_kept(mixture, torch.ones(1, count, dtype=torch.bool))
    assert result.item() == pytest.approx(len(unseen) / count)


def test_without_noise_there_is_no_gap_and_with_much_everything_is_tried() -> None:
    for sigma, gap, unseen in ((1e-6, 0.0, 1 - 3 / 8), (100.0, 0.5, 0.0)):
        scores, _, mixture = soft(8, 3, sigma, samples=400)
        hard = torch.nn.functional.one_hot(top_k(scores, [3])[0], 8).bool()
        assert never_kept(mixture, torch.ones(1, 8, dtype=torch.bool)).item() == pytest.approx(unseen)
        assert (soft_hard_gap(mixture, hard).item() > gap) == (gap > 0)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=14))
def test_hit_rate_counts_stretches(frames: list[tuple[bool, bool]]) -> None:
    kept, relevant = (torch.tensor([[frame[n] for frame in frames]]) for n in (0, 1))
    runs = [[frame[0] for frame in run] for real, run in groupby(frames, key=lambda frame: frame[1]) if real]
    rate, known = hit_rate(kept, relevant)
    assert known.item() == bool(runs)
    if runs:
        assert rate.item() == pytest.approx(sum(map(any, runs)) / len(runs))


def parts(videos: int, width: int, samples: int, signal: float, noise: float) -> tuple[Tensor, Tensor, float]:
    """What samples gain, their noise, and the true ratio: each gains <a, z> + b e of its noise z, and e of its own.

    A sample's gradient is (<a, z> + b e) z, with the mean a and variances that sum to (d + 1) |a|^2 + d b^2.
    """
    z = torch.randn(videos, samples, width, generator=tiny.generator(0))
    a = torch.full((width,), signal / width**0.5)
    gained = z @ a + noise * torch.randn(videos, samples, generator=tiny.generator(1))
    return gained, z, signal**2 / (((width + 1) * signal**2 + width * noise**2) / samples)


@pytest.mark.parametrize(("signal", "noise"), [(1.0, 0.0), (0.5, 3.0), (0.0, 1.0)])
@pytest.mark.parametrize("samples", [40, 41])
def test_the_ratio_of_signal_to_noise_is_the_known_one(signal: float, noise: float, samples: int) -> None:
    gained, z, _ = parts(60_000, 6, samples, signal, noise)
    *_, wanted = parts(1, 6, 40, signal, noise)  # a last odd sample is left out
    for sigma in (0.1, 2.0):
        of_signal, of_noise = (one.sum().item() for one in signal_and_noise(gained, z, sigma))
        # Five standard errors of a signal of none; the factor (1 - 2/n) and no more.
        assert of_signal / of_noise == pytest.approx(wanted, rel=0.1, abs=5 * 2 / (6 * 60_000) ** 0.5)


def test_the_signal_is_found_without_bias_where_one_half_alone_would_be_far_off() -> None:
    gained, z, _ = parts(50_000, 6, 10, 0.3, 1.0)
    of_signal, of_noise = signal_and_noise(gained, z, 1.0)
    factor = 1 - 2 / 10  # each half subtracts its own mean
    error = 5 * of_signal.std().item() / len(of_signal) ** 0.5
    assert of_signal.mean().item() == pytest.approx(factor**2 * 0.3**2, abs=error)
    assert of_noise.mean().item() > 3 * 0.3**2


@pytest.mark.parametrize("samples", [8, 9, 2, 1])
def test_the_gradient_is_overheard_and_stays_to_the_bit(samples: int) -> None:
    values, keep, sigma = torch.rand(2, 6, generator=tiny.generator(5)), [3, 2], 0.4
    weights = torch.randn(2, 3, 6, generator=tiny.generator(6))
    noise = torch.randn(2, samples, 6, generator=tiny.generator(7))
    grads, heard = [], []
    for listening in (False, True):
        scores = values.clone().requires_grad_()
        mixture = PerturbedTopK.apply(scores, noise, sigma, keep)
        if listening:
            report_gradient(mixture, heard.append)
        (mixture * weights).sum().backward()
        grads.append(scores.grad)
    assert torch.equal(*grads)
    assert len(heard) == (samples > 1)
    half = samples // 2
    for n, result in enumerate(heard[0] if heard else []):
        g1, g2 = (
            oracles.eq7(values[n].tolist(), keep[n], noise[n, part], sigma, weights[n])
            for part in (slice(half), slice(half, 2 * half))
        )
        wanted = torch.stack([(g1 * g2).sum(), (g1 - g2).square().sum() / 4])
        torch.testing.assert_close(result.double(), wanted, atol=1e-4, rtol=1e-4)


def focus_of(counts: list[int], keep: list[int], train: bool, settings: ConnectorSettings = NOISY) -> Focus:
    sketch = stack_sketches([tiny.sketch(count, seed=n) for n, count in enumerate(counts)])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        select = EventPrototypeSelector(settings, tiny.WIDTH, tiny.TEXT_WIDTH).train(train)
    return select(sketch, tiny.inputs(sketch, keep))


def test_what_a_selector_chose_is_found_again_beside_padding() -> None:
    focus = focus_of([12, 4, 1], [3, 3, 1], train=True)
    assert focus.events is not None
    hard = one_hot_choice(focus)
    for n in range(3):
        frames = focus.events.frames[n][hard[n].any(0)].tolist()
        assert frames == focus.frames[n][focus.mask[n]].tolist()
    assert hard.sum(-1).tolist() == focus.mask.long().tolist()
    assert has_choice(focus).tolist() == [True, True, False]


def test_a_batch_says_of_each_video_what_it_says_alone() -> None:
    counts, keep = [12, 4, 7], [3, 2, 3]
    relevant = torch.zeros(3, 12, dtype=torch.bool)
    relevant[0, 2:4] = relevant[0, 8] = relevant[2, 0] = True
    for train in (True, False):
        together = measure_selector(focus_of(counts, keep, train), relevant)
        assert set(together) == {"entropy", "score_spread", "constant", "hit_rate"} | (
            {"soft_hard_gap", "never_kept"} if train else set()
        )
        sketch = tiny.sketch(12, seed=0)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            select = EventPrototypeSelector(NOISY, tiny.WIDTH, tiny.TEXT_WIDTH).train(train)
        alone = measure_selector(select(sketch, tiny.inputs(sketch, keep[:1])), relevant[:1])
        for name, (values, known) in together.items():
            torch.testing.assert_close(values[:1], alone[name][0], atol=1e-5, rtol=1e-5)
            assert known.tolist() == ([True, False, True] if name == "hit_rate" else [True, True, True])


def test_who_scores_nothing_has_no_numbers() -> None:
    sketch = tiny.sketch(9)
    select = UniformSelector(tiny.SETTINGS, tiny.WIDTH, tiny.TEXT_WIDTH)
    assert measure_selector(select(sketch, tiny.inputs(sketch, [3])), None) == {}
