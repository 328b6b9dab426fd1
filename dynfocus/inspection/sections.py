"""Collect what a page shows of questions that share one selection, of their differences, and of what they cost."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from dynfocus.budget import LLAMA_VID, PATCHES, every_patch
from dynfocus.inspection.charts import COLORS, Svg, make_figure, write_svg
from dynfocus.inspection.compare import Comparison, compare_questions
from dynfocus.inspection.content import Inspection, PageFacts
from dynfocus.inspection.frames import spread
from dynfocus.inspection.timeline import (
    SCALE,
    add_row,
    draw_ribbon,
    draw_scale,
    draw_timeline,
    find_borders,
    timeline_height,
    to_pixels,
    write,
)
from dynfocus.inspection.wording import describe_kept, describe_others, describe_ranks, summarize
from dynfocus.records.selections import Selection

WIDTH = 1000  # units of a chart
STEP, HEIGHT = 30, 20  # of a question's row in it
LONGEST = 1000  # rows of a table of all frames; of longer videos, kept frames and representatives alone


def build_section(
    questions: list[tuple[int, Inspection, Mapping[str, object]]], embedded: Sequence[int], classes: dict[str, str]
) -> dict[str, Any]:
    """What the page's template shows of questions and the storyboard of their one selection.

    Args:
        questions: number, inspection and further facts of each; of equal selections.
        embedded: the frames that the page holds.
        classes: the page's styles of charts; see `write_svg`.
    """
    selection, many = questions[0][1].selection, len(questions) > 1
    strip = [frame for frame in selection.kept or embedded if frame in embedded]
    name = f"Questions {questions[0][0]} to {questions[-1][0]}" if many else f"Question {questions[0][0]}"
    return {
        "questions": questions,
        "selection": selection,
        "summary": "For every question: " * many + summarize(selection),
        "strip_name": name_strip(selection, len(strip)),
        "strip": strip,
        "chart": draw_chart(selection, classes),
        "label": f"{name}: {summarize(selection)}; curves and ribbons over time, numbers in the table below",
        "numbers": list_numbers(selection),
        "table": list_table(selection),
    }


def name_strip(selection: Selection, count: int) -> str:
    """What so many frames of a strip are."""
    if selection.kept:
        return ("Kept frames in time order" if count > 1 else "The kept frame") + describe_ranks(selection)
    if count == len(selection.seconds):
        return "All frames, treated alike" if count > 1 else "The frame"
    return "Some of the frames; all are treated alike"


def draw_chart(selection: Selection, classes: dict[str, str]) -> Svg:
    """Curves and ribbons over time."""
    figure = make_figure(WIDTH, 10 + timeline_height(selection))
    draw_timeline(figure, selection, 10)
    return write_svg(figure, classes)


def list_numbers(selection: Selection) -> dict[str, Any]:
    """The numbers of every frame, which the page's script shows; None for one that is not finite."""
    borders = find_borders(selection.seconds)

    def shorten(numbers: Sequence[float]) -> list[float | None]:
        return [float(f"{number:.4g}") if isfinite(number) else None for number in numbers]

    return {
        "seconds": [round(second, 3) for second in selection.seconds],
        "edges": to_pixels(borders, borders, WIDTH).round(2).tolist(),
        "peaks": shorten(selection.peaks),
        "nearest": selection.nearest,
        "representatives": selection.representatives,
        "scores": shorten(selection.scores),
        "own": shorten(selection.own_scores),
        "kept": selection.kept,
        "relevant": sorted({frame for event in selection.relevant for frame in event}),
        "words": [describe_others(selection), describe_kept(selection)],
    }


def list_table(selection: Selection) -> dict[str, Any]:
    """Every frame's numbers; of long videos, those of kept frames and representatives, thinned where these are many."""
    count, name = len(selection.seconds), "Every frame in numbers"
    frames: Sequence[int] = range(count)
    if count > LONGEST:
        some = sorted({*selection.kept, *selection.representatives})
        frames, name = spread(some, LONGEST), "Kept frames and representatives in numbers"
        name += f", {LONGEST:,} of {len(some):,}" * (len(some) > LONGEST)
    relevant = {frame for event in selection.relevant for frame in event}
    columns = {
        "frame": range(count),
        "seconds": [f"{round(second, 3):.10g}" for second in selection.seconds],
        "rho*delta": selection.peaks,
        "event": selection.nearest,
        "s of its event": selection.frame_scores if selection.scores else (),
        "score": selection.own_scores,
        "b": [int(frame in set(selection.kept)) for frame in range(count)],
        "relevant": ["yes" if frame in relevant else "" for frame in range(count)] if relevant else (),
    }
    columns = {head: column for head, column in columns.items() if column}
    rows = [[column[frame] for column in columns.values()] for frame in frames]
    return {"name": name, "head": list(columns), "rows": rows}


def build_budget(inspections: Sequence[Inspection], others: Mapping[str, int]) -> dict[str, Any]:
    """The visual tokens of some inspections of the same frames, beside those of other ways, every patch, LLaMA-VID."""
    frames, kept = len(inspections[0].selection.seconds), bool(inspections[0].selection.kept)
    costs = [(one.selection.cones, one.selection.rods) for one in inspections]
    names = ["this model"] if len(set(costs)) == 1 else [f"this model, question {n + 1}" for n in range(len(costs))]
    own = [{"cone": cones, "rod": rods} if kept else {"none": cones} for cones, rods in costs]
    bars = dict(zip(names, own, strict=False)) | {name: {"peak": tokens} for name, tokens in others.items()}
    bars |= {
        "LLaMA-VID, 2 a frame": {"peak": LLAMA_VID.tokens(frames)},
        f"every patch, {PATCHES} a frame": {"faint": every_patch(frames)},
    }
    sums = {name: sum(kinds.values()) for name, kinds in bars.items()}
    return {"bars": bars, "sums": sums, "kept": kept, "frames": frames, "patches": PATCHES}


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
