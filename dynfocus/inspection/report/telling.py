"""What a selection comes to, in words that a picture and a page share."""

from math import isfinite

from dynfocus.budget import PATCHES, every_patch
from dynfocus.records.selections import Selection

BEST = 6  # frames that the paper's Figure 5 shows


def ranks(selection: Selection) -> dict[int, int]:
    """The kept frames of the highest scores with their rank from 1; none where there is nothing to rank."""
    score = selection.scored
    if not score or len(selection.kept) < 2:
        return {}
    best = sorted(selection.best(BEST), key=lambda frame: -score.get(frame, 0.0))
    return {frame: rank for rank, frame in enumerate(best, 1)}


def numbered(selection: Selection) -> str:
    """Which kept frames carry their rank; empty where there is nothing to rank."""
    count = len(ranks(selection))
    if not count:
        return ""
    if count == len(selection.kept):
        return "; numbered from the highest score s"
    return f"; the {count} of the highest scores s are numbered"


def summary(selection: Selection) -> str:
    """How many frames were kept and what the video costs."""
    frames = len(selection.seconds)
    noun = "frame" if frames == 1 else "frames"
    kept = f"{len(selection.kept):,} of {frames:,} {noun} kept" if selection.kept else f"{frames:,} {noun}, all alike"
    kinds = f"{selection.cones:,} cones, {selection.rods:,} rods" if selection.kept else "averaged patches"
    tokens = f"{selection.visual_tokens:,} visual tokens ({kinds})"
    return f"{kept}; {tokens}; the paper's {PATCHES} a frame would be {every_patch(frames):,}"


def meaning(selection: Selection) -> str:
    """How to read the numbers of a selection, for those who meet them for the first time."""
    told = ["Frames and events are numbered from 0."]
    if selection.peaks:
        told.append("An event is a group of frames that look alike, grown around one that stands out (rho*delta).")
    if selection.scores:
        told.append("The model scores each event from 0 to 1 (s) and keeps the frames that the best have grown around.")
    if selection.kept:
        told.append("A kept frame is told in detail, by many tokens (cones); rods, a few a frame, sum it up.")
    else:
        told.append("Every frame is told by as many tokens, each an average of patches.")
    return " ".join(told)


def kept_words(selection: Selection) -> str:
    """What a kept frame gives."""
    kinds = [word for word, count in (("cones", selection.cones), ("rods", selection.rods)) if count]
    return f"kept (b = 1): {' and '.join(kinds) or 'no tokens'}"


def others_give(selection: Selection) -> bool:
    """Whether frames that are not kept give rods: more were counted than kept frames have."""
    return selection.rods > 2 * len(selection.kept)


def others_words(selection: Selection) -> str:
    """What a frame gives that is not kept."""
    if not selection.kept:
        return "no frame is kept before others: each gives averaged patches"
    return "not kept (b = 0): " + ("rods alone" if others_give(selection) else "no tokens")


def legend(selection: Selection) -> tuple[tuple[str, str], ...]:
    """Colours by their meaning, each with what it stands for."""
    told = []
    if selection.kept:
        told.append(("cone", kept_words(selection) + numbered(selection)))
    if len(selection.kept) < len(selection.seconds):
        told.append(("rod" if others_give(selection) else "none", others_words(selection)))
    if selection.peaks:
        told.append(("peak", "rho*delta of every frame; a ring: representative of an event"))
    if selection.relevant:
        told.append(("relevant", "what the question needs"))
    return tuple(told)


def doubt(numbers: tuple[float, ...]) -> str:
    """What is odd about a row of numbers, in words; empty where nothing is."""
    finite = [number for number in numbers if isfinite(number)]
    if len(finite) < len(numbers):
        return f"{len(numbers) - len(finite)} of {len(numbers)} are not finite numbers"
    return f"all {len(numbers)} are equal" if len(numbers) > 1 and min(finite) == max(finite) else ""
