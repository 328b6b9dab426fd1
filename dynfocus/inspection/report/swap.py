"""Several questions about one video: which kept frames they share, which differ, and why."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from dynfocus.inspection.report.axis import Axis, clock
from dynfocus.inspection.report.board import WIDTH, swatch
from dynfocus.inspection.report.canvas import Vectors
from dynfocus.inspection.report.chart import GUTTER, RIGHT, draw_scale
from dynfocus.inspection.report.embedded import shown_frame
from dynfocus.inspection.report.markup import drawing, safe
from dynfocus.inspection.report.story import PageFacts, Story

STEP, HEIGHT = 30, 20


@dataclass(frozen=True)
class Swap:
    """How the kept frames of one video change with the question.

    Attributes:
        changes: whether any frame is kept for one question and not for another.
        every: frames that are kept for every question.
        some: for each question, the frames kept for it and not for every question.
        why: what decides it, in a sentence.
    """

    changes: bool
    every: tuple[int, ...]
    some: tuple[tuple[int, ...], ...]
    why: str


def compare(stories: Sequence[Story], facts: PageFacts) -> Swap:
    """How what is kept changes over two or more questions about one video."""
    kept = [frozenset(story.selection.kept) for story in stories]
    every = frozenset.intersection(*kept)
    some = tuple(tuple(sorted(own - every)) for own in kept)
    return Swap(any(some), tuple(sorted(every)), some, why(stories, facts))


def swap(stories: Sequence[Story], facts: PageFacts, held: Collection[int]) -> str:
    """The part of a page that lays the questions' kept frames side by side; empty for one question."""
    if len(stories) < 2:
        return ""
    found, seconds = compare(stories, facts), stories[0].selection.seconds
    differing = len(set().union(*found.some))
    everyone = "Both" if len(stories) == 2 else f"All {len(stories)}"
    count = f"{everyone} questions share {len(found.every):,} of {len(found.every) + differing:,} kept frames"
    count += f"; {differing:,} differ" if differing else "; none differ"
    frames = "".join(
        f"<h3>Kept for question {number}, not for all: {len(own):,}</h3>"
        f'<div class="strip">{"".join(lone(frame, seconds[frame], held) for frame in own)}</div>'
        for number, own in enumerate(found.some, 1)
        if own
    )
    return (
        f"<section><h2>What changes with the question</h2><p><strong>{count}.</strong> {safe(found.why)}</p>"
        f"{lanes(found, seconds, count) if found.changes else ''}{frames}</section>"
    )


def lanes(found: Swap, seconds: tuple[float, ...], words: str) -> str:
    """The questions' kept frames over time, one under the other."""
    canvas, axis = Vectors(), Axis(seconds, GUTTER, WIDTH - RIGHT)
    for row, own in enumerate(found.some):
        y = 10 + STEP * row
        canvas.text(axis.left - 12, y + 15, f"question {row + 1}", 14, at="end")
        canvas.rect(axis.left, y, axis.right - axis.left, HEIGHT, "none")
        for color, part in (("cone", found.every), ("peak", own)):
            for start, width in axis.spans(part, least=2.0):
                canvas.rect(start, y, width, HEIGHT, color)
    bottom = 10 + STEP * len(found.some)
    draw_scale(canvas, axis, bottom)
    colors = f"<li>{swatch('cone')}kept for all</li><li>{swatch('peak')}kept for some alone</li>"
    return f'{drawing(canvas, WIDTH, bottom + 34, "lanes", words)}<ul class="legend">{colors}</ul>'


def lone(frame: int, seconds: float, held: Collection[int]) -> str:
    """A frame, where the page holds it, over its time stamp."""
    picture = shown_frame(frame, seconds) if frame in held else ""
    return f"<figure>{picture}<figcaption>{clock(seconds)}</figcaption></figure>"


def why(stories: Sequence[Story], facts: PageFacts) -> str:
    """Why kept frames differ between questions, or do not."""
    selections = [story.selection for story in stories]
    differ = len({selection.kept for selection in selections}) > 1
    reads, selector = bool(facts.settings.get("score_reads_question")), facts.settings.get("selector", "dpe")
    if not any(selection.kept for selection in selections):
        return "This model keeps no frame before others: every frame gives the same number of averaged tokens."
    if selector != "dpe":
        met = "and for these questions it chose differently" if differ else "and it chose the same for these questions"
        return f"Frames were chosen by the selector {selector}, not by the paper's score net, {met}."
    if reads and differ:
        return (
            "The score net of this model reads the question (score_reads_question), so the kept frames may change "
            "with it. The paper's own score net does not, and there none can."
        )
    if reads and all(len(selection.kept) == len(selection.representatives) for selection in selections):
        return (
            "The score net of this model reads the question (score_reads_question), but every event was kept "
            "(K' = L'), so that there was nothing to choose."
        )
    if reads:
        return (
            "The score net of this model reads the question (score_reads_question), so the kept frames could have "
            "changed with it; for these questions they did not."
        )
    if differ:
        return "The settings do not say why: with the paper's score net, which does not read the question, none can."
    return (
        "With the paper's score net none can: it scores each event from the event alone (Eq. 4) and does not read the "
        "question, so one video gives one selection. What changes with the question is one of each frame's two rods, "
        "which holds what the question's words attend to (Eq. 9-10), and so the answer."
    )
