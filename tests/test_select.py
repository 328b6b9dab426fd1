"""Eq. 4-7: scores, perturbed Top-K, its gradient, and which frames are kept."""

from dataclasses import replace

import oracles
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dynfocus.errors import FeatureError
from dynfocus.nn.events import find_events
from dynfocus.nn.select import (
    EventPrototypeSelector,
    LateInteraction,
    PerturbedTopK,
    ScoreNet,
    keyed_noise,
    patches_of,
    perturbed_top_k_ref,
    rescale,
    top_k,
)
from dynfocus.settings import ConnectorSettings, kept
from dynfocus.types import FrameSketch, stack_sketches

SEEDS = st.integers(0, 10**6)


def scores_of(count: int, seed: int = 0) -> Tensor:
    return torch.rand(1, count, generator=tiny.generator(seed))


def noise_of(samples: int, count: int, seed: int = 0) -> Tensor:
    return torch.randn(1, samples, count, generator=tiny.generator(seed))


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
    found = rescale(net(m))[0]
    (found * weight).sum().backward()
    slow = {name: value.detach().double().requires_grad_() for name, value in net.named_parameters()}
    exact = torch.stack(oracles.eq4(list(m[0].double()), slow))
    torch.testing.assert_close(found.double(), exact, atol=1e-5, rtol=1e-5)
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
    found = rescale(long, torch.arange(count + more)[None] < count)
    assert torch.equal(found[:, :count], rescale(raw, real(count)))
    assert found[:, count:].eq(0).all()
    assert found[:, :count].min() == 0
    assert found.max() == (1 if count > 1 else 0)


def test_equal_scores_become_zeros() -> None:
    raw = torch.full((1, 3), 3.0).requires_grad_()
    found = rescale(raw, real(3))
    assert found.eq(0).all()
    found.sum().backward()
    assert raw.grad is not None
    assert raw.grad.eq(0).all()


def test_a_video_without_change_keeps_its_first_frames() -> None:
    """Also where its prototypes' scores differ by rounding, as those of wide features do."""
    for seed, (width, frames) in enumerate([(64, 8), (256, 13), (48, 25), (512, 9)]):
        wide = replace(tiny.SETTINGS, events=6, keep=0.5)
        still = tiny.sketch(1, seed, width=width).gather(torch.tensor([0]))
        still = FrameSketch(*(v.expand(-1, frames, *v.shape[2:]) for v in (still.pooled, still.grains, still.mask)))
        torch.manual_seed(seed)
        focus = EventPrototypeSelector(wide, width, tiny.TEXT_WIDTH).eval()(still, tiny.cues(still, [3]))
        assert focus.scores is not None
        assert focus.scores.eq(0).all()
        assert focus.frames.tolist() == [[0, 1, 2]]


@given(st.integers(1, 10), st.data())
def test_top_k_keeps_the_best_in_time_order(count: int, data: st.DataObject) -> None:
    keep = data.draw(st.integers(1, count))
    values = data.draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))
    found, used = top_k(torch.tensor([values]).float(), [keep])
    assert used is None
    assert found[0].tolist() == oracles.top(values, keep)


def test_top_k_of_a_batch_of_unequal_videos() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.5], [0.2, 0.7, 9.0]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    found, used = top_k(scores, [2, 1], mask)
    assert used is not None
    assert used.tolist() == [[True, True], [True, False]]
    assert found[0].tolist() == [1, 2]
    assert found[1, 0] == 1


@pytest.mark.parametrize(("count", "keep", "sigma"), [(1, 1, 0.1), (4, 2, 0.5), (7, 5, 0.1), (6, 6, 1.0)])
def test_perturbed_top_k_and_its_gradient_equal_the_loops(count: int, keep: int, sigma: float) -> None:
    scores, noise = scores_of(count).requires_grad_(), noise_of(40, count)
    weights = torch.randn(keep, count, generator=tiny.generator(3))
    found = PerturbedTopK.apply(scores, noise, sigma, [keep])
    values = scores[0].tolist()
    torch.testing.assert_close(found[0].double(), oracles.eq6(values, keep, noise[0], sigma), atol=1e-5, rtol=1e-5)
    (found[0] * weights).sum().backward()
    assert scores.grad is not None
    exact = oracles.eq7(values, keep, noise[0], sigma, weights)
    torch.testing.assert_close(scores.grad[0].double(), exact, atol=1e-5, rtol=1e-5)


