"""Write the tables of ablations as Markdown, CSV and HTML, and draw them."""

import csv
from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from dynfocus.evals.pages import open_templates
from dynfocus.evals.table_formats import escape_markdown
from dynfocus.lab.ablations.intervals import Interval
from dynfocus.lab.ablations.tables import SHOWN, Pair, Result, Table
from dynfocus.records.atomic import atomic_write, write_text

ABSENT = "-"
TEMPLATES = open_templates(Path(__file__).parent)


def write_tables(folder: Path, tables: Sequence[Table], facts: Sequence[str]) -> list[Path]:
    """Write ablations.md, .csv and .html and a picture of each table; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {table.study.name: draw(table) for table in tables}
    texts = {
        "ablations.md": format_markdown(tables, facts),
        "ablations.csv": format_csv(tables),
        "ablations.html": format_html(tables, facts, pictures),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    for name, picture in pictures.items():
        with atomic_write(folder / f"{name}.png") as part:
            part.write_bytes(picture)
    return [folder / name for name in (*texts, *(f"{name}.png" for name in pictures))]


def list_cells(result: Result) -> list[str]:
    """List a row as texts: its label, its numbers with their intervals, tokens, seeds and the paper's place."""
    numbers = [
        ABSENT
        if name not in result.measures
        else f"{result.measures[name].value:.3f} {format_interval(result.measures[name].interval)}"
        for name in SHOWN
    ]
    tokens = ABSENT if result.tokens is None else f"{result.tokens:.0f}"
    paper = ABSENT if result.paper is None else f"place {result.paper}"
    return [result.row.label, *numbers, tokens, ", ".join(map(str, result.seeds)) or ABSENT, paper]


HEADS = ("", *SHOWN, "tokens", "seeds", "paper")
PAIR_HEADS = ("first", "second", "first - second", "95 % interval", "p", "p by Holm", "80 % power from", "")


def list_pairs(table: Table) -> list[list[str]]:
    """List the pairs of a table as texts."""
    return [
        [
            pair.first.row.label,
            pair.second.row.label,
            ABSENT if pair.difference is None else f"{pair.difference.value:+.3f}",
            ABSENT if pair.difference is None else format_interval(pair.difference.interval, "+"),
            *map(format_number, list_tests(pair)),
            table.say(pair),
        ]
        for pair in table.pairs
    ]


def list_tests(pair: Pair) -> list[float | None]:
    """List a pair's p, p by Holm, and the smallest difference with 80 % power."""
    return [None] * 3 if pair.difference is None else [pair.difference.p, pair.p_holm, pair.difference.smallest]


def format_number(number: float | None) -> str:
    """Format a number to three digits."""
    return ABSENT if number is None else f"{number:.3g}"


def format_interval(interval: Interval, sign: str = "") -> str:
    """Format an interval to three digits."""
    return f"[{interval[0]:{sign}.3f}, {interval[1]:{sign}.3f}]"


def format_markdown(tables: Sequence[Table], facts: Sequence[str]) -> str:
    """Write tables as Markdown."""
    lines = ["# Ablations", "", *(f"* {escape_markdown(fact)}" for fact in facts)]
    for table in tables:
        lines += ["", f"## {escape_markdown(table.study.title)}", "", f"![]({table.study.name}.png)", ""]
        lines += _format_grid([HEADS, *map(list_cells, table.results)])
        lines += ["", f"Pairs, by {table.study.column}:", "", *_format_grid([PAIR_HEADS, *list_pairs(table)])]
        lines += ["", *(f"* {escape_markdown(note)}" for note in table.list_notes())]
    return "\n".join(lines).rstrip("\n") + "\n"


def format_csv(tables: Sequence[Table]) -> str:
    """Write tables as CSV: a line for each number of each row, and one for each pair."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = ["study", "row", "minus", "column", "value", "low", "high", "tokens", "seeds", "paper", "verdict"]
    writer.writerow([*heads, "p", "p by Holm", "80 % power from"])
    for table in tables:
        for result in table.results:
            tokens = "" if result.tokens is None else f"{result.tokens:.1f}"
            about = [tokens, " ".join(map(str, result.seeds)), result.paper or "", "", "", "", ""]
            for name, measure in result.measures.items():
                numbers = [f"{number:.6f}" for number in (measure.value, *measure.interval)]
                writer.writerow([table.study.name, result.row.label, "", name, *numbers, *about])
        for pair in table.pairs:
            if pair.difference is not None:
                numbers = [f"{number:.6f}" for number in (pair.difference.value, *pair.difference.interval)]
                labels = [table.study.name, pair.first.row.label, pair.second.row.label, table.study.column]
                tests = ["" if one is None else f"{one:.6g}" for one in list_tests(pair)]
                writer.writerow([*labels, *numbers, "", "", "", table.say(pair), *tests])
        if table.agreement is not None:
            numbers = [f"{number:.6f}" for number in (table.agreement[0], *table.agreement[1])]
            writer.writerow([table.study.name, "all", "", "Kendall's tau", *numbers, *[""] * 7])
    return text.getvalue()


def format_html(tables: Sequence[Table], facts: Sequence[str], pictures: dict[str, bytes]) -> str:
    """Write tables as a page that needs nothing but itself; every text in it is escaped."""
    parts = [
        {
            "title": table.study.title,
            "picture": b64encode(pictures[table.study.name]).decode(),
            "rows": [HEADS, *map(list_cells, table.results)],
            "column": table.study.column,
            "pairs": [PAIR_HEADS, *list_pairs(table)],
            "notes": table.list_notes(),
        }
        for table in tables
    ]
    return TEMPLATES.get_template("page.html.j2").render(facts=facts, parts=parts)


def draw(table: Table) -> bytes:
    """Draw a table as PNG: a curve where its rows have places on an axis, else bars; with the intervals."""
    study = table.study
    measured = [result for result in table.results if study.column in result.measures]
    values = [result.measures[study.column].value for result in measured]
    intervals = [result.measures[study.column].interval for result in measured]
    reach = np.array([(value - low, high - value) for value, (low, high) in zip(values, intervals, strict=True)])
    reach = np.clip(reach.reshape(-1, 2).T, 0, None)
    tall = max(3.5, 0.28 * len(measured)) if study.axis is None else 3.5
    figure = Figure(figsize=(6.4, tall), layout="constrained")
    axes = figure.add_subplot()
    if study.axis is None:
        axes.barh([result.row.label for result in measured], values, xerr=reach, color="#4c78a8", ecolor="black")
        axes.invert_yaxis()
        axes.set_xlabel(f"{study.column}, 95 % interval")
    else:
        places = [float(result.row.place or 0) for result in measured]
        axes.errorbar(places, values, yerr=reach, marker="o", capsize=3, color="#4c78a8", ecolor="black")
        axes.set_xlabel(study.axis)
        axes.set_ylabel(f"{study.column}, 95 % interval")
    axes.set_title(study.title, fontsize="small", wrap=True)
    file = BytesIO()
    figure.savefig(file, format="png", dpi=120, metadata={"Software": None})
    return file.getvalue()


def _format_grid(rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return ["| " + " | ".join(map(escape_markdown, line)) + " |" for line in lines]
