"""Each selector against a plain reference of its definition, by loops or by trying every set, on small videos."""

from dataclasses import replace
from itertools import combinations
from math import ceil, exp, log, prod
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor

from dynfocus.errors import ConfigError
from dynfocus.method.selectors import build_selector, find_events

SEEDS = range(6)


def build(name: str, **init_args: Any) -> Any:
    choice = {"class_path": name, "init_args": init_args}
    return build_selector(replace(tiny.SETTINGS, selector=choice), tiny.WIDTH, tiny.TEXT_WIDTH).eval()


def vectors(frames: int, seed: int) -> Tensor:
    return torch.randn(frames, 6, generator=tiny.generator(seed))


def fit(frames: int, seed: int) -> Tensor:
    return torch.rand(frames, generator=tiny.generator(seed + 50))


def scaled(values: Tensor) -> list[float]:
    low, high = float(values.min()), float(values.max())
    return [(float(value) - low) / (high - low) for value in values]


def far(points: Tensor) -> list[list[float]]:
    """The root mean square difference of every two points, number by number."""
    rows = points.double().tolist()
    return [[(sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) / len(x)) ** 0.5 for y in rows] for x in rows]


def cosines(points: Tensor) -> list[list[float]]:
    rows = points.double().tolist()
    size = [sum(a * a for a in x) ** 0.5 for x in rows]
    return [
        [sum(a * b for a, b in zip(x, y, strict=True)) / (size[i] * size[j]) for j, y in enumerate(rows)]
        for i, x in enumerate(rows)
    ]


def radius(distances: list[list[float]], kept: Any) -> float:
    return max(min(row[k] for k in kept) for row in distances)


def total(distances: list[list[float]], kept: Any) -> float:
    return sum(min(row[k] for k in kept) for row in distances)


@pytest.mark.parametrize("seed", SEEDS)
def test_farthest_first_takes_the_farthest_and_stays_within_twice_the_best_radius(seed: int) -> None:
    points = vectors(9, seed)
    distances = far(points)
    kept = build("farthest_first").choose(points, 4, None)
    for n in range(1, 4):
        nearest = [min(row[k] for k in kept[:n]) for row in distances]
        assert nearest[kept[n]] == pytest.approx(max(nearest))
    best = min(radius(distances, some) for some in combinations(range(9), 4))
    assert radius(distances, kept) <= 2 * best + 1e-6


@pytest.mark.parametrize("seed", SEEDS)
def test_no_exchange_lowers_the_cost_of_the_medoids(seed: int) -> None:
    points = vectors(10, seed)
    distances = far(points)
    kept = build("k_medoids").choose(points, 3, None)
    cost = total(distances, kept)
    for out in kept:
        for new in set(range(10)) - set(kept):
            assert total(distances, [*(set(kept) - {out}), new]) >= cost - 1e-5
    best = min(total(distances, some) for some in combinations(range(10), 3))
    assert best - 1e-6 <= cost <= 1.1 * best


def groups(seed: int) -> Tensor:
    """Three scenes of five, two and four frames that hardly change within."""
    centres = torch.eye(3, 6) * 10
    labels = torch.tensor([0] * 5 + [1] * 2 + [2] * 4)
    return centres[labels] + 0.1 * vectors(11, seed)


@pytest.mark.parametrize("name", ["k_medoids", "k_means", "farthest_first", "facility_location", "scene_change", "dpp"])
@pytest.mark.parametrize("seed", SEEDS)
def test_one_frame_of_each_scene_is_kept(name: str, seed: int) -> None:
    select = build(name, **({"weight": 0} if name == "dpp" else {}))
    kept = sorted(select.choose(groups(seed), 3, None))
    assert [0 <= kept[0] < 5, 5 <= kept[1] < 7, 7 <= kept[2] < 11] == [True] * 3


@pytest.mark.parametrize("seed", SEEDS)
def test_k_means_keeps_the_frames_nearest_to_centres_that_no_step_moves(seed: int) -> None:
    points = vectors(12, seed)
    kept = build("k_means").choose(points, 3, None)
    centres = points[[2, 6, 10]].double()  # the middles of three equal shares
    for _ in range(100):
        labels = torch.tensor([min(range(3), key=lambda n: float((x - centres[n]).norm())) for x in points.double()])
        centres = torch.stack([points[labels == n].double().mean(0) for n in range(3)])
    nearest = [
        min((t for t in range(12) if labels[t] == n), key=lambda t: float((points[t].double() - centres[n]).norm()))
        for n in range(3)
    ]
    assert sorted(kept) == sorted(nearest)