@given(st.integers(1, 12), st.data(), SEEDS)
@settings(max_examples=30, deadline=None)
def test_counting_equals_the_mean_of_one_hot_rows(count: int, data: st.DataObject, seed: int) -> None:
    keep = data.draw(st.integers(1, count))
    scores, noise = scores_of(count, seed), noise_of(50, count, seed)
    found = PerturbedTopK.apply(scores, noise, 0.3, [keep])
    torch.testing.assert_close(found, perturbed_top_k_ref(scores, noise, 0.3, keep))


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
        above, below = (oracles.smoothed(scores + sign * move, keep, sigma, weights) for sign in (1, -1))
        slopes.append((above - below) / (2 * step))
    slope = torch.stack(slopes)
    guess = scores.float()[None].requires_grad_()
    found = PerturbedTopK.apply(guess, noise_of(samples, 3), sigma, [keep])
    (found[0] * weights).sum().backward()
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
@settings(max_examples=40, deadline=None)
def test_rows_sum_to_one_and_columns_to_at_most_one(count: int, data: st.DataObject, sigma: float, seed: int) -> None:
    keep = data.draw(st.integers(1, count))
    mask = torch.arange(count + 3)[None] < count
    scores = torch.cat([scores_of(count, seed), torch.full((1, 3), 9.0)], 1)
    noise = keyed_noise([count], count + 3, 30, torch.tensor([seed]), 0)
    found = PerturbedTopK.apply(scores, noise, sigma, [keep], mask)[0]
    torch.testing.assert_close(found.sum(1), torch.ones(keep))
    assert found.sum(0).max() <= 1 + 1e-6
    assert found[:, count:].eq(0).all()
    if keep == count:
        torch.testing.assert_close(found[:, :count], torch.eye(count))
    early = found.cumsum(1)  # slot k stands before slot k + 1 in every sample, so it is never the later one
    assert (early[:-1] >= early[1:] - 1e-6).all()


def test_noise_is_keyed_by_seed_step_and_row_alone() -> None:
    torch.manual_seed(4)
    both = keyed_noise([5, 3], 5, 6, torch.tensor([11, 12]), 3)
    assert both[1, :, 3:].eq(0).all()
    torch.rand(99)  # the global stream has no part in it
    alone = keyed_noise([3], 3, 6, torch.tensor([12]), 3)
    assert torch.equal(both[1:, :, :3], alone)
    others = [keyed_noise([3], 3, 6, torch.tensor([row]), step) for row, step in ((12, 4), (13, 3), (3, 12))]
    torch.manual_seed(5)
    others.append(keyed_noise([3], 3, 6, torch.tensor([12]), 3))
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
        found = PerturbedTopK.apply(scores, noise, 0.1, [keep])
        found.square().sum().backward()
    assert samples * count * 4 <= largest <= 2 * samples * count * 4  # int64 indices of one sort are the largest
    assert largest < 5e6


def selector(events: ConnectorSettings = tiny.SETTINGS, seed: int = 0) -> EventPrototypeSelector:
    torch.manual_seed(seed)
    return EventPrototypeSelector(events, tiny.WIDTH, tiny.TEXT_WIDTH)


def keep_of(sketch: FrameSketch, s: ConnectorSettings = tiny.SETTINGS) -> list[int]:
    return [kept(frames, s) for frames in sketch.frames.tolist()]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("frames", [1, 3, 5, 12])
def test_b_has_one_for_each_kept_representative(frames: int, training: bool) -> None:
    one = tiny.sketch(frames, seed=frames)
    keep = keep_of(one)
    focus = selector().train(training)(one, tiny.cues(one, keep))
    b = focus.kept(frames)
    assert focus.events is not None
    assert focus.scores is not None
    assert b.sum() == keep[0]
    assert set(b[0].nonzero()[:, 0].tolist()) <= set(focus.events.frames[0].tolist())
    best = oracles.top(focus.scores[0].tolist(), keep[0])  # unperturbed scores in training too
    assert b[0].nonzero()[:, 0].tolist() == focus.events.frames[0][best].tolist()


