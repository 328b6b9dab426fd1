"""What videos cost beside other methods, as bars."""

from collections.abc import Sequence

from dynfocus.budget import LLAMA_VID, PATCHES, every_patch
from dynfocus.inspection.report.canvas import Canvas, Vectors
from dynfocus.inspection.report.markup import drawing, safe
from dynfocus.inspection.report.story import PageFacts, Story

LEFT, LONGEST, HEIGHT, STEP, WIDTH = 190, 520, 20, 34, 900  # units of the drawing


def budget(stories: Sequence[Story], facts: PageFacts) -> str:
    """The stories' visual tokens beside those of every patch and of LLaMA-VID, for the same frames."""
    frames, canvas = len(stories[0].selection.seconds), Vectors()
    every = every_patch(frames)
    costs = [(story.selection.cones, story.selection.rods) for story in stories]
    same = len(set(costs)) == 1
    rows: list[tuple[str, list[tuple[str, int]]]] = []
    for number, (cones, rods) in enumerate(costs[:1] if same else costs, 1):
        name = "this model" if same else f"this model, question {number}"
        kinds = [("cone", cones), ("rod", rods)] if stories[0].selection.kept else [("none", cones)]
        rows.append((name, kinds))
    rows += [("LLaMA-VID, 2 a frame", [("peak", LLAMA_VID.tokens(frames))])]
    rows += [(f"every patch, {PATCHES} a frame", [("faint", every)])]
    most = max(sum(count for _, count in kinds) for _, kinds in rows)
    for row, (name, kinds) in enumerate(rows):
        draw_bar(canvas, 8 + STEP * row, name, kinds, LONGEST / most, every)
    patches = facts.settings.get("patches", PATCHES)
    own = f" (this model's own has {safe(patches)})" if patches != PATCHES else ""
    order = " Cones come first in the bar, then rods." if stories[0].selection.kept else ""
    told = "; ".join(f"{name}: {sum(count for _, count in kinds):,} tokens" for name, kinds in rows)
    return (
        f"<section><h2>Token budget</h2>{drawing(canvas, WIDTH, 8 + STEP * len(rows), 'bars', told)}"
        f'<p class="faint">Visual tokens of {frames:,} frame{"s" * (frames != 1)}, and their share of '
        f"{PATCHES} a frame, which is every patch of the paper's encoder{own}.{order} LLaMA-VID itself reads one frame "
        "a second; here it is given the same frames.</p></section>"
    )


def draw_bar(canvas: Canvas, y: float, name: str, kinds: list[tuple[str, int]], unit: float, every: int) -> None:
    """One method's name, its bar in its kinds of tokens, and its number."""
    canvas.text(LEFT - 10, y + 15, name, 14, at="end")
    x, count = float(LEFT), sum(tokens for _, tokens in kinds)
    for color, tokens in kinds:
        if tokens:
            canvas.rect(x, y, max(2.0, tokens * unit), HEIGHT, color)
            x += max(2.0, tokens * unit)
    canvas.text(x + 8, y + 15, f"{count:,} ({count / every:.1%})", 14)
