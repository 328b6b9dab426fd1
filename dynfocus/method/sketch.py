"""Sketch videos: patches -> FrameSketch, without learned parameters, once a video for any number of questions."""

from collections.abc import Callable
from math import isfinite, isqrt

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from dynfocus.errors import FeatureError
from dynfocus.method.cluster import density_peaks
from dynfocus.method.distances import blocks
from dynfocus.method.events import find_events
from dynfocus.settings import CHUNK, ConnectorSettings, prototypes
from dynfocus.types import FrameSketch

Encoder = Callable[[UInt8[Tensor, "T H W 3"]], Float[Tensor, "T N d"]]


@torch.no_grad()
def sketch_frames(
    frames: UInt8[Tensor, "T H W 3"], encoder: Encoder, settings: ConnectorSettings, chunk: int = CHUNK
) -> FrameSketch:
    """Encode one video's frames and sketch them, ``chunk`` frames at a time, so that V never exists whole.

    Returns the sketch with B = 1 in ``settings.sketch_dtype``. Where cones are made of single patches, the
    encoder reads the frames of ``settings.patch_frames`` a second time.

    Raises:
        FeatureError: if there are not N patches a frame, a number is NaN or infinite, or too large for
            ``settings.sketch_dtype``.
    """
    sketch = sketch_patches(encoder(frames[:chunk]), settings)
    if len(frames) > chunk:
        first, sketch = sketch, _allocate(sketch, len(frames))
        sketch.pooled[:, :chunk], sketch.grains[:, :chunk] = first.pooled, first.grains
    for start in range(chunk, len(frames), chunk):
        part = sketch_patches(encoder(frames[start : start + chunk]), settings, start)
        sketch.pooled[:, start : start + chunk], sketch.grains[:, start : start + chunk] = part.pooled, part.grains
    if settings.reads_patches:
        if settings.patch_frames == "all":
            sketch.patch_frames = torch.arange(len(frames), device=sketch.mask.device)[None]
        else:
            sketch.patch_frames = find_events(sketch, settings, padded=False).frames
        selection = frames[sketch.patch_frames[0].to(frames.device)]
        sketch.patches = torch.cat([encoder(part).to(sketch.pooled.dtype) for part in selection.split(chunk)])[None]
        if not is_finite(sketch):
            raise _too_large(settings, 0, len(frames))
    return sketch


def encoder_calls(frames: int, settings: ConnectorSettings, chunk: int = CHUNK) -> int:
    """How many times `sketch_frames` calls the encoder for a video of so many frames."""
    again = 0
    if settings.reads_patches:
        again = frames if settings.patch_frames == "all" else prototypes(frames, settings)
    return -(-frames // chunk) - (-again // chunk)


def sketch_patches(patches: Float[Tensor, "T N d"], settings: ConnectorSettings, start: int = 0) -> FrameSketch:
    """Sketch the patches of T frames of one video: f_t and G_t, with B = 1, rounded to ``settings.sketch_dtype``.

    ``start`` is the place of the first of them in the video; errors name frames by their place.
    """
    if patches.shape[1] != settings.patches:
        raise FeatureError(
            f"{patches.shape[1]} patches a frame from the vision encoder, and settings for {settings.patches}",
            "the same number in both",
            f"Set connector.patches to {patches.shape[1]}.",
        )
    dtype = getattr(torch, settings.sketch_dtype)
    sketch = FrameSketch(
        pooled=pool(patches, settings.pooled).to(dtype)[None],
        grains=cluster_patches(patches, settings).to(dtype)[None],
        mask=torch.ones(1, len(patches), dtype=torch.bool, device=patches.device),
    )
    if not is_finite(sketch):
        raise _unusable(patches, settings, start)
    return sketch


def pool(patches: Float[Tensor, "T N d"], pooled: int) -> Float[Tensor, "T P d"]:
    """f_t: the square grid of N patches averaged locally to a square grid of P."""
    side, small = isqrt(patches.shape[1]), isqrt(pooled)
    grid = rearrange(patches, "t (h w) d -> t d h w", h=side)
    return rearrange(torch.nn.functional.avg_pool2d(grid, side // small), "t d h w -> t (h w) d")


def cluster_patches(patches: Float[Tensor, "T N d"], settings: ConnectorSettings) -> Float[Tensor, "T G d"]:
    """G_t: the prototypes of all spatial clustering layers, each fed with the one before, in fp32.

    Paper: Eq. 1-3, over the patches of one frame.
    """
    layers: list[Tensor] = []
    points, reading = patches, settings.spatial_neighbourhood
    for count, neighbours in zip(settings.spatial_prototypes, settings.spatial_neighbours, strict=True):
        # Patches carry their position, so that no two are equal; prototypes with the same nearest points are.
        copies = bool(layers) and reading == "nearest"
        clusters = density_peaks(points, count, neighbours, neighbourhood=reading, copies=copies)
        points = clusters.prototypes
        if reading == "nearest":  # equal but for rounding: made equal to the bit, so that they tie in the next layer
            points = points.gather(1, clusters.first[..., None].expand_as(points))
        layers.append(points)
    return torch.cat(layers, 1)


def is_finite(sketch: FrameSketch) -> bool:
    """Whether every number of the sketch is finite: sums of blocks are, which take no memory."""
    values = [part for part in (sketch.pooled, sketch.grains, sketch.patches) if part is not None]
    return isfinite(torch.stack([b.sum(dtype=torch.float32) for part in values for b in blocks(part)]).sum())


def _allocate(part: FrameSketch, frames: int) -> FrameSketch:
    pooled, grains = (values.new_empty(1, frames, *values.shape[2:]) for values in (part.pooled, part.grains))
    return FrameSketch(pooled, grains, part.mask.new_ones(1, frames))


def _unusable(patches: Float[Tensor, "T N d"], settings: ConnectorSettings, start: int) -> FeatureError:
    bad = (~patches.isfinite()).flatten(1).any(1)
    if bad.any():
        return FeatureError(
            f"patch features of frame {start + int(bad.nonzero()[0])} that are NaN or infinite",
            "finite numbers",
            "Check the frame, the vision encoder's weights and its precision.",
        )
    return _too_large(settings, start, len(patches))


def _too_large(settings: ConnectorSettings, start: int, count: int) -> FeatureError:
    return FeatureError(
        f"features of frames {start} to {start + count - 1} too large for {settings.sketch_dtype}",
        "finite numbers in the precision that sketches are kept in",
        "Set connector.sketch_dtype to bfloat16 or float32.",
    )
