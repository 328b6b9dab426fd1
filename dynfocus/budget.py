"""Tokens from T, L, K, known before anything runs (no torch)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import ROUND_FLOOR, Decimal
from itertools import count

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


@dataclass(frozen=True)
class Fit:
    """For each of three settings the largest value that fits, all else as it is; None where it alone cannot."""

    frames: int | None
    events: int | None
    keep: float | None


def largest_fit(frames: int, settings: ConnectorSettings, tokens: int) -> Fit:
    """With which T, which L and which K/L does a video of at most ``frames`` frames cost at most ``tokens``?

    L is tried up to ``frames``, beyond which it changes nothing. K/L is the shortest decimal that keeps as many
    prototypes as fit, so it can be set as it is printed.
    """

    def fits(frames: int, **changed: int | float) -> bool:
        return budget(frames, replace(settings, **changed)).visual_tokens <= tokens  # type: ignore[arg-type]

    events = prototypes(frames, settings)
    chosen = _largest(events, lambda k: fits(frames, keep=_share(k, events)))
    return Fit(
        _largest(frames, fits),
        _largest(frames, lambda n: fits(frames, events=n)),
        None if chosen is None else _share(chosen, events),
    )


def _largest(most: int, fits: Callable[[int], bool]) -> int | None:
    """The largest of 1 ... ``most`` that fits, where costs only rise or only fall with it."""
    if fits(most):
        return most
    known, beyond = 0, most
    while beyond - known > 1:
        middle = (known + beyond) // 2
        known, beyond = (middle, beyond) if fits(middle) else (known, middle)
    return known or None


def _share(chosen: int, of: int) -> float:
    """The largest decimal, of as few places as can be, whose share of ``of`` rounds up to ``chosen``."""
    exact = Decimal(chosen) / of
    cut = (exact.quantize(Decimal(1).scaleb(-places), ROUND_FLOOR) for places in count(1))
    return float(next(short for short in cut if short * of > chosen - 1))
