"""One selection as a picture: the filmstrip, under it the curves and ribbons over one time axis."""

from PIL import Image

from dynfocus.errors import ConfigError
from dynfocus.inspection.report.axis import Axis
from dynfocus.inspection.report.canvas import Pixels, length, wrapped
from dynfocus.inspection.report.chart import GUTTER, RIGHT, chart_height, draw_chart
from dynfocus.inspection.report.filmstrip import draw_strip, shown, strip_height, strip_size
from dynfocus.inspection.report.story import Story
from dynfocus.inspection.report.telling import legend, summary

NARROWEST = 400  # pixels
MARGIN = 20
LINE = 22
TITLE = 30


def picture(story: Story, width: int = 1200) -> Image.Image:
    """Draw a selection.

    The kept frames are framed in the colour of cones, the others faded; of more frames than fit, kept ones are shown
    first. Curves and ribbons always tell of every frame. The same story gives the same pixels.

    Args:
        story: what is drawn; its texts appear in the letters that Pillow's own font has.
        width: of the picture, in pixels.

    Raises:
        ConfigError: if the picture is too narrow to be read, or a story has more or fewer frames than time stamps.
    """
    frames = len(story.selection.seconds)
    if width < NARROWEST:
        raise ConfigError(f"a picture {width} pixels wide", f"at least {NARROWEST}", "Make it wider.")
    if not frames or len(story.frames) not in (0, frames):
        raise ConfigError(
            f"a story of {len(story.frames)} frames and {frames} time stamps",
            "as many of the one as of the other, or no frames",
            "Give the frames that the selection was made of.",
        )
    axis = Axis(story.selection.seconds, GUTTER, width - RIGHT)
    heading, notes = texts(story, axis, width), legend_lines(story, width)
    title = wrapped(story.title, 20, width - 2 * MARGIN, 1)
    above = MARGIN + TITLE * len(title) + LINE * len(heading)
    strip = strip_height(story, axis)
    chart = above + strip + 12
    below = chart + chart_height(story.selection)
    canvas = Pixels(width, below + LINE * len(notes) + MARGIN)
    for words in title:
        canvas.text(MARGIN, MARGIN + 16, words, 20)
    for number, (words, color) in enumerate(heading):
        canvas.text(MARGIN, above - LINE * (len(heading) - number) + 14, words, 15, color)
    if story.frames:
        draw_strip(canvas, story, axis, above + 6)
    draw_chart(canvas, story.selection, axis, chart)
    for number, line in enumerate(notes):
        x = float(MARGIN)
        for color, words in line:
            canvas.rect(x, below + LINE * number + 3, 12, 12, color)
            canvas.text(x + 18, below + LINE * number + 14, words, 13)
            x += legend_width(words)
    return canvas.picture()


def texts(story: Story, axis: Axis, width: int) -> list[tuple[str, str]]:
    """The lines under the title, each with its colour."""
    lines = []
    for name, words in (("Question", story.question), ("Answer", story.answer), ("Truth", story.truth)):
        if words:
            lines += [(line, "ink") for line in wrapped(f"{name}: {words}", 15, width - 2 * MARGIN)]
    told = summary(story.selection)
    if story.frames and (count := len(shown(story.selection, strip_size(story, axis)[0]))) < len(story.frames):
        told += f"; {count} frames are shown"
    return lines + [(line, "faint") for line in wrapped(told, 15, width - 2 * MARGIN)]


def legend_width(words: str) -> float:
    """Pixels that an entry of the legend takes."""
    return length(words, 13) + 42


def legend_lines(story: Story, width: int) -> list[list[tuple[str, str]]]:
    """The legend's entries, in as many lines as they need."""
    lines: list[list[tuple[str, str]]] = [[]]
    used = 0.0
    for color, words in legend(story.selection):
        used += legend_width(words)
        if lines[-1] and used > width - 2 * MARGIN:
            lines.append([])
            used = legend_width(words)
        lines[-1].append((color, words))
    return lines
