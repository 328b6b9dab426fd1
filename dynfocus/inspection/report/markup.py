"""Pieces of HTML in which nothing that a user wrote can be more than text."""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from dynfocus.inspection.report.canvas import Vectors

JOINERS = "\u200c\u200d"  # Persian, Indic scripts and emoji are written with them


def safe(words: object) -> str:
    """Any text as HTML, within elements and within attributes; what UTF-8 or HTML cannot hold becomes a mark."""
    letters = str(words).encode("utf-8", "replace").decode()
    return escape("".join(letter if letter.isprintable() or letter in "\n\t" else mark(letter) for letter in letters))


def mark(letter: str) -> str:
    """A letter that cannot be seen: spaces and joiners stay; others, such as those that turn text around, are named."""
    stays = letter in JOINERS or (letter.isspace() and ord(letter) > 159)
    return letter if stays else f"\\u{ord(letter):04x}"


def numbers(told: Mapping[str, object]) -> str:
    """Numbers and words of our own for the page's script."""
    return json.dumps(told, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def drawing(canvas: Vectors, width: float, height: float, name: str, words: str, more: str = "") -> str:
    """An SVG with its elements; ``words`` say what it shows to those who do not see it."""
    return (
        f'<div class="scroll"><svg class="{name}" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{safe(words)}"{more}>{"".join(canvas.elements)}</svg></div>'
    )


def table(name: str, rows: Mapping[str, object]) -> str:
    """A table of names and values; empty where there are none."""
    if not rows:
        return ""
    body = "".join(f'<tr><th scope="row">{safe(key)}</th><td>{value(told)}</td></tr>' for key, told in rows.items())
    return f"<table><caption>{safe(name)}</caption>{body}</table>"


def value(told: object) -> str:
    """One value of a table."""
    if isinstance(told, Mapping):
        return "<br>".join(f"{safe(key)} = {value(one)}" for key, one in told.items())
    if isinstance(told, Sequence) and not isinstance(told, str):
        return ", ".join(value(one) for one in told)
    if isinstance(told, bool) or told is None:
        return {True: "true", False: "false", None: "none"}[told]
    return f"{told:.4g}" if isinstance(told, float) else safe(told)


def grid(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of numbers under a head."""
    heads = "".join(f'<th scope="col">{safe(name)}</th>' for name in head)
    body = "".join("<tr>" + "".join(f"<td>{value(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="numbers scroll"><table><tr>{heads}</tr>{body}</table></div>'
