"""Questions and answers on a page, the storyboard of the paper's Figure 5, and the numbers behind it."""

from collections.abc import Collection, Mapping, Sequence
from math import isfinite

from dynfocus.inspection.report.axis import Axis, clock
from dynfocus.inspection.report.canvas import Vectors
from dynfocus.inspection.report.chart import GUTTER, RIGHT, chart_height, draw_chart
from dynfocus.inspection.report.embedded import shown_frame
from dynfocus.inspection.report.filmstrip import evenly
from dynfocus.inspection.report.markup import drawing, grid, numbers, safe, value
from dynfocus.inspection.report.story import Story
from dynfocus.inspection.report.telling import kept_words, legend, numbered, others_words, ranks, summary
from dynfocus.records.selections import Selection

WIDTH = 1000  # units of a chart
LONGEST = 1000  # rows of a table of all frames; of longer videos, kept frames and representatives alone


def section(
    stories: Sequence[Story], first: int, held: Collection[int], details: Sequence[Mapping[str, object]]
) -> str:
    """Questions, their answers, and the storyboard of the one selection that they share.

    Args:
        stories: what is told; of equal selections.
        first: number of the first question, from 1.
        held: the frames that the page holds.
        details: further facts of each story.
    """
    story, many = stories[0], len(stories) > 1
    said = "".join(
        asked(one, number, facts) for number, (one, facts) in enumerate(zip(stories, details, strict=True), first)
    )
    told = "For every question: " * many + summary(story.selection)
    name = f"Questions {first} to {first + len(stories) - 1}" if many else f"Question {first}"
    return (
        f'<section data-story="{first}">{said}<p class="faint">{told}</p>'
        f"{kept_frames(story, held)}{chart(story.selection, name)}{frames_table(story.selection)}</section>"
    )


def asked(story: Story, number: int, details: Mapping[str, object]) -> str:
    """One question with its answer."""
    said = [f'<h2><span class="faint">Question {number}</span> <bdi class="said">{safe(story.question)}</bdi></h2>']
    for name, words in (("Answer", story.answer), ("Truth", story.truth)):
        if words:
            said.append(f'<p class="{name.lower()}">{name}: <bdi class="said">{safe(words)}</bdi></p>')
    facts = "; ".join(f"{safe(name)}: {value(told)}" for name, told in details.items())
    return "".join(said) + (f'<p class="faint">{facts}</p>' if facts else "")


def kept_frames(story: Story, held: Collection[int]) -> str:
    """The kept frames in time order with their time stamps, the best marked with their rank."""
    selection = story.selection
    rank = ranks(selection)
    frames = [frame for frame in selection.kept or sorted(held) if frame in held]
    if not frames:
        return ""
    score = selection.scored
    figures = []
    for frame in frames:
        mark = f'<span class="rank" title="rank {rank[frame]} by score">{rank[frame]}</span>' if frame in rank else ""
        time = clock(selection.seconds[frame])
        caption = f"{mark}{time}<br>s = {score[frame]:.2f}" if frame in score else time
        picture = shown_frame(frame, selection.seconds[frame])
        figures.append(
            f'<figure data-frame="{frame}"{" class=best" if mark else ""}>{picture}'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    return f'<h3>{strip_name(selection, len(frames))}</h3><div class="strip" tabindex="0">{"".join(figures)}</div>'


def strip_name(selection: Selection, shown: int) -> str:
    """What so many frames of a strip are."""
    if selection.kept:
        return ("Kept frames in time order" if shown > 1 else "The kept frame") + numbered(selection)
    if shown == len(selection.seconds):
        return "All frames, treated alike" if shown > 1 else "The frame"
    return "Some of the frames; all are treated alike"


def chart(selection: Selection, name: str) -> str:
    """Curves and ribbons over time, with the numbers that the page's script shows."""
    canvas, axis = Vectors(), Axis(selection.seconds, GUTTER, WIDTH - RIGHT)
    draw_chart(canvas, selection, axis, 10)
    entries = "".join(f"<li>{swatch(color)}{words}</li>" for color, words in legend(selection))
    told = {
        "seconds": [round(second, 3) for second in selection.seconds],
        "edges": [round(float(edge), 2) for edge in axis.edges],
        "peaks": [figure(peak) for peak in selection.peaks],
        "nearest": selection.nearest,
        "representatives": selection.representatives,
        "scores": [figure(score) for score in selection.scores],
        "kept": selection.kept,
        "relevant": sorted({frame for event in selection.relevant for frame in event}),
        "words": [others_words(selection), kept_words(selection)],
    }
    words = f"{name}: {summary(selection)}; curves and ribbons over time, numbers in the table below"
    image = drawing(canvas, WIDTH, 10 + chart_height(selection), "chart", words, ' tabindex="0"')
    return (
        f"<h3>Over time</h3>{image}"
        f'<ul class="legend">{entries}</ul><script type="application/json">{numbers(told)}</script>'
    )


def swatch(color: str) -> str:
    """A small square of a colour, by its name."""
    return f'<svg viewBox="0 0 1 1" aria-hidden="true"><rect width="1" height="1" class="f-{color}"/></svg>'


def figure(number: float) -> float | None:
    """A number with four digits; None where it is none."""
    return float(f"{number:.4g}") if isfinite(number) else None


def frames_table(selection: Selection) -> str:
    """Every frame's numbers; of long videos, those of kept frames and representatives, thinned where these are many."""
    frames: Collection[int] = range(len(selection.seconds))
    name = "Every frame in numbers"
    if len(frames) > LONGEST:
        found = sorted({*selection.kept, *selection.representatives})
        frames, name = evenly(found, LONGEST), "Kept frames and representatives in numbers"
        name += f", {LONGEST:,} of {len(found):,}" * (len(found) > LONGEST)
    kept = set(selection.kept)
    relevant = {frame for event in selection.relevant for frame in event}
    columns: dict[str, list] = {
        "frame": list(frames),
        "seconds": [f"{round(selection.seconds[frame], 3):.10g}" for frame in frames],
    }
    if selection.peaks:
        columns["rho*delta"] = [selection.peaks[frame] for frame in frames]
    if selection.nearest:
        columns["event"] = [selection.nearest[frame] for frame in frames]
    if scores := selection.frame_scores:
        columns["s of its event"] = [scores[frame] for frame in frames]
    columns["b"] = [int(frame in kept) for frame in frames]
    if relevant:
        columns["relevant"] = ["yes" if frame in relevant else "" for frame in frames]
    rows = zip(*columns.values(), strict=True)
    return f"<details><summary>{name}</summary>{grid(list(columns), rows)}</details>"
