"""Merge the frames of a video into event prototypes: Eq. 1-3 over time."""

from einops import rearrange
from jaxtyping import Float
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


def frame_vectors(sketch: FrameSketch) -> Float[Tensor, "B T f"]:
    """Each frame as one vector, its pooled patches in a row: distances over time are between these vectors."""
    return rearrange(sketch.pooled, "b t p d -> b t (p d)")