@pytest.mark.parametrize("seed", SEEDS)
def test_facility_location_adds_the_largest_gain_each_time(seed: int) -> None:
    points = vectors(9, seed)
    distances = far(points)
    most = max(map(max, distances))

    def covered(kept: Any) -> float:
        return sum(max((most - row[k] for k in kept), default=0.0) for row in distances)

    kept = build("facility_location").choose(points, 4, None)
    for n in range(4):
        gains = [covered([*kept[:n], t]) - covered(kept[:n]) for t in range(9) if t not in kept[:n]]
        assert covered(kept[: n + 1]) - covered(kept[:n]) == pytest.approx(max(gains), abs=1e-5)
    best = max(covered(some) for some in combinations(range(9), 4))
    assert covered(kept) >= (1 - 1 / exp(1)) * best


def kernel(points: Tensor, relevance: Tensor, weight: float) -> Tensor:
    quality = [exp(weight / 2 * value) for value in scaled(relevance)]
    rows = cosines(points)
    return torch.tensor(
        [[quality[i] * rows[i][j] * quality[j] for j in range(len(rows))] for i in range(len(rows))]
    ).double()


def volume(matrix: Tensor, kept: Any) -> float:
    kept = list(kept)
    return float(torch.linalg.det(matrix[kept][:, kept])) if kept else 1.0


