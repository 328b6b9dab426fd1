"""Curves and ribbons of one selection over one time axis, on any canvas."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dynfocus.inspection.report.axis import Axis
from dynfocus.inspection.report.canvas import EVENTS, Canvas
from dynfocus.inspection.report.telling import doubt, others_give, ranks
from dynfocus.records.selections import Selection

GUTTER = 116  # pixels left of the axis, for the names of the rows
RIGHT = 20  # pixels right of it
GAP = 20
SCALE = 34  # pixels for the numbers under the axis


@dataclass(frozen=True)
class Row:
    """One curve or ribbon: its name in the paper, where that stands, its height in pixels, and how it is drawn."""

    name: str
    note: str
    height: int
    draw: Callable[[Canvas, Selection, Axis, float, float], None]


def rows(selection: Selection) -> list[Row]:
    """The rows that this selection has numbers for."""
    found = []
    if selection.peaks:
        found.append(Row("rho*delta", "Eq. 1-2", 96, draw_peaks))
    if selection.scores:
        found.append(Row("s", "score, Eq. 4", 84, draw_scores))
    if selection.nearest:
        found.append(Row("event", "nearest, Eq. 3", 20, draw_events))
    found.append(Row("b", "cones / rods" if selection.kept else "averaged", 20, draw_mask))
    if selection.relevant:
        found.append(Row("relevant", "known truth", 12, draw_relevant))
    return found


def chart_height(selection: Selection) -> int:
    """Pixels that `draw_chart` needs."""
    return sum(row.height + GAP for row in rows(selection)) + SCALE


def draw_chart(canvas: Canvas, selection: Selection, axis: Axis, top: float) -> None:
    """All rows from ``top`` downwards, the relevant frames shaded behind them, seconds under them."""
    told = rows(selection)
    bottom = top + sum(row.height + GAP for row in told) - GAP
    for event in selection.relevant:
        for start, width in axis.spans(event):
            canvas.rect(start, top - 6, width, bottom - top + 6, "shade")
    for row in told:
        canvas.text(axis.left - 30, top + min(row.height / 2, 20) - 1, row.name, 14, at="end")
        canvas.text(axis.left - 30, top + min(row.height / 2, 20) + 12, row.note, 11, "faint", "end")
        row.draw(canvas, selection, axis, top, row.height)
        top += row.height + GAP
    draw_scale(canvas, axis, bottom + 6)


def draw_scale(canvas: Canvas, axis: Axis, y: float) -> None:
    """Round seconds under the rows."""
    canvas.line([(axis.left, y), (axis.right, y)], "faint")
    last = axis.left - 1e9
    ticks = axis.ticks()
    for tick, x in zip(ticks, axis.at(np.asarray(ticks)).tolist(), strict=True):
        canvas.line([(x, y), (x, y + 5)], "faint")
        if x - last > 44:
            canvas.text(x, y + 18, f"{tick:.10g}", 12, "faint", "middle")
            last = x
    canvas.text(axis.left - 30, y + 18, "seconds", 12, "faint", "end")


def draw_peaks(canvas: Canvas, selection: Selection, axis: Axis, top: float, height: float) -> None:
    """rho * delta of every frame, as far as it is a number; rings at the representatives, filled where kept."""
    values = np.asarray(selection.peaks, float)
    finite = np.isfinite(values)
    highest = float(values[finite].max(initial=0.0)) or 1.0
    heights = top + height * (1 - np.where(finite, values, 0.0).clip(0, highest) / highest)
    frame_of(canvas, axis, top, height, f"{highest:.2g}" if finite.any() else "")
    points = thinned(axis.centres, heights, finite)
    for stretch in points:
        if len(stretch) == 1:
            canvas.dot(*stretch[0], 1.5, "peak", "peak")
        else:
            canvas.line(stretch, "peak", 1.6)
    radius = min(4.0, max(1.5, (axis.right - axis.left) / 4 / max(1, len(selection.representatives))))
    kept = set(selection.kept)
    for frame in selection.representatives:
        if finite[frame]:
            fill = "cone" if frame in kept else "paper"
            canvas.dot(float(axis.centres[frame]), float(heights[frame]), radius, fill, "peak")
    remark(canvas, axis, top, doubt(selection.peaks))


def draw_scores(canvas: Canvas, selection: Selection, axis: Axis, top: float, height: float) -> None:
    """s of each event as a stem at its representative; the highest kept ones carry their rank."""
    kept, rank = set(selection.kept), ranks(selection)
    radius = min(4.0, max(1.5, (axis.right - axis.left) / 4 / max(1, len(selection.scores))))
    room = height - 16  # the ranks stand above their stems
    frame_of(canvas, axis, top + height - room, room, "1")
    for frame, score in zip(selection.representatives, selection.scores, strict=True):
        if np.isfinite(score):
            color = "cone" if frame in kept else "faint"
            x, y = float(axis.centres[frame]), top + height - room * min(max(score, 0.0), 1.0)
            canvas.line([(x, top + height), (x, y)], color, min(2.0, radius))
            canvas.dot(x, y, radius, color if frame in kept else "paper", color)
            if frame in rank:
                canvas.text(x, y - radius - 3, str(rank[frame]), 12, at="middle")
    remark(canvas, axis, top, doubt(selection.scores))


def draw_events(canvas: Canvas, selection: Selection, axis: Axis, top: float, height: float) -> None:
    """The event that each frame belongs to, with its number where there is room."""
    for start, width, event in axis.runs(selection.nearest):
        canvas.rect(start, top, max(0.5, width - (1 if width > 4 else 0)), height, f"event{event % EVENTS}")
        if width > 20:
            canvas.text(start + width / 2, top + height / 2 + 4, str(event), 11, "dark", "middle")


def draw_mask(canvas: Canvas, selection: Selection, axis: Axis, top: float, height: float) -> None:
    """The mask b as a ribbon."""
    canvas.rect(axis.left, top, axis.right - axis.left, height, "rod" if others_give(selection) else "none")
    for start, width in axis.spans(selection.kept, least=2.0):
        canvas.rect(start, top, width, height, "cone")
    borders = axis.edges[1:-1]
    if len(borders) and (axis.right - axis.left) / len(borders) > 6:
        for x in borders:
            canvas.line([(float(x), top), (float(x), top + height)], "paper")


def draw_relevant(canvas: Canvas, selection: Selection, axis: Axis, top: float, height: float) -> None:
    """The frames that the question needs, where that is known."""
    canvas.line([(axis.left, top + height / 2), (axis.right, top + height / 2)], "rule")
    for event in selection.relevant:
        for start, width in axis.spans(event, least=2.0):
            canvas.rect(start, top, width, height, "relevant")


def frame_of(canvas: Canvas, axis: Axis, top: float, height: float, highest: str) -> None:
    """Lines at 0 and at the highest number, which are named."""
    for y, words in ((top, highest), (top + height, "0" if highest else "")):
        canvas.line([(axis.left, y), (axis.right, y)], "rule")
        canvas.text(axis.left - 4, y + 4, words, 10, "faint", "end")


def remark(canvas: Canvas, axis: Axis, top: float, words: str) -> None:
    """A word of warning within a row."""
    if words:
        canvas.text((axis.left + axis.right) / 2, top + 16, words, 12, "faint", "middle")


def thinned(xs: np.ndarray, ys: np.ndarray, there: np.ndarray) -> list[list[tuple[float, float]]]:
    """The curve in stretches without gaps; of the points that share a unit of x, the lowest and the highest stay."""
    breaks = np.flatnonzero(np.diff(there.astype(int), prepend=0, append=0))
    stretches = []
    for start, stop in zip(breaks[::2], breaks[1::2], strict=True):
        columns = np.floor(xs[start:stop])
        firsts = [start, *(start + 1 + np.flatnonzero(np.diff(columns))), stop]
        kept: list[int] = []
        for a, b in pairwise(firsts):
            kept += sorted({a, a + int(ys[a:b].argmin()), a + int(ys[a:b].argmax()), b - 1})
        stretches.append([(float(xs[i]), float(ys[i])) for i in kept])
    return stretches
