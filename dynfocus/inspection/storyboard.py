"""Draw one selection as a picture: the filmstrip, under it the curves and ribbons over one time axis.

A picture takes about 0.2 s, the first one of a process half a second more.
"""

from math import ceil
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle
from PIL import Image

from dynfocus.errors import ConfigError
from dynfocus.inspection.charts import COLORS, make_figure, use_style, wrap_text
from dynfocus.inspection.content import Inspection
from dynfocus.inspection.frames import choose_strip
from dynfocus.inspection.timeline import LEFT, RIGHT, draw_timeline, find_borders, timeline_height, to_pixels
from dynfocus.inspection.wording import format_time, list_legend, rank_frames, summarize

NARROWEST = 400  # pixels
MARGIN, LINE = 20, 22  # pixels
SMALLEST, LARGEST = 50, 150  # pixels of a frame in the strip
TAB, CAPTION = 15, 18  # pixels above a frame for its rank, under it for its time
LEADERS = 26  # pixels between the strip and the timeline, for the lines that lead from one to the other

LEGEND: dict[str, Any] = {
    **{"loc": "upper left", "frameon": False, "fontsize": 13, "borderpad": 0.25, "borderaxespad": 0},
    **{"handlelength": 0.9, "handleheight": 0.9, "handletextpad": 0.5, "labelspacing": 0.7},
}


@use_style
def draw_storyboard(inspection: Inspection, width: int = 1200) -> Image.Image:
    """Draw a selection.

    The kept frames are framed in the colour of cones, the others faded; of more frames than fit, kept ones are shown
    first. Curves and ribbons always show every frame. The same inspection gives the same pixels.

    Args:
        inspection: what is drawn; its texts appear in the letters that matplotlib's own font has.
        width: of the picture, in pixels.

    Raises:
        ConfigError: if the picture is too narrow to be read, or there are more or fewer frames than time stamps.
    """
    if width < NARROWEST:
        raise ConfigError(f"a picture {width} pixels wide", f"at least {NARROWEST}", "Make it wider.")
    inspection.check()
    selection, room = inspection.selection, width - 2 * MARGIN
    frames, size = lay_out_strip(inspection, width - LEFT - RIGHT)
    lines = [(line, 30, 20, "ink") for line in wrap_text(inspection.title, 20, room, 1)]
    for name in ("question", "answer", "truth"):
        if text := getattr(inspection, name):
            lines += [(line, LINE, 15, "ink") for line in wrap_text(f"{name.capitalize()}: {text}", 15, room)]
    summary = summarize(selection) + f"; {len(frames)} frames are shown" * (len(frames) < len(inspection.frames))
    lines += [(line, LINE, 15, "faint") for line in wrap_text(summary, 15, room)]
    legend, columns = list_legend(selection), 3 if width > 1150 else 1
    strip = MARGIN + sum(high for _, high, _, _ in lines) + 6
    timeline = strip + 6 + (TAB + round(size[1]) + CAPTION + LEADERS if frames else 0)
    below = timeline + timeline_height(selection)
    figure = make_figure(width, below + LINE * ceil(len(legend) / columns) + MARGIN)
    sheet = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(figure.bbox.height, 0))  # in pixels
    sheet.set_axis_off()
    y = MARGIN
    for words, high, letters, color in lines:
        sheet.text(MARGIN, y + high - (14 if high > LINE else 8), words, fontsize=letters, color=COLORS[color])
        y += high
    draw_strip(sheet, inspection, frames, size, strip + TAB)
    draw_timeline(figure, selection, timeline)
    patches = [Rectangle((0, 0), 1, 1, color=COLORS[color], linewidth=0) for color, _ in legend]
    place: dict[str, Any] = {"bbox_to_anchor": (MARGIN - 3, below), "bbox_transform": sheet.transData}
    sheet.legend(patches, [words for _, words in legend], ncols=columns, **place, **LEGEND)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def lay_out_strip(inspection: Inspection, room: int) -> tuple[list[int], tuple[float, float]]:
    """The frames that a strip of that many pixels shows, and the width and height of each."""
    if not inspection.frames:
        return [], (0, 0)
    frames = choose_strip(inspection.selection, min(len(inspection.frames), room // SMALLEST))
    high, wide = inspection.frames[0].shape[:2]
    width = min(room / len(frames) - 6, LARGEST, LARGEST * wide / high)
    return frames, (width, width * high / wide)


def draw_strip(sheet: Axes, inspection: Inspection, frames: list[int], size: tuple[float, float], top: float) -> None:
    """The strip from ``top`` downwards: kept frames framed, the others faded, each led to its time on the axis."""
    selection, ranks, (wide, high) = inspection.selection, rank_frames(inspection.selection), size
    right = sheet.bbox.width - RIGHT
    middles = LEFT + (np.arange(len(frames)) + 0.5) * (right - LEFT) / max(1, len(frames))
    times = to_pixels(selection.seconds, find_borders(selection.seconds), sheet.bbox.width)
    for middle, frame in zip(middles.tolist(), frames, strict=True):
        left, below, kept = middle - wide / 2, top + high + CAPTION, frame in selection.kept
        if kept:
            draw_box(sheet, left - 2, top - 2, wide + 4, high + 4, "cone")
        extent, faded = (left, left + wide, top + high, top), 0.45 if selection.kept and not kept else 1.0
        sheet.imshow(inspection.frames[frame], extent=extent, alpha=faded, aspect="auto", zorder=2)
        if frame in ranks:
            draw_box(sheet, middle - 9, top - TAB, 18, TAB, "cone")
            sheet.text(middle, top - 3, str(ranks[frame]), fontsize=12, ha="center", color=COLORS["dark"])
        time, colors = format_time(selection.seconds[frame]), ("ink", "cone") if kept else ("faint", "rule")
        sheet.text(middle, below - 4, time, fontsize=11, ha="center", color=COLORS[colors[0]])
        sheet.plot([middle, times[frame]], [below, below + LEADERS - 8], color=COLORS[colors[1]], linewidth=1)


def draw_box(sheet: Axes, x: float, y: float, width: float, height: float, color: str) -> None:
    """A filled rectangle."""
    sheet.add_patch(Rectangle((x, y), width, height, color=COLORS[color], linewidth=0))
