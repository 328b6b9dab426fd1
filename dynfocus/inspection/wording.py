"""Say what a selection comes to, in words that a picture and a page share."""

from math import isfinite

from dynfocus.budget import PATCHES, every_patch
from dynfocus.records.selections import Selection

BEST = 6  # frames that the paper's Figure 5 shows
JOINERS = "\u200c\u200d"  # Persian, Indic scripts and emoji are written with them


def make_visible(words: object) -> str:
    """Any text in letters that can be seen and that UTF-8 holds.

    Spaces and joiners stay; other letters that show nothing, such as those that turn text around, are named.
    """

    def show(letter: str) -> str:
        stays = letter.isprintable() or letter in "\n\t" + JOINERS or (letter.isspace() and ord(letter) > 159)
        return letter if stays else f"\\u{ord(letter):04x}"

    return "".join(map(show, str(words).encode("utf-8", "replace").decode()))


def format_time(seconds: float) -> str:
    """A time as people read it, such as ``7.5 s`` or ``12:05``."""
    if seconds < 100:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def rank_frames(selection: Selection) -> dict[int, int]:
    """The kept frames of the highest scores with their rank from 1; none where there is nothing to rank."""
    score = selection.scored
    if not score or len(selection.kept) < 2:
        return {}
    best = sorted(selection.best(BEST), key=lambda frame: -score.get(frame, 0.0))
    return {frame: rank for rank, frame in enumerate(best, 1)}


def describe_ranks(selection: Selection) -> str:
    """Which kept frames carry their rank; empty where there is nothing to rank."""
    count = len(rank_frames(selection))
    if not count:
        return ""
    score = "score" + " s" * bool(selection.scores)
    if count == len(selection.kept):
        return f"; numbered from the highest {score}"
    return f"; the {count} of the highest {score.replace('score', 'scores')} are numbered"


def summarize(selection: Selection) -> str:
    """How many frames were kept and what the video costs."""
    frames = len(selection.seconds)
    noun = "frame" if frames == 1 else "frames"
    kept = f"{len(selection.kept):,} of {frames:,} {noun} kept" if selection.kept else f"{frames:,} {noun}, all alike"
    kinds = f"{selection.cones:,} cones, {selection.rods:,} rods" if selection.kept else "averaged patches"
    tokens = f"{selection.visual_tokens:,} visual tokens ({kinds})"
    return f"{kept}; {tokens}; the paper's {PATCHES} a frame would be {every_patch(frames):,}"


def explain_terms(selection: Selection) -> str:
    """How to read the numbers of a selection, for those who meet them for the first time."""
    sentences = ["Frames and events are numbered from 0."]
    if selection.peaks:
        sentences.append("An event is a group of frames that look alike, grown around one that stands out (rho*delta).")
    if selection.scores:
        sentences.append(
            "The model scores each event from 0 to 1 (s) and keeps the frames that the best have grown around."
        )
    if selection.own_scores:
        sentences.append("The selector gives each frame a score, on a scale of its own.")
    if selection.kept:
        sentences.append("A kept frame is described in detail, by many tokens (cones); rods, a few a frame, sum it up.")
    else:
        sentences.append("Every frame is described by as many tokens, each an average of patches.")
    return " ".join(sentences)


def describe_kept(selection: Selection) -> str:
    """What a kept frame gives."""
    rods = selection.rods and selection.kept_rods
    kinds = [word for word, count in (("cones", selection.cones), ("rods", rods)) if count]
    return f"kept (b = 1): {' and '.join(kinds) or 'no tokens'}"


def others_give_rods(selection: Selection) -> bool:
    """Whether frames that are not kept give rods: more were counted than kept frames have."""
    return selection.rods > selection.kept_rods * len(selection.kept)


def describe_others(selection: Selection) -> str:
    """What a frame gives that is not kept."""
    if not selection.kept:
        return "no frame is kept before others: each gives averaged patches"
    return "not kept (b = 0): " + ("rods alone" if others_give_rods(selection) else "no tokens")


def list_legend(selection: Selection) -> list[tuple[str, str]]:
    """Colours by their meaning, each with what it stands for."""
    entries = []
    if selection.kept:
        entries.append(("cone", describe_kept(selection) + describe_ranks(selection)))
    if len(selection.kept) < len(selection.seconds):
        entries.append(("rod" if others_give_rods(selection) else "none", describe_others(selection)))
    if selection.peaks:
        entries.append(("peak", "rho*delta of every frame; a ring: representative of an event"))
    if selection.relevant:
        entries.append(("relevant", "what the question needs"))
    return entries


def warn_of(numbers: tuple[float, ...]) -> str:
    """What is odd about a row of numbers, in words; empty where nothing is."""
    finite = [number for number in numbers if isfinite(number)]
    if len(finite) < len(numbers):
        return f"{len(numbers) - len(finite)} of {len(numbers)} are not finite numbers"
    return f"all {len(numbers)} are equal" if len(numbers) > 1 and min(finite) == max(finite) else ""
