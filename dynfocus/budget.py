"""Tokens from T, L, K, known before anything runs (no torch)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import ROUND_FLOOR, Decimal
from itertools import count

from dynfocus.errors import ConfigError, VideoError
from dynfocus.settings import ConnectorSettings, count_kept, prototypes


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
    chosen = count_kept(frames, settings)
    rods = settings.kept_rods * chosen + settings.redundant_tokens * (frames - chosen)
    return Budget(frames, prototypes(frames, settings), chosen, settings.cones * chosen, rods)


@dataclass(frozen=True)
class HostBudget:
    """What one video costs in another video language model.

    Attributes:
        frames, kept: T, and K of them.
        cones: tokens of kept frames, which are given in full.
        rods: averaged tokens of all other frames.
        closing: tokens behind the last frame.
    """

    frames: int
    kept: int
    cones: int
    rods: int
    closing: int = 0

    @property
    def visual_tokens(self) -> int:
        return self.cones + self.rods + self.closing


def budget_host(frames: int, keep: int, full: int, rods: int, closing: int = 0) -> HostBudget:
    """Count the visual tokens of T ``frames`` in a host: K of ``full`` tokens each, the others of ``rods`` each.

    Raises:
        ConfigError: if K is not from 1 to T.
    """
    if not 1 <= keep <= frames:
        raise ConfigError(f"{keep} kept frames of {frames}", f"1 to {frames}", "Correct --keep.")
    return HostBudget(frames, keep, keep * full, (frames - keep) * rods, closing)


def most_kept(frames: int, count: Callable[[int], HostBudget], tokens: int) -> int:
    """The most frames that can be kept within a budget of ``tokens``, at most T.

    Args:
        frames: T.
        count: the budget by the number of kept frames.
        tokens: how many visual tokens may be spent.

    Raises:
        ConfigError: if not even one frame fits.
    """
    fits = [keep for keep in range(1, frames + 1) if count(keep).visual_tokens <= tokens]
    if not fits:
        least = count(1).visual_tokens
        raise ConfigError(
            f"a budget of {tokens} visual tokens for {frames} frames", f"at least {least}", "Raise it, or lower --rods."
        )
    return max(fits)


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


PATCHES = 256  # tokens of a frame that is given whole: EVA ViT-G's 16 x 16 patches, as most connectors start from


@dataclass(frozen=True)
class Method:
    """How many visual tokens a method spends on a video.

    Attributes:
        name: as in the paper.
        tokens: from the frames of the video at one a second.
        formula: the same in words.
    """

    name: str
    tokens: Callable[[int], int]
    formula: str


def dynfocus_method(settings: ConnectorSettings = ConnectorSettings(), given: int | None = None) -> Method:  # noqa: B008 (frozen)
    """DynFocus with these settings; ``given`` says that it reads so many frames, however long the video is."""
    if given is None:
        return Method("DynFocus", lambda frames: budget(frames, settings).visual_tokens, "40 K' + 2 (T - K')")
    spent = budget(given, settings).visual_tokens
    return Method(f"DynFocus, {given} frames", lambda frames: spent, f"40 K' + 2 ({given} - K')")


LLAMA_VID = Method("LLaMA-VID", lambda frames: 2 * frames, "2 T")


OTHERS = (
    LLAMA_VID,
    Method("Chat-UniVi", lambda frames: 112 * -(-min(frames, 64) // 16), "112 ceil(min(T, 64) / 16)"),
    Method("ST-LLM", lambda frames: 512, "512: 16 frames of 32 tokens"),
    Method("ST-LLM, every frame", lambda frames: 32 * frames, "32 T: 32 for each frame given; its own scripts give 16"),
    Method("Video-ChatGPT", lambda frames: 356, "356: 100 frames, pooled over time and over space"),
    Method("VideoChat2", lambda frames: 96, "96: learned queries"),
    Method("LLaVA-NeXT-Video", lambda frames: 32 * 144, "144 a frame, 32 frames"),
)


def every_patch(frames: int) -> int:
    """Tokens of T frames that are given whole."""
    return PATCHES * frames
