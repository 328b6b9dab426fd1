"""Compare several questions about one video: which kept frames they share, which differ, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dynfocus.inspection.charts import COLORS, Svg, make_figure, write_svg
from dynfocus.inspection.content import Inspection, PageFacts
from dynfocus.inspection.sections import WIDTH
from dynfocus.inspection.timeline import SCALE, add_row, draw_ribbon, draw_scale, find_borders, write

STEP, HEIGHT = 30, 20  # pixels of a question's row


@dataclass(frozen=True)
class Comparison:
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


def compare_questions(inspections: Sequence[Inspection], facts: PageFacts) -> Comparison:
    """How what is kept changes over two or more questions about one video."""
    kept = [frozenset(one.selection.kept) for one in inspections]
    every = frozenset.intersection(*kept)
    some = tuple(tuple(sorted(own - every)) for own in kept)
    return Comparison(any(some), tuple(sorted(every)), some, explain(inspections, facts))


def build_comparison(inspections: Sequence[Inspection], facts: PageFacts, classes: dict[str, str]) -> dict[str, Any]:
    """What the page's template shows of the questions' kept frames side by side; empty for one question."""
    if len(inspections) < 2:
        return {}
    comparison = compare_questions(inspections, facts)
    differing = len(set().union(*comparison.some))
    everyone = "Both" if len(inspections) == 2 else f"All {len(inspections)}"
    count = f"{everyone} questions share {len(comparison.every):,} of {len(comparison.every) + differing:,} kept frames"
    count += f"; {differing:,} differ" if differing else "; none differ"
    lanes = draw_lanes(comparison, inspections[0].selection.seconds, classes) if comparison.changes else None
    return {"count": count, "why": comparison.why, "some": comparison.some, "lanes": lanes}


def draw_lanes(comparison: Comparison, seconds: Sequence[float], classes: dict[str, str]) -> Svg:
    """The questions' kept frames over time, one under the other."""
    borders, bottom = find_borders(seconds), 10 + STEP * len(comparison.some)
    figure = make_figure(WIDTH, bottom + SCALE)
    for row, own in enumerate(comparison.some):
        axes = add_row(figure, borders, 10 + STEP * row, HEIGHT)
        write(axes, f"question {row + 1}", (0, 1), (-12, -15), 14, "ink", "right")
        kinds = [2 if frame in own else int(frame in comparison.every) for frame in range(len(seconds))]
        draw_ribbon(axes, borders, kinds, {0: COLORS["none"], 1: COLORS["cone"], 2: COLORS["peak"]})
    draw_scale(figure, borders, seconds, bottom)
    return write_svg(figure, classes)


def explain(inspections: Sequence[Inspection], facts: PageFacts) -> str:
    """Why kept frames differ between questions, or do not."""
    selections = [one.selection for one in inspections]
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
