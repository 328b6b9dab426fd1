"""Frames side by side over the time axis: which are shown, and how each is marked."""

from collections.abc import Iterable, Sequence

from dynfocus.inspection.report.axis import Axis, clock
from dynfocus.inspection.report.canvas import Pixels
from dynfocus.inspection.report.story import Story
from dynfocus.inspection.report.telling import ranks
from dynfocus.records.selections import Selection

NARROWEST = 50  # pixels of a frame in the strip
WIDEST = 150
TAB = 15  # pixels above a frame, for its rank
CAPTION = 18
LEADERS = 26  # pixels between the strip and the chart, for the lines that lead from one to the other


def evenly(frames: Sequence[int], count: int) -> list[int]:
    """``count`` of these frames, from the middles of equal shares; all of them where there are no more."""
    if len(frames) <= count:
        return list(frames)
    return [frames[(2 * place + 1) * len(frames) // (2 * count)] for place in range(count)]


def shown(selection: Selection, places: int) -> tuple[int, ...]:
    """The frames that a strip of so many places shows: kept ones first, of these the best first; else evenly."""
    chosen = set(list(ranks(selection))[:places])
    for frames in (selection.kept, range(len(selection.seconds))):
        chosen |= set(evenly(without(frames, chosen), places - len(chosen)))
    return tuple(sorted(chosen))


def without(frames: Iterable[int], chosen: set[int]) -> list[int]:
    """The frames that are not among the chosen."""
    return [frame for frame in frames if frame not in chosen]


def strip_size(story: Story, axis: Axis) -> tuple[int, float, float]:
    """Places of the strip, and width and height of a frame in it, in pixels."""
    room = axis.right - axis.left
    places = min(len(story.selection.seconds), int(room // NARROWEST))
    high, wide = story.frames[0].shape[:2]
    width = min(room / places - 6, WIDEST, WIDEST * wide / high)
    return places, width, width * high / wide


def strip_height(story: Story, axis: Axis) -> int:
    """Pixels that `draw_strip` needs; 0 where there are no frames to show."""
    return TAB + round(strip_size(story, axis)[2]) + CAPTION + LEADERS if story.frames else 0


def draw_strip(canvas: Pixels, story: Story, axis: Axis, top: float) -> None:
    """The strip from ``top`` downwards: kept frames framed, the others faded, each led to its time on the axis."""
    places, width, height = strip_size(story, axis)
    kept, rank, frames = set(story.selection.kept), ranks(story.selection), shown(story.selection, places)
    slot, top = (axis.right - axis.left) / len(frames), top + TAB
    for place, frame in enumerate(frames):
        middle, chosen = axis.left + (place + 0.5) * slot, frame in kept
        left = middle - width / 2
        if chosen:
            canvas.rect(left - 2, top - 2, width + 4, height + 4, "cone")
        canvas.paste(left, top, width, height, story.frames[frame], 0.0 if chosen or not kept else 0.55)
        if frame in rank:
            canvas.rect(middle - 9, top - TAB, 18, TAB, "cone")
            canvas.text(middle, top - 3, str(rank[frame]), 12, "dark", "middle")
        below, time = top + height + CAPTION, clock(story.selection.seconds[frame])
        canvas.text(middle, below - 4, time, 11, "ink" if chosen else "faint", "middle")
        color = "cone" if chosen else "rule"
        canvas.line([(middle, below), (float(axis.centres[frame]), below + LEADERS - 8)], color)
