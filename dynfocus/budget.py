"""Tokens from T, L, K, known before anything runs (no torch)."""

from dataclasses import dataclass

from dynfocus.errors import VideoError
from dynfocus.settings import ConnectorSettings, kept, prototypes


@dataclass(frozen=True)
class Budget:
    """What one video costs: ``prototypes`` L', ``kept`` K' of them, and the visual tokens by their kind."""

    frames: int
    prototypes: int
    kept: int
    cones: int
    rods: int

    @property
    def visual_tokens(self) -> int:
        return self.cones + self.rods


def budget(frames: int, settings: ConnectorSettings) -> Budget:
    """Count the visual tokens of a video of T ``frames``: with the paper's settings 40 K' + 2 (T - K').

    Raises:
        VideoError: if ``frames`` is below 1.

    Paper: Eq. 11.
    """
    if frames < 1:
        raise VideoError(f"a video of {frames} frames", "at least one frame", "Check the file and the frame rule.")
    if settings.encoder == "average_pooling":
        return Budget(frames, frames, frames, frames * settings.pooled, 0)
    chosen = kept(frames, settings)
    rods = settings.kept_rods * chosen + settings.redundant_tokens * (frames - chosen)
    return Budget(frames, prototypes(frames, settings), chosen, settings.cones * chosen, rods)
