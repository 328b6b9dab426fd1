"""Merge the frames of a video into event prototypes: Eq. 1-3 over time."""

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dynfocus.method.cluster import density_peaks
from dynfocus.settings import ConnectorSettings
from dynfocus.types import Events, FrameSketch


def find_events(sketch: FrameSketch, settings: ConnectorSettings, padded: bool = True) -> Events:
    """The L' = min(L, T) event prototypes of each video, in fp32.

    ``padded=False`` says that all videos are equally long, which spares what padding costs. Where a sketch holds the
    patches of its representatives, these frames are the representatives, and are not computed again.

    Paper: Eq. 1-3, over the frames of a video.
    """
    mask = sketch.mask if padded else None
    representatives = None
    if settings.patch_frames == "representatives" and sketch.patch_frames is not None:
        last = sketch.mask.shape[1] - 1  # padding, where a video has fewer events than others
        representatives = sketch.patch_frames.masked_fill(sketch.patch_frames < 0, last)
    clusters = density_peaks(
        frame_vectors(sketch),
        settings.events,
        settings.neighbours,
        mask,
        settings.neighbourhood,
        representatives=representatives,
        scale=settings.distance_scale,
        window=settings.event_window,
    )
    return Events(
        frames=clusters.representatives,
        mask=sketch.mask[:, : clusters.representatives.shape[1]],  # those of padding come last
        prototypes=rearrange(clusters.prototypes, "b l (p d) -> b l p d", p=settings.pooled),
        first=clusters.first,
        labels=clusters.labels,
        spread=clusters.spread,
        distance=clusters.distance,
    )


def merge_around(
    sketch: FrameSketch, frames: Int[Tensor, "B K"], real: Bool[Tensor, "B K"], settings: ConnectorSettings
) -> Float[Tensor, "B K P d"]:
    """What Eq. 3 makes of some frames of each video, in fp32: a representative becomes its event prototype.

    Frames that are no representative are added to the representatives, and their neighbourhood is read as theirs is;
    so every other frame still counts once. ``frames`` are different and in time order; slots that are not ``real`` stay
    zero. Each video is merged by itself, in O(T^2 P d).

    Paper: Eq. 3.
    Departs: the paper merges around the representatives alone.
    """
    merged = torch.zeros(*frames.shape, *sketch.pooled.shape[2:], device=frames.device)
    vectors = frame_vectors(sketch)
    for n, count in enumerate(sketch.frames.tolist()):
        own, kept = vectors[n : n + 1, :count], frames[n][real[n]]
        options: dict[str, Any] = {"neighbourhood": settings.neighbourhood, "scale": settings.distance_scale}
        options |= {"window": settings.event_window}
        peaks = density_peaks(own, settings.events, settings.neighbours, **options)
        centres = torch.cat([peaks.representatives[0], kept]).unique()
        clusters = density_peaks(own, len(centres), settings.neighbours, representatives=centres[None], **options)
        mine = clusters.prototypes[0, torch.searchsorted(centres, kept)]
        merged[n, real[n]] = rearrange(mine, "k (p d) -> k p d", p=settings.pooled)
    return merged


def frame_vectors(sketch: FrameSketch) -> Float[Tensor, "B T f"]:
    """Each frame as one vector, its pooled patches in a row: distances over time are between these vectors."""
    return rearrange(sketch.pooled, "b t p d -> b t (p d)")
