"""The seam: pooling, grains, chunks, rounding, and what is refused."""

from dataclasses import replace

import oracles
import pytest
import tiny
import torch

from dynfocus.errors import FeatureError
from dynfocus.method.events import find_events, frame_vectors
from dynfocus.method.sketch import cluster_patches, pool, sketch_frames, sketch_patches
from dynfocus.settings import ConnectorSettings
from dynfocus.types import stack_sketches


def patches(frames: int, count: int = 36, width: int = 10, seed: int = 0) -> torch.Tensor:
    return torch.randn(frames, count, width, generator=tiny.generator(seed))


@pytest.mark.parametrize(("side", "small"), [(6, 2), (6, 6), (6, 1), (4, 2), (6, 3)])
def test_pool_is_the_mean_of_each_square(side: int, small: int) -> None:
    v = patches(3, side * side)
    f = pool(v, small * small)
    step = side // small
    for t in range(3):
        for row in range(small):
            for column in range(small):
                inside = [v[t, side * (row * step + a) + column * step + b] for a in range(step) for b in range(step)]
                torch.testing.assert_close(f[t, row * small + column], sum(inside) / len(inside))


@pytest.mark.parametrize("reading", ["cluster", "nearest"])
@pytest.mark.parametrize(("counts", "near"), [((6, 3), (4, 2)), ((5,), (3,)), ((9, 9, 1), (8, 1, 3))])
def test_grains_equal_the_loops(counts: tuple[int, ...], near: tuple[int, ...], reading: str) -> None:
    settings = ConnectorSettings(
        patches=36, pooled=4, spatial_prototypes=counts, spatial_neighbours=near, spatial_neighbourhood=reading
    )
    v = patches(2)
    g = cluster_patches(v, settings)
    assert g.shape == (2, settings.grains, 10)
    for t in range(2):
        torch.testing.assert_close(
            g[t].double(), oracles.grains(v[t].double(), counts, near, reading), atol=1e-5, rtol=1e-5
        )


def test_equal_prototypes_tie_in_the_next_layer() -> None:
    """Four kinds of nine patches each: every prototype of layer 1 is one of four, each four times."""
    settings = ConnectorSettings(
        patches=36, pooled=4, spatial_prototypes=(16, 6), spatial_neighbours=(9, 3), spatial_neighbourhood="nearest"
    )
    for seed in range(6):
        kinds = 3 + 2 * torch.randn(4, 48, generator=tiny.generator(seed))
        v = kinds[torch.arange(36) % 4] + 0.3 * torch.randn(1, 36, 48, generator=tiny.generator(seed + 100))
        layers = cluster_patches(v, settings)[0]
        first, second = layers[:16].double(), layers[16:].double()
        assert len(first.unique(dim=0)) == 4
        torch.testing.assert_close(second, oracles.grains(first, (6,), (3,), "nearest"), atol=1e-5, rtol=1e-5)


def test_paper_sizes() -> None:
    result = sketch_patches(patches(2, 256, 24), ConnectorSettings())
    assert result.pooled.shape == (1, 2, 16, 24)
    assert result.grains.shape == (1, 2, 22, 24)
    assert result.patches is None
    assert result.frames.tolist() == [2]


def test_frame_vectors_give_the_mean_squared_difference_over_rows_and_width() -> None:
    rows = frame_vectors(tiny.sketch(3))[0]
    assert rows.shape == (3, tiny.SETTINGS.pooled * tiny.WIDTH)
    f = tiny.sketch(3).pooled[0]
    assert oracles.distance(rows[0], rows[2]) == pytest.approx((f[0] - f[2]).square().mean().item(), rel=1e-5)


def brightness(frames: torch.Tensor) -> torch.Tensor:
    """A stand-in encoder whose output is exact in any batch: what is tested here is the road around it."""
    small = frames[:, ::4, ::4].flatten(1, 2).float()
    return torch.cat([small, small.square() / 255, small.sqrt() * 16], -1) / 16


