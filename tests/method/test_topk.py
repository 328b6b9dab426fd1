"""Eq. 5-7: Top-K, perturbed, and its gradient."""

import oracles
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dynfocus.method.topk import PerturbedTopK, draw_keyed_noise, top_k

SEEDS = st.integers(0, 10**6)


def scores_of(count: int, seed: int = 0) -> Tensor:
    return torch.rand(1, count, generator=tiny.generator(seed))


def noise_of(samples: int, count: int, seed: int = 0) -> Tensor:
    return torch.randn(1, samples, count, generator=tiny.generator(seed))


@given(st.integers(1, 10), st.data())
def test_top_k_keeps_the_best_in_time_order(count: int, data: st.DataObject) -> None:
    keep = data.draw(st.integers(1, count))
    values = data.draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))
    result, used = top_k(torch.tensor([values]).float(), [keep])
    assert used is None
    assert result[0].tolist() == oracles.top(values, keep)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("special", [None, torch.inf, -torch.inf, torch.nan])
def test_top_k_equals_sorting_twice(dtype: torch.dtype, special: float | None) -> None:
    """With scores that tie in many ways, of numbers that differ in the last bits alone, infinite or none."""
    values = torch.randint(0, 9, (3, 40, 30), generator=tiny.generator(1)).to(dtype)
    if dtype == torch.float64:
        values += torch.randint(0, 2, values.shape, generator=tiny.generator(2)) * 1e-12
    if special is not None:
        values[torch.rand(values.shape, generator=tiny.generator(3)) < 0.2] = special
    for count in (1, 7, 29, 30):
        assert torch.equal(top_k(values, [count] * 3)[0], oracles.top_by_sorting(values, count))


def test_top_k_of_a_batch_of_unequal_videos() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.5], [0.2, 0.7, 9.0]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    result, used = top_k(scores, [2, 1], mask)
    assert used is not None
    assert used.tolist() == [[True, True], [True, False]]
    assert result[0].tolist() == [1, 2]
    assert result[1, 0] == 1


@pytest.mark.parametrize(("count", "keep", "sigma"), [(1, 1, 0.1), (4, 2, 0.5), (7, 5, 0.1), (6, 6, 1.0)])
def test_perturbed_top_k_and_its_gradient_equal_the_loops(count: int, keep: int, sigma: float) -> None:
    scores, noise = scores_of(count).requires_grad_(), noise_of(40, count)
    weights = torch.randn(keep, count, generator=tiny.generator(3))
    result = PerturbedTopK.apply(scores, noise, sigma, [keep])
    values = scores[0].tolist()
    torch.testing.assert_close(result[0].double(), oracles.eq6(values, keep, noise[0], sigma), atol=1e-5, rtol=1e-5)
    (result[0] * weights).sum().backward()
    assert scores.grad is not None
    exact = oracles.eq7(values, keep, noise[0], sigma, weights)
    torch.testing.assert_close(scores.grad[0].double(), exact, atol=1e-5, rtol=1e-5)


@given(st.integers(1, 12), st.data(), SEEDS)
@settings(max_examples=30)
def test_counting_equals_the_mean_of_one_hot_rows(count: int, data: st.DataObject, seed: int) -> None:
    keep = data.draw(st.integers(1, count))
    scores, noise = scores_of(count, seed), noise_of(50, count, seed)
    result = PerturbedTopK.apply(scores, noise, 0.3, [keep])
    torch.testing.assert_close(result, oracles.perturbed_top_k(scores, noise, 0.3, keep))


def test_little_noise_gives_the_hard_choice() -> None:
    scores = scores_of(9)
    hard, _ = top_k(scores, [4])
    for sigma, far in ((1.0, True), (0.1, True), (1e-6, False)):
        soft = PerturbedTopK.apply(scores, noise_of(400, 9), sigma, [4])[0]
        assert (soft - torch.nn.functional.one_hot(hard[0], 9)).abs().max().gt(1e-3) == far


@pytest.mark.parametrize("keep", [1, 2])
def test_gradient_estimator_agrees_with_finite_differences_of_the_smoothed_objective(keep: int) -> None:
    """Five standard errors: a right estimator misses one of three components so far in 2 of a million tries."""
    scores = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    weights = torch.tensor([[1.0, -2.0, 0.5], [0.3, 1.5, -1.0]], dtype=torch.float64)[:keep]
    sigma, samples, step = 0.4, 200_000, 1e-3
    slopes = []
    for move in torch.eye(3, dtype=torch.float64) * step:
        above, below = (oracles.smooth_top_k(scores + sign * move, keep, sigma, weights) for sign in (1, -1))
        slopes.append((above - below) / (2 * step))
    slope = torch.stack(slopes)
    guess = scores.float()[None].requires_grad_()
    result = PerturbedTopK.apply(guess, noise_of(samples, 3), sigma, [keep])
    (result[0] * weights).sum().backward()
    assert guess.grad is not None
    largest_gain = (weights.amax(1) - weights.amin(1)).sum().item()
    error = 5 * largest_gain / 2 / sigma / samples**0.5
    assert slope.abs().max() > 10 * error
    torch.testing.assert_close(guess.grad[0].double(), slope, atol=error + 0.01 * slope.abs().max().item(), rtol=0)


