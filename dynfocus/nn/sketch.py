"""Patches -> FrameSketch: the seam with no learned parameter, computed once a video for any number of questions."""

from collections.abc import Callable
from math import isqrt

import torch
from einops import rearrange, reduce
from jaxtyping import Float, UInt8
from torch import Tensor

from dynfocus.errors import FeatureError
from dynfocus.nn.cluster import density_peaks
from dynfocus.settings import ConnectorSettings
from dynfocus.types import FrameSketch

Encoder = Callable[[UInt8[Tensor, "T H W 3"]], Float[Tensor, "T N d"]]


def sketch_frames(
    frames: UInt8[Tensor, "T H W 3"], encoder: Encoder, settings: ConnectorSettings, chunk: int = 64
) -> FrameSketch:
    """Encode one video's frames and sketch them, ``chunk`` frames at a time, so that V never exists whole.

    Returns the sketch with B = 1, rounded to ``settings.sketch_dtype`` and given back in fp32: a cached sketch and a
    fresh one are the same bits.

    Raises:
        FeatureError: if a number is NaN, infinite, or too large for ``settings.sketch_dtype``.
    """
    with torch.no_grad():
        parts = [sketch_patches(encoder(part), settings) for part in frames.split(chunk)]
    rounded = getattr(torch, settings.sketch_dtype)
    sketch = FrameSketch(
        torch.cat([part.pooled for part in parts], 1).to(rounded).float(),
        torch.cat([part.grains for part in parts], 1).to(rounded).float(),
        torch.cat([part.mask for part in parts], 1),
        torch.cat([part.patches for part in parts], 1).to(rounded).float()  # type: ignore[misc]
        if settings.kept_tokens == 256
        else None,
    )
    for values in (sketch.pooled, sketch.grains, sketch.patches):
        if values is not None and not values.isfinite().all():
            raise FeatureError(
                f"features too large for {settings.sketch_dtype}",
                "finite numbers in the precision that sketches are kept in",
                "Set connector.sketch_dtype to bfloat16 or float32.",
            )
    return sketch


def sketch_patches(patches: Float[Tensor, "T N d"], settings: ConnectorSettings) -> FrameSketch:
    """Sketch the patches of T frames of one video: f_t and G_t, with B = 1.

    Raises:
        FeatureError: if there are not N patches a frame, or a number is NaN or infinite.
    """
    if patches.shape[1] != settings.patches:
        raise FeatureError(
            f"{patches.shape[1]} patches a frame from the vision encoder, and settings for {settings.patches}",
            "the same number in both",
            f"Set connector.patches to {patches.shape[1]}.",
        )
    if not patches.isfinite().all():
        bad = (~patches.isfinite()).flatten(1).any(1).nonzero()[0].item()
        raise FeatureError(
            f"patch features of frame {bad} that are NaN or infinite",
            "finite numbers",
            "Check the frame, the vision encoder's weights and its precision.",
        )
    return FrameSketch(
        pooled=pool(patches, settings.pooled)[None],
        grains=multigrained(patches, settings)[None],
        mask=torch.ones(1, len(patches), dtype=torch.bool, device=patches.device),
        patches=patches[None] if settings.kept_tokens == 256 else None,
    )


def pool(patches: Float[Tensor, "T N d"], pooled: int) -> Float[Tensor, "T P d"]:
    """f_t: the square grid of N patches averaged locally to a square grid of P."""
    side, small = isqrt(patches.shape[1]), isqrt(pooled)
    return reduce(patches, "t (h a w b) d -> t (h w) d", "mean", h=small, a=side // small, w=small, b=side // small)


def multigrained(patches: Float[Tensor, "T N d"], settings: ConnectorSettings) -> Float[Tensor, "T G d"]:
    """G_t: the prototypes of all spatial clustering layers, each fed with the one before.

    Paper: Eq. 1-3, over the patches of one frame.
    """
    layers, points = [], patches
    for count, neighbours in zip(settings.spatial_prototypes, settings.spatial_neighbours, strict=True):
        points = density_peaks(points, count, neighbours, neighbourhood=settings.neighbourhood).prototypes
        layers.append(points)
    return torch.cat(layers, 1)


def frame_vectors(sketch: FrameSketch) -> Float[Tensor, "B T f"]:
    """Each frame as one vector: its pooled patches in a row, what temporal distances are taken between."""
    return rearrange(sketch.pooled, "b t p d -> b t (p d)")