@pytest.mark.parametrize("chunk", [1, 3, 7, 64])
def test_chunks_change_nothing_and_the_encoder_never_sees_more(chunk: int) -> None:
    v = tiny.frames(7)
    lengths: list[int] = []

    def encoder(part: torch.Tensor) -> torch.Tensor:
        lengths.append(len(part))
        return brightness(part)

    whole = sketch_patches(brightness(v), tiny.SETTINGS)
    result = sketch_frames(v, encoder, tiny.SETTINGS, chunk)
    assert max(lengths) == min(chunk, 7)
    assert sum(lengths) == 7
    assert result.patches is None
    for part in ("pooled", "grains", "mask"):
        assert torch.equal(getattr(result, part), getattr(whole, part))


def test_patches_are_held_of_representatives_or_of_all_frames() -> None:
    v = tiny.frames(9)
    some = sketch_frames(v, brightness, replace(tiny.SETTINGS, kept_tokens=256))
    every = sketch_frames(v, brightness, replace(tiny.SETTINGS, kept_tokens=256, patch_frames="all"))
    assert some.patch_frames is not None
    assert every.patch_frames is not None
    assert some.patch_frames.tolist() == find_events(some, tiny.SETTINGS).frames.tolist()
    assert every.patch_frames.tolist() == [list(range(9))]
    for result in (some, every):
        assert torch.equal(result.patches[0], brightness(v[result.patch_frames[0]]).half())


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_sketch_is_rounded_to_its_precision(dtype: str) -> None:
    result = sketch_frames(tiny.frames(3), brightness, replace(tiny.SETTINGS, sketch_dtype=dtype))
    exact = sketch_frames(tiny.frames(3), brightness, replace(tiny.SETTINGS, sketch_dtype="float32"))
    assert result.pooled.dtype == result.grains.dtype == getattr(torch, dtype)
    assert torch.equal(result.grains, exact.grains.to(result.grains.dtype))


def test_wrong_number_of_patches_is_refused() -> None:
    with pytest.raises(FeatureError, match=r"25 patches .* Set connector.patches to 25"):
        sketch_patches(patches(2, 25), tiny.SETTINGS)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_frame_that_is_not_finite_is_named(value: float) -> None:
    v = patches(5)
    v[3, 7, 2] = value
    with pytest.raises(FeatureError, match="frame 3 that"):
        sketch_frames(
            torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 1, 1, 3),
            lambda part: v[part[:, 0, 0, 0].long()],
            tiny.SETTINGS,
            2,
        )


def test_numbers_too_large_for_the_sketch_precision_are_refused() -> None:
    v = patches(2) * 1e6
    assert sketch_patches(v, replace(tiny.SETTINGS, sketch_dtype="float32")).pooled.isfinite().all()
    with pytest.raises(FeatureError, match="frames 0 to 1 too large for float16"):
        sketch_frames(tiny.frames(2), lambda part: v[: len(part)], tiny.SETTINGS)


def test_patches_too_large_for_the_sketch_precision_are_refused() -> None:
    """Pooled and clustered they may still fit."""
    v = patches(3)
    v[1, 5, 2], v[1, 11, 2] = 7e4, -7e4
    settings = replace(tiny.SETTINGS, kept_tokens=256, patch_frames="all", spatial_prototypes=(1, 1))
    with pytest.raises(FeatureError, match="too large for float16"):
        sketch_frames(tiny.frames(3), lambda part: v[: len(part)], settings)


def test_stacked_sketches_are_padded_and_gathered() -> None:
    short, long = tiny.sketch(2, seed=1), tiny.sketch(4, seed=2)
    both = stack_sketches([short, long])
    assert both.frames.tolist() == [2, 4]
    assert torch.equal(both.pooled[0, :2], short.pooled[0])
    again = both.gather(torch.tensor([1, 0, 1]))
    assert again.frames.tolist() == [4, 2, 4]
    assert torch.equal(again.grains[2], long.grains[0])