def test_subtracting_the_mean_gain_lowers_the_variance() -> None:
    scores, keep = scores_of(8, 5), 3
    weights = torch.randn(keep, 8, generator=tiny.generator(1)) + 5
    ours, plain = [], []
    for seed in range(60):
        noise = noise_of(100, 8, seed)
        guess = scores.clone().requires_grad_()
        mixture = PerturbedTopK.apply(guess, noise, 0.1, [keep])
        (mixture[0] * weights).sum().backward()
        assert guess.grad is not None
        ours.append(guess.grad[0])
        mean_gain = (mixture[0] * weights).sum().detach()
        plain.append(guess.grad[0] + mean_gain * noise[0].mean(0) / 0.1)
    assert torch.stack(ours).var(0).sum() < 0.2 * torch.stack(plain).var(0).sum()


@given(st.integers(1, 9), st.data(), st.floats(0.01, 2), SEEDS)
@settings(max_examples=40)
def test_rows_sum_to_one_and_columns_to_at_most_one(count: int, data: st.DataObject, sigma: float, seed: int) -> None:
    keep = data.draw(st.integers(1, count))
    mask = torch.arange(count + 3)[None] < count
    scores = torch.cat([scores_of(count, seed), torch.full((1, 3), 9.0)], 1)
    noise = draw_keyed_noise([count], count + 3, 30, torch.tensor([seed]), 0)
    result = PerturbedTopK.apply(scores, noise, sigma, [keep], mask)[0]
    torch.testing.assert_close(result.sum(1), torch.ones(keep))
    assert result.sum(0).max() <= 1 + 1e-6
    assert result[:, count:].eq(0).all()
    if keep == count:
        torch.testing.assert_close(result[:, :count], torch.eye(count))
    early = result.cumsum(1)  # slot k stands before slot k + 1 in every sample, so it is never the later one
    assert (early[:-1] >= early[1:] - 1e-6).all()


def test_noise_is_keyed_by_seed_step_and_row_alone() -> None:
    torch.manual_seed(4)
    both = draw_keyed_noise([5, 3], 5, 6, torch.tensor([11, 12]), 3)
    assert both[1, :, 3:].eq(0).all()
    torch.rand(99)  # the global stream has no part in it
    alone = draw_keyed_noise([3], 3, 6, torch.tensor([12]), 3)
    assert torch.equal(both[1:, :, :3], alone)
    others = [draw_keyed_noise([3], 3, 6, torch.tensor([row]), step) for row, step in ((12, 4), (13, 3), (3, 12))]
    torch.manual_seed(5)
    others.append(draw_keyed_noise([3], 3, 6, torch.tensor([12]), 3))
    assert all((other - alone).abs().min() > 0 for other in others)


def test_memory_grows_with_samples_times_prototypes_not_times_kept() -> None:
    """Every tensor that appears during forward and backward is counted: n x K x L would be 900 MB here."""
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for made in out if isinstance(out, tuple | list) else (out,):
                if isinstance(made, Tensor):
                    largest = max(largest, made.untyped_storage().nbytes())
            return out

    count, keep, samples = 1000, 450, 500
    scores, noise = scores_of(count).requires_grad_(), noise_of(samples, count)
    with Watch():
        result = PerturbedTopK.apply(scores, noise, 0.1, [keep])
        result.square().sum().backward()
    assert samples * count * 4 <= largest <= 2 * samples * count * 4  # int64 indices of one sort are the largest
    assert largest < 5e6


def test_gradients_of_unequal_videos_equal_the_loops() -> None:
    """Padded, with K' of 3 and 2: each video has the gradient it has alone, and padding has none."""
    scores = torch.rand(2, 6, generator=tiny.generator(0)).requires_grad_()
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    noise = draw_keyed_noise([6, 4], 6, 50, torch.tensor([0, 1]), 0)
    weights = torch.randn(2, 3, 6, generator=tiny.generator(1))
    result = PerturbedTopK.apply(scores, noise, 0.3, [3, 2], mask)
    (result * weights).sum().backward()
    assert scores.grad is not None
    for n, (count, keep) in enumerate(((6, 3), (4, 2))):
        values, cut = scores[n, :count].tolist(), noise[n, :, :count]
        torch.testing.assert_close(result[n, :keep, :count].double(), oracles.eq6(values, keep, cut, 0.3))
        exact = oracles.eq7(values, keep, cut, 0.3, weights[n, :keep, :count])
        torch.testing.assert_close(scores.grad[n, :count].double(), exact, atol=1e-5, rtol=1e-5)
    assert scores.grad[1, 4:].eq(0).all()
    assert result[1, 2:].eq(0).all()