@pytest.mark.parametrize("weight", [0.5, 3.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_dpp_adds_the_frame_with_the_largest_determinant(seed: int, weight: float) -> None:
    points, relevance = vectors(8, seed), fit(8, seed)
    matrix = kernel(points, relevance, weight)
    kept = build("dpp", weight=weight).choose(points, 5, relevance)
    for n in range(5):
        volumes = {t: volume(matrix, [*kept[:n], t]) for t in range(8) if t not in kept[:n]}
        assert max(volumes, key=lambda t: volumes[t]) == kept[n]


def test_dpp_beyond_the_rank_takes_the_frames_that_fit_best() -> None:
    points = torch.eye(2, 6)[[0, 0, 1, 1, 0]]
    kept = build("dpp").choose(points, 4, torch.tensor([0.1, 0.9, 0.3, 0.0, 0.5]))
    assert kept == [1, 2, 4, 0]


@pytest.mark.parametrize("seed", SEEDS)
def test_mdp3_shares_the_budget_out_as_a_search_of_all_shares_does(seed: int) -> None:
    """Two segments: every share is tried, each segment greedily, the second given the first."""
    points, relevance, keep = vectors(8, seed), fit(8, seed), 4
    matrix = kernel(points, relevance, 2.0)

    def add(given: list[int], places: range, count: int) -> list[int]:
        kept: list[int] = []
        for _ in range(count):
            rest = [t for t in places if t not in kept]
            kept.append(max(rest, key=lambda t: volume(matrix, [*given, *kept, t])))
        return kept

    values = {}
    for first in range(keep + 1):
        one = add([], range(4), first)
        two = add(one, range(4, 8), keep - first)
        values[tuple(one + two)] = log(volume(matrix, one)) + log(volume(matrix, one + two) / volume(matrix, one))
    kept = build("mdp3", weight=2.0, segment=4).choose(points, keep, relevance)
    assert sorted(kept) == sorted(max(values, key=lambda some: values[some]))


def test_mdp3_in_one_segment_is_the_greedy_process() -> None:
    points, relevance = vectors(9, 3), fit(9, 3)
    assert build("mdp3", segment=9).choose(points, 4, relevance) == build("dpp").choose(points, 4, relevance)


@pytest.mark.parametrize("balance", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_mmr_adds_the_largest_margin(seed: int, balance: float) -> None:
    points, relevance = vectors(9, seed), fit(9, seed)
    alike, values = cosines(points), scaled(relevance)
    kept = build("mmr", balance=balance).choose(points, 4, relevance)
    for n in range(4):

        def margin(t: int, before: Any = tuple(kept[:n])) -> float:
            return balance * values[t] - (1 - balance) * max((alike[t][k] for k in before), default=0.0)

        assert margin(kept[n]) == pytest.approx(max(margin(t) for t in range(9) if t not in kept[:n]), abs=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_event_mmr_keeps_the_best_frame_of_each_event_first(seed: int) -> None:
    one = tiny.sketch(12, seed)
    events, relevance = find_events(one, tiny.SETTINGS), fit(12, seed)
    labels = events.labels[0].tolist()
    best = {
        max((t for t in range(12) if labels[t] == n), key=lambda t: float(relevance[t])) for n in range(max(labels) + 1)
    }
    frames = one.pooled[0].flatten(1)
    select = build("event_mmr")
    assert set(select.choose(frames, 5, relevance)) == best
    assert set(select.choose(frames, 3, relevance)) < best
    assert set(select.choose(frames, 8, relevance)) > best


def aks(values: list[float], budget: int, threshold: float, depth: int) -> set[int]:
    """A reference on pairs of place and value, level by level instead of by recursion."""
    stretches, result = [(list(enumerate(values)), budget)], set()
    for level in range(depth + 1):
        following = []
        for stretch, k in stretches:
            ranked = sorted(stretch, key=lambda pair: -pair[1])
            if k == 0:
                continue
            gap = sum(value for _, value in ranked[:k]) / k - sum(value for _, value in stretch) / len(stretch)
            if level == depth or k == 1 or k == len(stretch) or gap >= threshold:
                result |= {place for place, _ in ranked[:k]}
                continue
            half = len(stretch) // 2
            one, two = stretch[:half], stretch[half:]
            more_left = max(value for _, value in one) >= max(value for _, value in two)
            a, b = (ceil(k / 2), k // 2) if more_left else (k // 2, ceil(k / 2))
            if a > len(one):
                a, b = len(one), k - len(one)
            if b > len(two):
                a, b = k - len(two), len(two)
            following += [(one, a), (two, b)]
        stretches = following
    return result


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("threshold", "depth"), [(0.2, 3), (0.4, 2), (2.0, 5), (0.0, 5), (0.3, 0)])
def test_aks_equals_the_reference(seed: int, threshold: float, depth: int) -> None:
    relevance = fit(13, seed)
    select = build("aks", threshold=threshold, depth=depth)
    for keep in (1, 2, 5, 9, 12):
        assert set(select.choose(vectors(13, 0), keep, relevance)) == aks(scaled(relevance), keep, threshold, depth)


def test_aks_goes_from_relevance_to_coverage() -> None:
    peak = torch.tensor([0.9, 1.0, 0.95, 0.0, 0.1, 0.0, 0.1, 0.0])
    assert set(build("aks", threshold=0.0).choose(vectors(8, 0), 2, peak)) == {1, 2}
    assert sorted(build("aks", threshold=1.5).choose(vectors(8, 0), 2, peak)) == [1, 4]
    assert sorted(build("aks", threshold=1.5).choose(vectors(8, 0), 4, peak)) == [1, 2, 4, 6]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("power", [0.0, 1.0, 4.0])
def test_bolt_equals_a_walk_along_the_distribution(seed: int, power: float) -> None:
    relevance, keep = fit(14, seed), 5
    weights = [value**power for value in scaled(relevance)]
    kept: list[int] = []
    for n in range(keep):
        place, passed = 0, weights[0]
        while passed < (n + 0.5) / keep * sum(weights) - 1e-12:
            place += 1
            passed += weights[place]
        kept += [place] * (place not in kept)
    while len(kept) < keep:
        kept.append(max((t for t in range(14) if t not in kept), key=lambda t: weights[t]))
    assert set(build("bolt", power=power).choose(vectors(14, 0), keep, relevance)) == set(kept)


def test_bolt_with_one_peak_or_none_keeps_different_frames() -> None:
    one = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0, 0.5])
    assert build("bolt").choose(vectors(6, 0), 1, one) == [2]
    assert sorted(build("bolt").choose(vectors(6, 0), 3, one)) == [0, 2, 5]
    assert sorted(build("bolt").choose(vectors(6, 0), 3, torch.full((6,), 0.7))) == [0, 2, 4]


def test_q_frame_draws_each_frame_as_often_as_its_softmax() -> None:
    relevance = torch.tensor([[0.0, 0.1, 0.2, 0.05, 0.15]])
    one, select = tiny.sketch(5), build("q_frame", temperature=0.1)
    counts = torch.zeros(5)
    for row in range(600):
        counts[select(one, tiny.inputs(one, [1], row, relevance=relevance)).frames[0]] += 1
    wanted = (relevance[0] / 0.1).softmax(0) * 600
    assert ((counts - wanted).abs() < 4.5 * wanted.sqrt()).all()
    cold = build("q_frame", temperature=1e-4)
    assert cold(one, tiny.inputs(one, [2], 3, relevance=relevance)).frames.tolist() == [[2, 4]]
    draws = {
        tuple(build("q_frame", draw=n)(one, tiny.inputs(one, [2], 3, relevance=relevance * 0)).frames[0].tolist())
        for n in range(9)
    }
    assert len(draws) > 1


def test_text_top_k_keeps_the_frames_that_fit_best_and_reports_their_scores() -> None:
    one, relevance = tiny.pad_sketch(tiny.sketch(6), 2), torch.tensor([[0.1, 0.9, 0.3, 0.8, 0.0, 0.2, 7.0, 7.0]])
    focus = build("text_top_k")(one, tiny.inputs(one, [2], relevance=relevance))
    assert focus.frames.tolist() == [[1, 3]]
    assert torch.equal(focus.frame_scores, torch.tensor([[0.1, 0.9, 0.3, 0.8, 0.0, 0.2, 0.0, 0.0]]))


def test_frame_difference_and_scene_change_go_by_the_frame_before() -> None:
    points = torch.tensor([0.0, 0.1, 4.0, 4.1, 4.0, 9.0, 9.0, 9.3])[:, None].expand(8, 4).reshape(8, 4, 1)
    one = replace(tiny.sketch(8), pooled=points[None].expand(1, 8, 4, tiny.WIDTH).contiguous())
    assert build("frame_difference")(one, tiny.inputs(one, [2])).frames.tolist() == [[2, 5]]
    assert build("scene_change").choose(points[:, :, 0], 3, None) == [0, 3, 6]
    assert build("scene_change").choose(points[:, :, 0], 1, None) == [3]


def test_redundancy_drop_drops_the_frame_most_like_the_one_before() -> None:
    points = torch.tensor([0.0, 1.0, 1.2, 5.0, 5.1, 5.3, 9.0])[:, None]
    keeps = {6: [0, 1, 2, 3, 5, 6], 5: [0, 1, 3, 5, 6], 4: [0, 1, 3, 6], 3: [0, 3, 6], 2: [0, 3]}
    for keep, wanted in keeps.items():
        assert build("redundancy_drop").choose(points, keep, None) == wanted


@pytest.mark.parametrize("seed", SEEDS)
def test_density_peaks_rank_by_density_times_distance(seed: int) -> None:
    one = tiny.sketch(10, seed)
    distances = [[value**2 for value in row] for row in far(one.pooled[0].flatten(1))]
    density = [exp(-sum(sorted(row)[:3]) / 3) for row in distances]
    peak = []
    for t in range(10):
        denser = [distances[t][o] for o in range(10) if density[o] > density[t]]
        peak.append(density[t] * min(denser, default=max(distances[t])))
    wanted = sorted(sorted(range(10), key=lambda t: -peak[t])[:4])
    assert build("dpc_knn")(one, tiny.inputs(one, [4])).frames[0].tolist() == wanted


@pytest.mark.parametrize("seed", SEEDS)
def test_grain_spread_ranks_the_representatives_by_their_first_layer(seed: int) -> None:
    one = tiny.sketch(12, seed)
    representatives = find_events(one, tiny.SETTINGS).frames[0].tolist()
    spread = {}
    for t in representatives:
        rows = one.grains[0, t, : tiny.SETTINGS.spatial_prototypes[0]].double()
        spread[t] = float((rows - rows.mean(0)).square().mean())
    wanted = sorted(sorted(representatives, key=lambda t: -spread[t])[:3])
    assert build("grain_spread")(one, tiny.inputs(one, [3])).frames[0].tolist() == wanted


def test_first_middle_last() -> None:
    one = tiny.pad_sketch(tiny.sketch(9), 2)
    kept = {name: build(name)(one, tiny.inputs(one, [3])).frames[0].tolist() for name in ("first", "middle", "last")}
    assert kept == {"first": [0, 1, 2], "middle": [3, 4, 5], "last": [6, 7, 8]}


@pytest.mark.parametrize(
    ("rate", "total_frames", "keep", "wanted"),
    [
        ((1.0, 1.0), 10, 4, [1, 3, 6, 8]),  # as many as there are: uniform
        ((0.5, 1.0), 10, 5, [0, 2, 4, 6, 8]),
        ((0.5, 1.0), 10, 2, [2, 6]),
        ((1.0, 29.97), 100, 4, [0, 30, 60, 90]),  # a step of 29.97, rounded up at each frame alone
        ((1.0, 0.25), 6, 6, [0, 1, 2, 3, 4, 5]),  # more frames wanted than there are: the same frame counts once
        ((0.1, 1.0), 8, 3, [0, 3, 7]),  # too few at the rate: the farthest are added
    ],
)
def test_a_capped_rate_does_not_drift(rate: tuple[float, float], total_frames: int, keep: int, wanted: list) -> None:
    select = build("capped_rate", fps=rate[0], frame_fps=rate[1])
    assert sorted(select.choose(vectors(total_frames, 0), keep, None)) == wanted


def test_a_capped_rate_keeps_its_time_over_an_hour() -> None:
    kept = sorted(build("capped_rate", fps=1, frame_fps=29.97).choose(torch.zeros(29970, 1), 1000, None))
    assert kept == [ceil(n * 2997 / 100) for n in range(1000)]


def test_draws_of_random_frames_are_different_and_each_is_repeated() -> None:
    one = tiny.sketch(20)
    draws = [build("random", draw=n)(one, tiny.inputs(one, [4])).frames[0].tolist() for n in (0, 1, 2, 1)]
    assert len({tuple(draw) for draw in draws}) == 3
    assert draws[1] == draws[3]


def test_controls_leave_the_needed_frames_out_or_move_them() -> None:
    one, relevant = tiny.sketch(10), torch.zeros(1, 10, dtype=torch.bool)
    relevant[0, [2, 3, 7]] = True
    oracle = build("oracle")(one, tiny.inputs(one, [3], relevant=relevant)).frames[0].tolist()
    assert oracle == [2, 3, 7]
    inverted = build("inverted")(one, tiny.inputs(one, [3], relevant=relevant)).frames[0].tolist()
    assert inverted == [1, 5, 8]  # of 0 1 4 5 6 8 9
    assert build("inverted")(one, tiny.inputs(one, [8], relevant=relevant)).mask.sum() == 8
    shifts = set()
    for row in range(40):
        moved = build("shuffled")(one, tiny.inputs(one, [3], row, relevant=relevant)).frames[0].tolist()
        shift = [n for n in range(1, 10) if moved == sorted((frame + n) % 10 for frame in oracle)]
        assert len(shift) == 1
        shifts |= set(shift)
    assert len(shifts) > 6
    of_uniform = build("inverted", of="uniform")
    assert of_uniform.reads == "nothing"
    assert set(of_uniform(one, tiny.inputs(one, [3])).frames[0].tolist()).isdisjoint({1, 5, 8})


@pytest.mark.parametrize(
    ("name", "init_args"),
    [
        ("capped_rate", {"fps": 0}),
        ("random", {"draw": -1}),
        ("aks", {"depth": -1}),
        ("bolt", {"power": -1}),
        ("q_frame", {"temperature": 0}),
        ("mmr", {"balance": 1.5}),
        ("dpp", {"weight": -1}),
        ("mdp3", {"segment": 0}),
        ("inverted", {"of": "unifrom"}),
    ],
)
def test_settings_that_mean_nothing_are_refused(name: str, init_args: dict) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(init_args.values()))}"):
        build(name, **init_args)


def test_the_volume_of_a_set_is_the_product_of_its_gains() -> None:
    from dynfocus.method.selectors.diversity import add_volume

    matrix = kernel(vectors(7, 1), fit(7, 1), 1.0)
    picks, gains = add_volume(matrix, [6], range(6), 3)
    assert prod(exp(gain) for gain in gains) == pytest.approx(volume(matrix, [6, *picks]) / volume(matrix, [6]))
