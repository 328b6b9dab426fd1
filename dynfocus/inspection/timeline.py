"""Draw the curves and ribbons of one selection over one time axis."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from dynfocus.inspection.charts import COLORS, EVENTS
from dynfocus.inspection.wording import others_give_rods, rank_frames, warn_of
from dynfocus.records.selections import Selection

LEFT, RIGHT = 116, 20  # pixels beside the time axis; the rows' names stand left of it
GAP = 20
SCALE = 34  # pixels for the seconds under the rows
Numbers = NDArray[np.float64]
Row = tuple[str, str, int, Callable[[Axes, Selection, Numbers], None]]


def find_borders(seconds: Sequence[float]) -> Numbers:
    """The T + 1 borders of the frames' slices of the time axis: in the middle between two time stamps."""
    times = np.asarray(seconds, float)
    gaps = np.diff(times)
    usual = float(np.median(gaps)) if len(gaps) and np.median(gaps) > 0 else 1.0
    return np.concatenate([[times[0] - usual / 2], times[:-1] + gaps / 2, [times[-1] + usual / 2]])


def to_pixels(seconds: Sequence[float] | Numbers, borders: Numbers, width: float) -> Numbers:
    """Where times lie in a figure of that many pixels."""
    return np.asarray(np.interp(seconds, borders[[0, -1]], (LEFT, width - RIGHT)))


def find_runs(labels: Sequence[int]) -> list[tuple[int, int, int]]:
    """Stretches of equal labels as (first, behind the last, label)."""
    starts = np.flatnonzero(np.diff(labels, prepend=labels[0] - 1)).tolist()
    return [(start, end, labels[start]) for start, end in zip(starts, [*starts[1:], len(labels)], strict=True)]


def mark_frames(frames: Iterable[int], count: int) -> list[int]:
    """1 for each of these frames, 0 for each other one of ``count``."""
    marks = [0] * count
    for frame in frames:
        marks[frame] = 1
    return marks


def list_rows(selection: Selection) -> list[Row]:
    """The curves and ribbons that this selection has numbers for: name, where that stands, pixels, how to draw it."""
    rows: list[Row] = []
    if selection.peaks:
        rows.append(("rho*delta", "Eq. 1-2", 96, draw_peaks))
    if selection.scores:
        rows.append(("s", "score, Eq. 4", 84, draw_scores))
    if selection.own_scores:
        rows.append(("score", "of each frame", 84, draw_own_scores))
    if selection.nearest:
        rows.append(("event", "nearest, Eq. 3", 20, draw_events))
    rows.append(("b", "cones / rods" if selection.kept else "averaged", 20, draw_mask))
    if selection.relevant:
        rows.append(("relevant", "known truth", 12, draw_relevant))
    return rows


def timeline_height(selection: Selection) -> int:
    """Pixels that `draw_timeline` needs."""
    return sum(height + GAP for _, _, height, _ in list_rows(selection)) + SCALE


def draw_timeline(figure: Figure, selection: Selection, top: float) -> None:
    """All rows from ``top`` downwards, the relevant frames shaded behind them, seconds under them."""
    borders, bottom = find_borders(selection.seconds), top + timeline_height(selection) - SCALE - GAP
    needed = mark_frames((frame for event in selection.relevant for frame in event), len(selection.seconds))
    draw_ribbon(add_row(figure, borders, top - 6, bottom - top + 6), borders, needed, {1: COLORS["shade"]})
    for name, note, height, draw in list_rows(selection):
        draw(add_row(figure, borders, top, height, name, note), selection, borders)
        top += height + GAP
    draw_scale(figure, borders, selection.seconds, bottom + 6)


def add_row(figure: Figure, borders: Numbers, top: float, height: float, name: str = "", note: str = "") -> Axes:
    """Bare axes over the time axis, ``top`` pixels below the figure's edge and from 0 to 1, with words left of them."""
    wide, high = figure.bbox.size
    place = LEFT / wide, 1 - (top + height) / high, 1 - (LEFT + RIGHT) / wide, height / high
    axes = figure.add_axes(place, frameon=False, xticks=[], yticks=[], xlim=borders[[0, -1]], ylim=(0, 1))
    for words, down, size, color in ((name, -1, 14, "ink"), (note, 12, 11, "faint")):
        write(axes, words, (0, 1), (-30, -min(height / 2, 20) - down), size, color, "right")
    return axes


