"""Write tables of results as Markdown, CSV and HTML."""

import csv
import re
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path

from dynfocus.evals.pages import open_templates
from dynfocus.evals.table_rows import Cell, Row, Table

SETTINGS = ("questions", "judge", "protocol", "split", "frames", "subtitles", "options")
FACTS = ("tokens", "seed", "commit", "unparsed", "failed")
UNKNOWN = "-"
TEMPLATES = open_templates(Path(__file__).parent)


def format_markdown(tables: Sequence[Table]) -> str:
    """Write tables as Markdown: a number, its interval and n in each cell, the row's settings and facts behind."""
    return "\n".join(_format_markdown_table(table) for table in tables)


def format_csv(tables: Sequence[Table]) -> str:
    """Write tables as CSV: a line for each number, also for those of single groups, with all that belongs to it."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    numbers = ("benchmark", "row", "source", "column", "value", "low", "high", "n", "mark")
    writer.writerow([*numbers, *SETTINGS, *FACTS])
    for table in tables:
        for row, mark in zip(table.rows, table.marks, strict=True):
            for column, cell in row.cells.items():
                low, high = cell.interval or ("", "")
                line = [table.benchmark, row.label, row.source, column, cell.text, low, high, cell.n or "", mark]
                writer.writerow([*map(_defuse, map(str, line)), *map(_defuse, list_facts(row, ""))])
    return text.getvalue()


def format_html(tables: Sequence[Table]) -> str:
    """Write tables as a page that needs nothing but itself; every text in it is escaped."""
    page = TEMPLATES.get_template("table.html.j2")
    return page.render(tables=tables, facts=SETTINGS + FACTS, list_facts=list_facts)


FORMATS: dict[str, Callable[[Sequence[Table]], str]] = {
    "md": format_markdown,
    "csv": format_csv,
    "html": format_html,
}


def list_facts(row: Row, unknown: str = UNKNOWN) -> list[str]:
    """List the settings and facts of a row in the order of the page."""
    return [row.settings.get(name) or unknown for name in SETTINGS] + [row.facts[name] for name in FACTS]


def _format_markdown_table(table: Table) -> str:
    heads = ["", *table.columns, *SETTINGS, *FACTS, "source"]
    lines = [heads, ["---"] * len(heads)]
    for row, mark in zip(table.rows, table.marks, strict=True):
        cells = [_format_cell(row.cells.get(column), mark) for column in table.columns]
        lines.append([escape_markdown(text) for text in (row.label, *cells, *list_facts(row), row.source)])
    rows = ["| " + " | ".join(line) + " |" for line in lines]
    notes = [f"* {escape_markdown(note)}" for note in table.notes]
    return "\n".join([f"### {table.benchmark}", "", *rows, "", *notes, ""])


def _format_cell(cell: Cell | None, mark: str) -> str:
    if cell is None:
        return UNKNOWN
    low, high = cell.interval or ("", "")
    shown = [f"{cell.text} ({mark})" if mark else cell.text]
    shown += [f"{low} to {high}"] if cell.interval else []
    return ", ".join([*shown, *([f"n {cell.n}"] if cell.n is not None else [])])


def escape_markdown(text: str) -> str:
    """Write a text so that Markdown shows it as it is, on one line."""
    plain = re.sub(r"[\x00-\x1f\x7f\u2028\u2029]", " ", text).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_\[\]|!#~>])", r"\\\1", plain)


def _defuse(text: str) -> str:
    """Keep a text from being read as a formula by a program of spreadsheets; numbers stay as they are."""
    is_number = re.fullmatch(r"[-+]?\d+(\.\d+)?%?", text)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") and not is_number and text != UNKNOWN else text
