"""Stories about one video as a page that needs nothing but itself: it opens from disk, without a network."""

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256

from dynfocus.errors import ConfigError
from dynfocus.inspection.report.bars import budget
from dynfocus.inspection.report.board import section
from dynfocus.inspection.report.embedded import embedded, symbols
from dynfocus.inspection.report.markup import safe, table
from dynfocus.inspection.report.story import PageFacts, Story
from dynfocus.inspection.report.style import SCRIPT, sheet
from dynfocus.inspection.report.swap import swap
from dynfocus.inspection.report.telling import meaning

__all__ = ["PageFacts", "page"]


def page(stories: Sequence[Story], told: PageFacts) -> str:
    """Tell of one or several questions about one video; what is the same for all of them is drawn once.

    The main content needs no script; the page's one script shows the numbers of a frame under the mouse or a finger, or
    under the arrow keys. Its Content-Security-Policy forbids every other script and every request. Frames are embedded
    once for all stories: the kept ones, and others up to 96 in all, at 160 pixels or less; of more than 250 each is
    smaller, so that their pixels together stay below 250 frames' worth.

    Args:
        stories: one for each question; of the same frames.
        told: what holds for all of them.

    Raises:
        ConfigError: if there is no story, or they do not tell of the same frames.
    """
    if not stories or len({story.selection.seconds for story in stories}) > 1:
        raise ConfigError(
            f"{len(stories)} stories of {len({story.selection.seconds for story in stories})} videos",
            "at least one story, all of the same frames of one video",
            "Write a page for each video.",
        )
    frames = next((story.frames for story in stories if story.frames), ())
    seconds = stories[0].selection.seconds
    if not seconds or len(frames) not in (0, len(seconds)):
        raise ConfigError(
            f"{len(frames)} frames and {len(seconds)} time stamps",
            "as many of the one as of the other, or no frames",
            "Give the frames that the selections were made of.",
        )
    kept = {frame for story in stories for frame in story.selection.kept}
    held = embedded(kept, len(seconds)) if frames else frozenset()
    details = [*told.details, *({} for _ in stories)]
    alike = all(story.selection == stories[0].selection for story in stories)
    shares = [stories] if alike else [[story] for story in stories]
    parts = [section(some, n + 1, held, details[n : n + len(some)]) for n, some in enumerate(shares)]
    style = sheet(*(frames[0].shape[:2] if frames else (1, 1)))
    size = (
        f"{len(seconds):,} frames over {round(seconds[-1] - seconds[0], 3):.10g} s" if len(seconds) > 1 else "1 frame"
    )
    by = f", answered by <bdi>{safe(told.model)}</bdi>" if told.model else ""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy(style)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer"><link rel="icon" href="data:,">'
        f"<title>DynFocus: {safe(told.video)}</title><style>{style}</style></head><body>"
        f"{symbols(frames, held)}"
        f'<h1><bdi class="said">{safe(told.video)}</bdi></h1>'
        f'<p class="faint">{size}{by}.<br>{meaning(stories[0].selection)}</p>'
        f"<main>{''.join(parts)}{swap(stories, told, held)}{budget(stories, told)}"
        f'<section><h2>How it was made</h2><div class="tables">{table("Settings", told.settings)}'
        f"<div>{table('Seconds each step took', told.timing)}{table('Versions', told.versions)}</div></div></section>"
        f'</main><div id="tip" role="status" hidden></div><script>{SCRIPT}</script></body></html>\n'
    )


def policy(style: str) -> str:
    """What the page may do: show the pictures that it holds, its own style and its own script, by their digests."""
    style_digest, script_digest = (b64encode(sha256(text.encode()).digest()).decode() for text in (style, SCRIPT))
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style_digest}'; script-src 'sha256-{script_digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