def write(
    axes: Axes, words: str, at: tuple[float, float], away: tuple[float, float], size: int, color: str, align: str
) -> None:
    """Words so many pixels away from a place, which is a share of the axes' width and height."""
    axes.annotate(words, at, away, "axes fraction", "offset points", fontsize=size, color=COLORS[color], ha=align)


def draw_scale(figure: Figure, borders: Numbers, seconds: Sequence[float], top: float) -> None:
    """A line at this height, and round seconds under it, so few that they stand apart."""
    axes = add_row(figure, borders, top, 1)
    axes.axhline(1, color=COLORS["faint"], linewidth=1, clip_on=False)
    locator = MaxNLocator(max(1, min(10, int(axes.bbox.width) // 50)), steps=[1, 2, 5, 10])
    times = [time for time in locator.tick_values(seconds[0], seconds[-1]) if seconds[0] <= time <= seconds[-1]]
    ticks = [time + 0.0 for time in times or seconds[:1]]  # no minus zero
    axes.set_xticks(ticks, [f"{tick:.10g}" for tick in ticks])
    axes.tick_params("x", length=5, width=1, color=COLORS["faint"], labelcolor=COLORS["faint"], labelsize=12)
    write(axes, "seconds", (0, 1), (-30, -18), 12, "faint", "right")


def draw_peaks(axes: Axes, selection: Selection, borders: Numbers) -> None:
    """rho * delta of every frame, as far as it is a number; rings at the representatives, filled where kept."""
    values = np.where(np.isfinite(selection.peaks), selection.peaks, np.nan)
    highest = np.nanmax(values, initial=0.0) or 1.0
    heights = values.clip(0, highest) / highest
    draw_limits(axes, "" if np.isnan(values).all() else f"{highest:.2g}", selection.peaks)
    axes.plot(selection.seconds, heights, color=COLORS["peak"], linewidth=1.6, clip_on=False)
    for first, end, known in find_runs(np.isfinite(values).astype(int).tolist()):
        if known and end - first == 1:  # no line goes there
            axes.plot(selection.seconds[first], heights[first], "o", color=COLORS["peak"], markersize=3, clip_on=False)
    rings = {frame: heights[frame] for frame in selection.representatives if np.isfinite(heights[frame])}
    draw_dots(axes, selection, rings, [COLORS["peak"]] * len(rings))


def draw_scores(axes: Axes, selection: Selection, borders: Numbers) -> None:
    """s of each event as a stem at its representative; the highest kept ones carry their rank."""
    kept = set(selection.kept)
    axes.set_ylim(0, 84 / 68)  # the ranks stand above their stems
    draw_limits(axes, "1", selection.scores)
    dots = {frame: min(max(score, 0.0), 1.0) for frame, score in selection.scored.items() if np.isfinite(score)}
    colors = [COLORS["cone" if frame in kept else "faint"] for frame in dots]
    axes.vlines([selection.seconds[frame] for frame in dots], 0, list(dots.values()), colors, linewidth=2)
    draw_dots(axes, selection, dots, colors)
    for frame, rank in rank_frames(selection).items():
        if frame in dots:
            place = selection.seconds[frame], dots[frame]
            axes.annotate(str(rank), place, (0, 7), textcoords="offset points", ha="center", fontsize=12)


def draw_own_scores(axes: Axes, selection: Selection, borders: Numbers) -> None:
    """The score of every frame from the lowest to the highest one, as far as it is a number; dots where kept."""
    values = np.where(np.isfinite(selection.own_scores), selection.own_scores, np.nan)
    known = values[np.isfinite(values)]
    lowest, highest = (known.min(), known.max()) if len(known) else (0.0, 0.0)
    heights = (values - lowest) / (highest - lowest or 1.0)
    names = (f"{highest:.2g}", f"{lowest:.2g}") if highest > lowest else ("", "")
    draw_limits(axes, names[0], selection.own_scores, names[1])
    axes.plot(selection.seconds, heights, color=COLORS["peak"], linewidth=1.6, clip_on=False)
    dots = {frame: float(heights[frame]) for frame in selection.kept if np.isfinite(heights[frame])}
    draw_dots(axes, selection, dots, [COLORS["cone"]] * len(dots))


def draw_limits(axes: Axes, highest: str, numbers: tuple[float, ...], lowest: str = "0") -> None:
    """Lines at the bottom and the top with what they stand for, and a word of warning about odd numbers."""
    axes.set_yticks([0, 1], [lowest if highest else "", highest])
    axes.tick_params("y", length=0, pad=4, labelcolor=COLORS["faint"], labelsize=10)
    axes.hlines([0, 1], *axes.get_xlim(), COLORS["rule"], linewidth=1, clip_on=False, zorder=1)
    write(axes, warn_of(numbers), (0.5, 1), (0, -16), 12, "faint", "center")


def draw_dots(axes: Axes, selection: Selection, dots: Mapping[int, float], edges: list[str]) -> None:
    """A dot at each frame's height, filled where it is kept; the more there are, the smaller."""
    fills = [COLORS["cone" if frame in selection.kept else "paper"] for frame in dots]
    radius = min(4.0, max(1.5, axes.bbox.width / 4 / max(1, len(dots))))
    times = [selection.seconds[frame] for frame in dots]
    axes.scatter(times, list(dots.values()), 4 * radius**2, fills, ec=edges, linewidths=1, zorder=3, clip_on=False)


def draw_events(axes: Axes, selection: Selection, borders: Numbers) -> None:
    """The event that each frame belongs to, with its number where there is room."""
    palette = {event: EVENTS[event % len(EVENTS)] for event in set(selection.nearest)}
    runs = draw_ribbon(axes, borders, selection.nearest, palette)
    draw_cuts(axes, borders[[start for start, _, _ in runs[1:]]])
    for start, end, event in runs:
        left, right = to_pixels(borders[[start, end]], borders, axes.figure.bbox.width)
        if right - left > 20:
            place = {"ha": "center", "va": "center_baseline", "fontsize": 11, "color": COLORS["dark"]}
            axes.text((borders[start] + borders[end]) / 2, 0.5, str(event), place)


def draw_mask(axes: Axes, selection: Selection, borders: Numbers) -> None:
    """The mask b as a ribbon."""
    others = COLORS["rod" if others_give_rods(selection) else "none"]
    draw_ribbon(axes, borders, mark_frames(selection.kept, len(borders) - 1), {0: others, 1: COLORS["cone"]})
    draw_cuts(axes, borders[1:-1])


def draw_relevant(axes: Axes, selection: Selection, borders: Numbers) -> None:
    """The frames that the question needs, where that is known."""
    axes.axhline(0.5, color=COLORS["rule"], linewidth=1, zorder=0)
    needed = mark_frames((frame for event in selection.relevant for frame in event), len(borders) - 1)
    draw_ribbon(axes, borders, needed, {1: COLORS["relevant"]})


def draw_ribbon(
    axes: Axes, borders: Numbers, labels: Sequence[int], palette: Mapping[int, str]
) -> list[tuple[int, int, int]]:
    """The frames' slices in their labels' colours, each to be seen however narrow it is; returns the labels' runs."""
    runs = find_runs(labels)
    some = sorted((run for run in runs if run[2] in palette), key=lambda run: run[2])  # higher ones hide lower ones
    spans = [(borders[start], borders[end] - borders[start]) for start, end, _ in some]
    colors = [palette[label] for _, _, label in some]
    axes.broken_barh(spans, (0, 1), color=colors, linewidth=1.5, rasterized=len(some) > 2000, clip_on=False)
    return runs


def draw_cuts(axes: Axes, times: Numbers) -> None:
    """White lines between neighbours of a ribbon, unless they would cover it."""
    if len(times) < axes.bbox.width / 6:
        axes.vlines(times, 0, 1, COLORS["paper"], linewidth=1)
