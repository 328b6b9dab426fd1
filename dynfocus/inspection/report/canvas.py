"""What curves and ribbons are drawn on: pixels of a picture, or elements of an SVG; colours go by their meaning."""

import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from functools import cache
from html import escape
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Anchor = Literal["start", "middle", "end"]
Point = tuple[float, float]

COLORS = {
    "paper": (255, 255, 255),
    "ink": (28, 30, 34),
    "dark": (20, 22, 26),
    "faint": (105, 110, 120),
    "rule": (214, 217, 222),
    "cone": (214, 106, 6),
    "rod": (150, 172, 204),
    "none": (232, 234, 238),
    "peak": (72, 72, 168),
    "relevant": (30, 140, 70),
    "shade": (225, 243, 230),
    "event0": (88, 140, 200),
    "event1": (236, 170, 92),
    "event2": (110, 180, 130),
    "event3": (206, 110, 120),
    "event4": (150, 130, 196),
    "event5": (170, 140, 110),
    "event6": (226, 150, 196),
    "event7": (150, 150, 150),
    "event8": (190, 186, 90),
    "event9": (90, 184, 196),
}
EVENTS = 10  # colours of events; after these they begin again
FINER = 2  # pictures are drawn this many times larger and then reduced: Pillow's own lines are not smooth
DRAWN = frozenset(map(chr, range(32, 127)))  # Pillow's own font knows little beyond these


@runtime_checkable
class Canvas(Protocol):
    """Something to draw on; units are pixels of the picture, y grows downwards."""

    def rect(self, x: float, y: float, width: float, height: float, fill: str) -> None:
        """A filled rectangle."""

    def line(self, points: Sequence[Point], color: str, width: float = 1.0) -> None:
        """A line through at least two points."""

    def dot(self, x: float, y: float, radius: float, fill: str, edge: str) -> None:
        """A filled circle with an edge."""

    def text(self, x: float, y: float, words: str, size: int = 13, color: str = "ink", at: Anchor = "start") -> None:
        """One line of text whose base line is at y."""


class Pixels:
    """A canvas that becomes a picture."""

    def __init__(self, width: int, height: int) -> None:
        self.large = Image.new("RGB", (width * FINER, height * FINER), COLORS["paper"])
        self.draw = ImageDraw.Draw(self.large)

    def rect(self, x: float, y: float, width: float, height: float, fill: str) -> None:
        corners = [round(part * FINER) for part in (x, y, x + width, y + height)]
        corners[2:] = max(corners[0], corners[2] - 1), max(corners[1], corners[3] - 1)
        self.draw.rectangle(corners, COLORS[fill])

    def line(self, points: Sequence[Point], color: str, width: float = 1.0) -> None:
        scaled = [(x * FINER, y * FINER) for x, y in points]
        self.draw.line(scaled, COLORS[color], max(1, round(width * FINER)), joint="curve")

    def dot(self, x: float, y: float, radius: float, fill: str, edge: str) -> None:
        box = [part * FINER for part in (x - radius, y - radius, x + radius, y + radius)]
        self.draw.ellipse(box, COLORS[fill], COLORS[edge], width=FINER)

    def text(self, x: float, y: float, words: str, size: int = 13, color: str = "ink", at: Anchor = "start") -> None:
        anchor = {"start": "ls", "middle": "ms", "end": "rs"}[at]
        self.draw.text((x * FINER, y * FINER), drawable(words), COLORS[color], font(size * FINER), anchor)

    def paste(self, x: float, y: float, width: float, height: float, frame: NDArray[np.uint8], faded: float) -> None:
        """A frame, faded towards the paper by this share."""
        size = (max(1, round(width * FINER)), max(1, round(height * FINER)))
        image = Image.fromarray(np.ascontiguousarray(frame)).resize(size, Image.Resampling.BICUBIC)
        if faded:
            image = Image.blend(image, Image.new("RGB", size, COLORS["paper"]), faded)
        self.large.paste(image, (round(x * FINER), round(y * FINER)))

    def picture(self) -> Image.Image:
        """What was drawn."""
        return self.large.reduce(FINER)


class Vectors:
    """A canvas that becomes the elements of an SVG, with classes in place of colours."""

    def __init__(self) -> None:
        self.elements: list[str] = []

    def add(self, tag: str, content: str = "", **attributes: str) -> None:
        """One element; its attributes are numbers and names of our own."""
        told = "".join(f' {name.rstrip("_").replace("_", "-")}="{value}"' for name, value in attributes.items())
        self.elements.append(f"<{tag}{told}>{escape(content)}</{tag}>" if content else f"<{tag}{told}/>")

    def rect(self, x: float, y: float, width: float, height: float, fill: str) -> None:
        self.add("rect", x=short(x), y=short(y), width=short(width), height=short(height), class_=f"f-{fill}")

    def line(self, points: Sequence[Point], color: str, width: float = 1.0) -> None:
        road = " ".join(f"{short(x)},{short(y)}" for x, y in points)
        self.add("polyline", points=road, class_=f"l-{color}", stroke_width=short(width))

    def dot(self, x: float, y: float, radius: float, fill: str, edge: str) -> None:
        self.add("circle", cx=short(x), cy=short(y), r=short(radius), class_=f"f-{fill} e-{edge}")

    def text(self, x: float, y: float, words: str, size: int = 13, color: str = "ink", at: Anchor = "start") -> None:
        self.add("text", words, x=short(x), y=short(y), font_size=str(size), text_anchor=at, class_=f"f-{color}")


def short(number: float) -> str:
    """A number with at most one decimal, which is as much as can be seen."""
    return f"{number:.1f}".removesuffix(".0")


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, so that no font file is needed."""
    return ImageFont.load_default(size)


def drawable(words: str) -> str:
    """The text in the letters that Pillow's own font has; what it lacks becomes a question mark."""
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", words) if not unicodedata.combining(letter))
    return "".join(letter if letter in DRAWN else " " if letter.isspace() else "?" for letter in plain)


def length(words: str, size: int) -> float:
    """Pixels that a line of text takes."""
    return font(size * FINER).getlength(drawable(words)) / FINER


def wrapped(words: str, size: int, width: float, most: int = 3) -> list[str]:
    """The text in lines no wider than ``width`` pixels; after ``most`` lines it ends in three dots."""
    lines, some = [""], " ".join(words.split())[: most * int(width)]  # a letter is wider than a pixel
    for word in drawable(some).split():
        while word and len(lines) <= most:
            joined = f"{lines[-1]} {word}".strip()
            if length(joined, size) <= width:
                lines[-1], word = joined, ""
            elif lines[-1]:
                lines.append("")
            else:  # one word alone is wider than the line
                fits = max(1, bisect_right(range(1, len(word) + 1), width, key=lambda n: length(word[:n], size)))
                lines[-1], word = word[:fits], word[fits:]
        if len(lines) > most:
            return [*lines[: most - 1], lines[most - 1][:-3] + "..."]
    return [line for line in lines if line]
