"""Set the style of every chart, write charts and tables as files, and measure text."""

import csv
import io
import os
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from markupsafe import Markup
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.textpath import text_to_path

from dynfocus.errors import DiskError
from dynfocus.inspection.wording import make_visible
from dynfocus.records.atomic import atomic_write, write_text

COLORS = {  # by their meaning; a page has others on a dark background
    "paper": "#ffffff",
    "ink": "#1c1e22",
    "dark": "#14161a",
    "faint": "#696e78",
    "rule": "#d6d9de",
    "cone": "#d66a06",
    "rod": "#96accc",
    "none": "#e8eaee",
    "peak": "#4848a8",
    "relevant": "#1e8c46",
    "shade": "#e1f3e6",
}
EVENTS = (  # colours of events; after these they begin again
    *("#588cc8", "#ecaa5c", "#6eb482", "#ce6e78", "#9682c4"),
    *("#aa8c6e", "#e296c4", "#969696", "#beba5a", "#5ab8c4"),
)
FIGURES = Path("runs/figures")  # the folder that figures are written into
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#8c8c8c"  # told apart by the colour-blind too
DPI = 72  # of pictures and pages: a point of matplotlib is a pixel
# Not a person's own style: everybody gets the same picture.
STYLE: dict[Any, Any] = {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"} | {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "dynfocus",
    "text.color": COLORS["ink"],
    "text.hinting": "none",  # else letters keep to whole pixels, and lines are wider than measured
    "text.parse_math": False,
}
use_style = matplotlib.rc_context(STYLE)  # a decorator


def make_figure(width: float, height: float) -> Figure:
    """An empty figure of so many pixels."""
    return Figure((width / DPI, height / DPI), dpi=DPI)


class Svg(NamedTuple):
    """A chart of a page: width and height in pixels, and its elements."""

    width: float
    height: float
    elements: Markup


def write_svg(figure: Figure, classes: dict[str, str]) -> Svg:
    """A figure for a page, whose security policy forbids style attributes: every style becomes a class.

    Args:
        figure: any.
        classes: names of classes by their style; new ones are added. `style_rules` writes them.
    """
    stream = io.StringIO()
    figure.patch.set_visible(False)
    figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    inside = stream.getvalue().partition("</defs>")[2].rpartition("</svg>")[0]  # without matplotlib's own style sheet
    inside = re.sub(r'<g id="[^"]*">', "<g>", inside)  # another chart of the page has the same names
    inside = re.sub(r' style="([^"]*)"', lambda at: f' class="{classes.setdefault(at[1], f"m{len(classes)}")}"', inside)
    return Svg(*figure.bbox.size, Markup(inside))


def style_rules(classes: dict[str, str]) -> str:
    """CSS rules of `write_svg`'s classes, with the page's font, and its variables in place of colours."""
    rules = "".join(f".{name} {{ {style} }}\n" for style, name in classes.items())
    rules = re.sub(r" font-family: [^;}]*;", "", rules)
    for name, color in COLORS.items():
        rules = rules.replace(color, f"var(--{name})")
    return rules


def text_width(words: str, size: float) -> float:
    """Pixels that a line of text takes."""
    return float(text_to_path.get_text_width_height_descent(words, FontProperties(size=size), ismath=False)[0])


def wrap_text(words: str, size: float, width: float, most: int = 3) -> list[str]:
    """The text in lines no wider than ``width`` pixels; after ``most`` lines it ends in three dots.

    A letter that the font lacks becomes a question mark.
    """
    font, lines = get_font(findfont(FontProperties())), list[str]()
    rest = make_visible(" ".join(words.split())[: most * int(width)])  # a letter is wider than a pixel
    rest = "".join(letter if font.get_char_index(ord(letter)) else "?" for letter in rest)
    while rest and len(lines) <= most:
        end = max(1, bisect_right(range(1, len(rest) + 1), width, key=lambda count: text_width(rest[:count], size)))
        if end < len(rest) and (space := rest.rfind(" ", 1, end + 1)) > 0:
            end = space
        lines.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    return lines if len(lines) <= most else [*lines[: most - 1], lines[most - 1][:-3] + "..."]


def check_folder(out: Path) -> None:
    """Refuse a folder that could not be written into, before anything is measured; raises DiskError."""
    there = next(place for place in (out.absolute(), *out.absolute().parents) if place.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        problem = f"--out {out}, where {there} is {'not writable' if there.is_dir() else 'no folder'}"
        raise DiskError(problem, "a folder to write into", "Choose another place.")


@contextmanager
def write_chart(path: Path, width: float, height: float, notes: Sequence[str]) -> Iterator[Figure]:
    """Give an empty figure of that many inches, and write what is drawn on it, with notes under it, as a PNG.

    The same numbers make the same bytes. Raises DiskError if the file cannot be written.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure((width, height), dpi=150, layout="constrained")
        yield figure
        lines = [line for note in notes for line in wrap_text(note, 7, 70 * width, most=9)]
        figure.supxlabel("\n".join(lines), fontsize=7, x=0.01, ha="left", color="#444444")
        with atomic_write(path) as part:
            FigureCanvasAgg(figure).print_png(part, metadata={"Software": None})


def write_table(path: Path, notes: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    """Write rows of one form as CSV, under notes that begin with ``#``; numbers at full precision; raises DiskError."""
    rows, file = list(rows), io.StringIO()
    table = csv.DictWriter(file, list(rows[0]) if rows else [], lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(path, "".join(f"# {note}\n" for note in notes) + file.getvalue())
