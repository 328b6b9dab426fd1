"""Distances over their mean in a video: the same events whatever the scale of the features."""

import pytest
import tiny
import torch

from dynfocus.method.distances import divide_by_mean, median_distance, squared_distances
from dynfocus.method.events import find_events, frame_vectors
from dynfocus.method.sketch import sketch_patches
from dynfocus.settings import ConnectorSettings
from dynfocus.world.pixels import render
from dynfocus.world.videos import sample_video


def test_events_are_found_whatever_the_scale_of_the_features() -> None:
    """A tower whose features are not normalised: patches of the world's frames under one random projection."""
    weight = torch.randn(192, 48, generator=tiny.generator(0)) / 192**0.5
    small = {"patches": 36, "pooled": 4, "events": 8, "spatial_prototypes": (8, 3), "spatial_neighbours": (5, 3)}
    videos = [sample_video(3, index) for index in range(12)]
    counts: dict[tuple[str, int], int] = {}
    for video in videos:
        pixels = torch.from_numpy(render(video)).float().div(255).sub(0.45).div(0.25)
        rows = pixels.unfold(1, 8, 8).unfold(2, 8, 8).flatten(1, 2).flatten(2) @ weight
        for scale in (1, 3, 5, 10):
            for name in ("width", "video"):
                settings = ConnectorSettings(**small, sketch_dtype="float32", distance_scale=name)
                sketch = sketch_patches(scale * rows, settings)
                frames = set(find_events(sketch, settings).frames[0].tolist())
                hits = sum(not frames.isdisjoint(scene.event.frames) for scene in video.eventful)
                counts[name, scale] = counts.get((name, scale), 0) + hits
    every = sum(len(video.eventful) for video in videos)
    assert counts["width", 1] > 0.9 * every
    assert counts["width", 10] < 0.5 * every
    assert {counts["video", scale] for scale in (1, 3, 5, 10)} == {counts["video", 1]}
    assert counts["video", 1] > 0.9 * every


@pytest.mark.parametrize("more", [0, 3])
def test_distances_over_their_mean(more: int) -> None:
    """Also of padded, long and unchanging videos, and of a single frame."""
    for frames in (1, 2, 7, 600):
        one = tiny.pad_sketch(tiny.sketch(frames, frames), more)
        points, mask = frame_vectors(one), one.mask
        distances = squared_distances(points, mask)
        real = distances[:, :frames, :frames]
        mean = real.sum() / max(frames * (frames - 1), 1)
        result = divide_by_mean(distances.clone(), mask)[:, :frames, :frames]
        torch.testing.assert_close(result, real / mean if frames > 1 else real)
        if 1 < frames < 64:
            pairs = real[0][~torch.eye(frames, dtype=torch.bool)]
            torch.testing.assert_close(median_distance(points, mask)[0], pairs.median())
    assert divide_by_mean(torch.zeros(1, 3, 3), None).eq(0).all()
    assert median_distance(torch.zeros(1, 1, 4), torch.ones(1, 1, dtype=torch.bool)).isnan().all()
