"""Eq. 1-3 against loops, and what must hold for any points: copies, padding, batches."""

import math

import oracles
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from tiny import generator
from torch.profiler import profile

from dynfocus.method import distances
from dynfocus.method.cluster import density_peaks
from dynfocus.method.distances import first_copies, smallest, squared_distances

READINGS = ("cluster", "nearest")
SEEDS = st.integers(0, 10**6)


def points(count: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, count, width, generator=generator(seed))


def crowds(count: int, width: int, seed: int = 0) -> torch.Tensor:
    """Points in a few places, some crowded and some thin, as the frames of scenes are."""
    x, places, crowd = points(count, width, seed), points(4, width, seed + 1), torch.arange(count) % 4
    return places[:, crowd] + x * torch.tensor([0.05, 0.3, 0.6, 1.2])[crowd][:, None]


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize(
    ("frames", "count", "neighbours"), [(1, 5, 3), (2, 1, 2), (4, 5, 3), (5, 5, 5), (12, 5, 3), (30, 6, 5), (9, 1, 20)]
)
def test_density_peaks_equal_the_loops(frames: int, count: int, neighbours: int, reading: str) -> None:
    x = crowds(frames, 6, seed=frames)
    result = density_peaks(x, count, neighbours, neighbourhood=reading)
    exact = list(x[0].double())
    log_rho = oracles.eq1(exact, neighbours)
    chosen, prototypes = oracles.eq3(exact, count, neighbours, reading)
    assert result.representatives[0].tolist() == chosen
    torch.testing.assert_close(-result.spread[0].double(), torch.tensor(log_rho).double(), atol=1e-5, rtol=1e-5)
    delta = torch.tensor(oracles.eq2(exact, log_rho)).double()
    torch.testing.assert_close(result.distance[0].double(), delta, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(result.prototypes[0].double(), torch.stack(prototypes), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize(("frames", "window", "parts"), [(30, 10, 3), (31, 10, 4), (12, 2, 6), (9, 8, 2)])
def test_windows_equal_the_loops(frames: int, window: int, parts: int, reading: str) -> None:
    x = crowds(frames, 6, seed=frames)
    result = density_peaks(x, 6, 3, neighbourhood=reading, window=window)
    chosen, prototypes = oracles.eq3(list(x[0].double()), 6, 3, reading, parts)
    assert result.representatives[0].tolist() == chosen
    torch.testing.assert_close(result.prototypes[0].double(), torch.stack(prototypes), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scale", ["width", "video"])
def test_windows_of_padded_videos_are_those_of_each_alone(scale: str) -> None:
    x = crowds(40, 6)
    mask = torch.arange(40)[None] < torch.tensor([40, 23, 10])[:, None]
    both = density_peaks(x.expand(3, -1, -1), 6, 3, mask, scale=scale, window=10)
    for n, real in enumerate((40, 23, 10)):
        alone = density_peaks(x[:, :real], 6, 3, scale=scale, window=10)
        assert both.representatives[n].tolist() == alone.representatives[0].tolist()
        assert both.labels[n, :real].tolist() == alone.labels[0].tolist()
        torch.testing.assert_close(both.prototypes[n], alone.prototypes[0])


def test_copies_in_other_windows_are_as_near_and_scored_alike() -> None:
    x = crowds(20, 300).half().repeat(1, 2, 1)
    result = density_peaks(x, 8, 3, window=20)
    representatives = result.representatives[0].tolist()
    assert representatives[4:] == [20 + frame for frame in representatives[:4]]
    assert result.first[0].tolist() == [0, 1, 2, 3] * 2
    others = [frame for frame in range(20) if frame not in representatives]
    assert result.labels[0, others].tolist() == result.labels[0, [20 + frame for frame in others]].tolist()


def test_a_window_as_long_as_the_video_changes_no_bit() -> None:
    x = crowds(30, 6)
    whole, windowed = (vars(density_peaks(x, 5, 3, window=window)) for window in (None, 30))
    assert all(torch.equal(whole[name], windowed[name]) for name in whole)


def test_with_windows_all_that_is_computed_grows_with_the_video_alone() -> None:
    def count(frames: int, window: int | None) -> int:
        x = points(frames, 64)
        with profile(profile_memory=True) as seen:
            density_peaks(x, 8, 3, window=window)
        return sum(max(event.nbytes(), 0) for event in seen.profiler.kineto_results.events())

    assert count(2048, None) > 3 * count(1024, None)
    assert count(2048, 128) < 2.2 * count(1024, 128)


def test_labels_are_the_nearest_representatives() -> None:
    x = points(20, 4)
    result = density_peaks(x, 5, 3)
    reps = result.representatives[0].tolist()
    for t, label in enumerate(result.labels[0].tolist()):
        gaps = [0.0 if rep == t else oracles.distance(x[0, t], x[0, rep]) for rep in reps]
        assert gaps[label] == min(gaps)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20), st.integers(1, 7), st.sampled_from([3, 64, 500]), SEEDS)
@settings(max_examples=60)
@example([0, 1, 0, 1, 0, 2, 2, 2], 3, 500, 0)
def test_copies_give_one_representative_while_others_remain(
    kinds: list[int], count: int, width: int, seed: int
) -> None:
    x = points(6, width, seed)[:, kinds]
    result = density_peaks(x, count, 3)
    reps = result.representatives[0].tolist()
    shown = [kinds[rep] for rep in reps]
    assert len(reps) == min(count, len(kinds))
    assert reps == sorted(set(reps))
    assert len(set(shown)) == min(count, len(set(kinds)))
    # The first of the copies stands for them, to the bit; what room is left goes to the earliest others.
    firsts = [kinds.index(kind) for kind in sorted(set(kinds))]
    others = [n for n in range(len(kinds)) if n not in firsts]
    if count <= len(firsts):
        assert set(reps) <= set(firsts)
    else:
        assert reps == sorted(firsts + others[: count - len(firsts)])


@given(st.integers(1, 14), st.integers(1, 6), st.integers(0, 9), st.booleans(), SEEDS, st.sampled_from(READINGS))
@settings(max_examples=60)
def test_padding_and_other_videos_change_nothing(
    frames: int, count: int, more: int, copies: bool, seed: int, reading: str
) -> None:
    x = points(frames, 40, seed)
    if copies:
        x = x[:, torch.randint(0, frames, (frames,), generator=generator(seed))]
    mask = torch.arange(frames + more) < frames
    long = torch.cat([x, torch.full((1, more, 40), 9.0)], 1)
    other = points(frames + more, 40, seed + 1)
    both = density_peaks(
        torch.cat([other, long]), count, 3, torch.stack([torch.ones_like(mask), mask]), neighbourhood=reading
    )
    alone = density_peaks(x, count, 3, neighbourhood=reading)
    real = min(count, frames)
    assert both.representatives[1, :real].tolist() == alone.representatives[0].tolist()
    assert both.representatives[1, real:].ge(frames).all()
    assert both.labels[1, :frames].tolist() == alone.labels[0].tolist()
    torch.testing.assert_close(both.prototypes[1, :real], alone.prototypes[0], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(both.spread[1, :frames], alone.spread[0], atol=1e-6, rtol=1e-6)
    assert both.spread[1, frames:].eq(torch.inf).all()


@pytest.mark.parametrize("reading", READINGS)
def test_padding_that_looks_like_a_blank_frame_is_still_padding(reading: str) -> None:
    x = points(7, 12)
    x[:, 2] = 0
    padded = torch.cat([x, torch.zeros(1, 5, 12)], 1)
    alone, result = (
        density_peaks(x, 3, 3, None, reading),
        density_peaks(padded, 3, 3, torch.arange(12)[None] < 7, reading),
    )
    assert torch.equal(result.representatives, alone.representatives)
    torch.testing.assert_close(result.spread[:, :7], alone.spread, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(result.prototypes, alone.prototypes, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("reading", READINGS)
def test_equal_points_take_the_first_and_stay_finite(reading: str) -> None:
    x = points(1, 700).expand(1, 9, 700)
    result = density_peaks(x, 4, 3, neighbourhood=reading)
    assert result.representatives[0].tolist() == [0, 1, 2, 3]
    assert result.distance.lt(1e-12).all()
    assert result.spread.eq(0).all()
    torch.testing.assert_close(result.prototypes[0], x[0, :4])


@pytest.mark.parametrize("frames", [1, 3, 6])
def test_few_points_stay_as_they_are(frames: int) -> None:
    x = points(frames, 10)
    assert torch.equal(density_peaks(x, 6, 5).prototypes, x)


def test_far_points_neither_overflow_nor_tie() -> None:
    """Every density is zero in double precision here, but its logarithm still ranks."""
    x = points(12, 8, seed=2) * 1e4
    result = density_peaks(x, 4, 3)
    log_rho = oracles.eq1(list(x[0].double()), 3)
    delta = oracles.eq2(list(x[0].double()), log_rho)
    peak = [r + math.log(d) for r, d in zip(log_rho, delta, strict=True)]
    assert max(map(math.exp, log_rho)) == 0
    assert result.prototypes.isfinite().all()
    assert result.representatives[0].tolist() == oracles.top(peak, 4) != [0, 1, 2, 3]


def test_half_precision_points_are_measured_in_fp32() -> None:
    x = points(16, 32).half()
    with torch.autocast("cpu", torch.bfloat16):
        half = density_peaks(x, 4, 3)
    full = density_peaks(x.float(), 4, 3)
    assert half.prototypes.dtype == torch.float32
    assert half.spread.dtype == torch.float32
    assert torch.equal(half.representatives, full.representatives)
    assert torch.equal(half.distance, full.distance)


@pytest.mark.parametrize(("batch", "count", "width"), [(1, 1, 3), (3, 7, 64), (2, 40, 5), (1, 33, 700)])
@pytest.mark.parametrize("common", [0.0, 30.0])
def test_distances_from_gram_matrices_equal_their_definition(
    batch: int, count: int, width: int, common: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(batch, count, width, generator=generator(count)) + common
    exact = oracles.squared_distances(x.double())
    for block in (1024, 16, 5):  # in one piece, and put together from blocks
        monkeypatch.setattr(distances, "BLOCK", block)
        gaps = squared_distances(x)
        torch.testing.assert_close(gaps.double(), exact, atol=1e-5, rtol=1e-5)
        assert torch.equal(gaps, gaps.mT)
        assert gaps.diagonal(dim1=1, dim2=2).eq(0).all()


@given(st.integers(2, 40), st.sampled_from([3, 64, 700, 5000]), st.floats(1e-9, 1e-2), st.floats(0, 100), SEEDS)
@settings(max_examples=40)
def test_near_duplicates_are_never_at_a_negative_distance(
    count: int, width: int, apart: float, common: float, seed: int
) -> None:
    """And nothing is further off than fp32 rounds the points' squared lengths about their centre."""
    one, noise = points(1, width, seed), torch.randn(1, count, width, generator=generator(seed))
    x = torch.cat([one + apart * noise, points(3, width, seed + 1) * 2], 1) + common
    gaps, lengths = squared_distances(x), (x - x.mean(1, keepdim=True)).square().mean(-1)
    assert gaps.min() >= 0
    error = (gaps - oracles.squared_distances(x.double())).abs()
    assert (error <= 2**-17 * (lengths[:, None] + lengths[..., None]) + 1e-9).all()


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.sampled_from([3, 64, 900]), SEEDS)
@settings(max_examples=40)
def test_copies_are_found(kinds: list[int], width: int, seed: int) -> None:
    x = points(6, width, seed)[:, kinds]
    assert torch.equal(first_copies(x), oracles.first_copies(x))
    assert torch.equal(first_copies(x.half()), oracles.first_copies(x.half()))
    nearly = x * (1 + 1e-4 * torch.randn(x.shape, generator=generator(seed + 1)))  # closer than rounding, but no copies
    assert torch.equal(first_copies(nearly), oracles.first_copies(nearly))


def test_digests_tell_frames_apart_that_differ_in_one_bit() -> None:
    """Also where only the highest part of a 64-bit word differs, which a plain sum of products would lose."""
    x = torch.zeros(1, 2 * 600, 64, dtype=torch.float16)
    bits = x.view(torch.int16)
    for n in range(600):
        bits[0, n, 4 * (n % 16) + 3] = 1 + n // 16
        bits[0, 600 + n, 4 * (n % 16)] = 1 + n // 16
    assert torch.equal(first_copies(x)[0], torch.arange(1200))


@given(SEEDS)
@settings(max_examples=20)
def test_order_of_points_orders_everything(seed: int) -> None:
    x = points(12, 5, seed)
    order = torch.randperm(12, generator=generator(seed))
    for reading in READINGS:
        straight, mixed = density_peaks(x, 4, 3, None, reading), density_peaks(x[:, order], 4, 3, None, reading)
        assume(len(set(straight.spread[0].tolist())) == 12)
        places = order[mixed.representatives[0]]
        assert sorted(places.tolist()) == straight.representatives[0].tolist()
        torch.testing.assert_close(mixed.prototypes[0][places.argsort()], straight.prototypes[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("common", [0.0, 30.0])
def test_what_points_have_in_common_moves_no_choice(common: float) -> None:
    """As the large channels do that all patches of a vision encoder share."""
    x = torch.randn(20, 256, 96, generator=generator(0)).cumsum(1) / 16
    shared = common * torch.randn(96, generator=generator(1)) * 8
    plain, moved = (
        density_peaks(x.double().float(), 16, 8, copies=False),
        density_peaks(x + shared, 16, 8, copies=False),
    )
    assert (plain.representatives == moved.representatives).float().mean() > 0.95


@given(st.sampled_from([5, 31, 32, 128, 256, 300]), st.integers(1, 33), SEEDS)
@settings(max_examples=40)
def test_the_smallest_are_found_in_groups(width: int, count: int, seed: int) -> None:
    x = torch.randint(0, 40, (2, 7, width), generator=generator(seed)).float()  # with many ties
    count = min(count, width)
    assert torch.equal(smallest(x, count).sort(-1).values, x.sort(-1).values[..., :count])


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("masked", [False, True])
def test_blocks_change_nothing(reading: str, masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    x = crowds(50, 30)[:, torch.randint(0, 50, (50,), generator=generator(0))]
    mask = torch.arange(50)[None] < 43 if masked else None
    whole = density_peaks(x, 9, 4, mask, reading)
    monkeypatch.setattr(distances, "BLOCK", 16)
    parts = density_peaks(x, 9, 4, mask, reading)
    assert torch.equal(whole.representatives, parts.representatives)
    assert torch.equal(whole.labels[:, :43], parts.labels[:, :43])
    assert torch.equal(whole.first, parts.first)
    torch.testing.assert_close(whole.prototypes, parts.prototypes, atol=1e-6, rtol=1e-6)