@pytest.mark.parametrize("frames", [4, 9])
def test_training_mixes_and_evaluation_takes(frames: int) -> None:
    one, net = tiny.sketch(frames, seed=3), selector()
    keep = keep_of(one)
    events = find_events(one, tiny.SETTINGS)
    soft = net.train()(one, tiny.cues(one, keep, 7, 2))
    assert soft.scores is not None
    assert soft.mixture is not None
    noise = keyed_noise([5 if frames > 5 else 4], events.mask.shape[1], tiny.SETTINGS.samples, torch.tensor([7]), 2)
    p = oracles.eq6(soft.scores[0].tolist(), keep[0], noise[0], tiny.SETTINGS.sigma).float()
    grains = one.grains[0, events.frames[0]]
    for slot in range(keep[0]):
        h = sum(p[slot, n] * events.prototypes[0, n] for n in range(p.shape[1]))
        g = sum(p[slot, n] * grains[n] for n in range(p.shape[1]))
        torch.testing.assert_close(soft.pooled[0, slot], h, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(soft.grains[0, slot], g, atol=1e-5, rtol=1e-5)
    hard = net.eval()(one, tiny.cues(one, keep, 7, 2))
    torch.testing.assert_close(hard.grains[0], one.grains[0, hard.frames[0]], atol=1e-6, rtol=1e-6)
    assert torch.equal(hard.frames, soft.frames)


def test_without_noise_training_is_the_hard_choice() -> None:
    still = replace(tiny.SETTINGS, sigma=0.0)
    one, net = tiny.sketch(9), selector(still)
    trained = net.train()(one, tiny.cues(one, keep_of(one, still)))
    asked = net.eval()(one, tiny.cues(one, keep_of(one, still)))
    assert torch.equal(trained.pooled, asked.pooled)
    assert trained.mixture is None
    assert not trained.pooled.requires_grad  # no noise, no Eq. 7: never a division by sigma


def test_a_ratio_of_one_keeps_all_and_trains_no_score() -> None:
    every = replace(tiny.SETTINGS, keep=1.0)
    one, net = tiny.sketch(9), selector(every)
    focus = net.train()(one, tiny.cues(one, keep_of(one, every)))
    assert focus.events is not None
    assert torch.equal(focus.frames, focus.events.frames)
    torch.testing.assert_close(focus.pooled, focus.events.prototypes)
    focus.pooled.square().sum().backward()
    assert all(p.grad is None or p.grad.eq(0).all() for p in net.parameters())


def test_the_choice_of_a_video_does_not_hang_on_its_batch() -> None:
    videos = [tiny.sketch(frames, seed=frames) for frames in (1, 4, 11, 7)]
    net = selector().train()
    both = stack_sketches(videos)
    together = net(both, tiny.cues(both, keep_of(both), 5, 9))
    for n, one in enumerate(videos):
        keep = keep_of(one)[0]
        alone = net(one, tiny.cues(one, keep_of(one), 5 + n, 9))
        assert together.frames[n, :keep].tolist() == alone.frames[0].tolist()
        assert together.mask[n].sum() == keep
        torch.testing.assert_close(together.pooled[n, :keep], alone.pooled[0], atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(together.grains[n, :keep], alone.grains[0], atol=1e-6, rtol=1e-6)


def test_the_score_net_hears_from_every_token_of_the_kept_frames() -> None:
    one, net = tiny.sketch(9), selector().train()
    for part in ("pooled", "grains"):
        net.zero_grad()
        focus = net(one, tiny.cues(one, keep_of(one)))
        getattr(focus, part)[0, 0, -1].sum().backward()
        assert sum(p.grad.abs().sum() for p in net.parameters() if p.grad is not None) > 0


def test_the_question_adds_its_best_fit_to_the_scores() -> None:
    """The late interaction, number by number, and that it begins as the plain product of words and patches."""
    torch.manual_seed(0)
    term = LateInteraction(6, 4)
    assert torch.equal(term.text.weight, torch.eye(4))
    assert torch.equal(term.grain.weight, torch.eye(4, 6))
    grains, question = torch.randn(1, 3, 5, 6), torch.randn(1, 4, 4)
    mask = torch.tensor([[True, True, True, False]])
    found = term(grains, question, mask)
    gate = (question[0, :3] @ term.gate.weight[0] + term.gate.bias).softmax(0)
    for event in range(3):
        fits = [max(float(q @ z[:4]) for z in grains[0, event]) / 2 for q in question[0, :3]]
        torch.testing.assert_close(found[0, event], sum(g * fit for g, fit in zip(gate, fits, strict=True)))
    found.sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in (term.text.weight, term.gate.weight))


def test_the_question_moves_the_choice_only_where_the_score_reads_it() -> None:
    one = tiny.sketch(12, seed=4)
    kept_by = {}
    for reads in (False, True):
        net = selector(replace(tiny.SETTINGS, score_reads_question=reads)).eval()
        kept_by[reads] = {tuple(net(one, tiny.cues(one, [2], row)).frames[0].tolist()) for row in range(8)}
    assert len(kept_by[False]) == 1
    assert len(kept_by[True]) > 1


def test_patches_that_the_sketch_does_not_hold_are_refused() -> None:
    s = replace(tiny.SETTINGS, kept_tokens=256)
    one = tiny.sketch(9, settings=s)
    assert one.patches is not None
    assert one.patch_frames is not None
    some = replace(one, patches=one.patches[:, ::2], patch_frames=one.patch_frames[:, ::2])
    real = torch.ones(1, 2, dtype=torch.bool)
    found = patches_of(some, torch.tensor([[4, 8]]), real)
    assert found is not None
    assert torch.equal(found, one.patches[:, [4, 8]])
    with pytest.raises(FeatureError, match=r"patches of frame 3, .* Set connector.patch_frames to all"):
        patches_of(some, torch.tensor([[4, 3]]), real)
