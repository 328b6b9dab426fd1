"""Eq. 1-3 over time: the event prototypes of a video."""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from dynfocus.method.cluster import density_peaks
from dynfocus.settings import ConnectorSettings
from dynfocus.types import Events, FrameSketch


def find_events(sketch: FrameSketch, settings: ConnectorSettings, padded: bool = True) -> Events:
    """The L' = min(L, T) event prototypes of each video, in fp32.

    ``padded=False`` says that all videos are equally long, which spares what padding costs. A sketch that holds the
    patches of its representatives has chosen them: they are not chosen again.

    Paper: Eq. 1-3, over the frames of a video.
    """
    mask = sketch.mask if padded else None
    chosen = None
    if settings.patch_frames == "representatives" and sketch.patch_frames is not None:
        last = sketch.mask.shape[1] - 1  # padding, where a video has fewer events than others
        chosen = sketch.patch_frames.masked_fill(sketch.patch_frames < 0, last)
    found = density_peaks(
        frame_vectors(sketch), settings.events, settings.neighbours, mask, settings.neighbourhood, chosen=chosen
    )
    return Events(
        frames=found.representatives,
        mask=sketch.mask[:, : found.representatives.shape[1]],  # those of padding come last
        prototypes=rearrange(found.prototypes, "b l (p d) -> b l p d", p=settings.pooled),
        first=found.first,
        labels=found.labels,
        spread=found.spread,
        distance=found.distance,
    )


def frame_vectors(sketch: FrameSketch) -> Float[Tensor, "B T f"]:
    """Each frame as one vector: its pooled patches in a row, what temporal distances are taken between."""
    return rearrange(sketch.pooled, "b t p d -> b t (p d)")
