"""Write a report card as JSON, as a page, as scalars of TensorBoard, and as text for a terminal."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dynfocus.evals.pages import open_templates
from dynfocus.lab.card_metrics import FRAME_METRICS
from dynfocus.lab.estimates import Estimate
from dynfocus.lab.report_card import ABOUT, Cell, ReportCard
from dynfocus.records.atomic import write_text

SCHEMA = 1
TEMPLATES = open_templates(Path(__file__).parent)


def explain_metric(name: str) -> tuple[str, str]:
    """Explain a metric in a sentence, and say whether high or low is better, or neither ("")."""
    if name.startswith("accuracy/"):
        return f"share of right answers, in the benchmark's column {name.removeprefix('accuracy/')}", "high"
    explained = ABOUT | {metric.name: (metric.about, metric.better) for metric in FRAME_METRICS}
    return explained[name]


def list_contents(card: ReportCard) -> dict[str, Any]:
    """List a card as plain values, in the form that docs/report-card.md describes; no number is NaN."""
    names = dict.fromkeys(name for cells in card.cells.values() for name in cells)
    return {
        "schema": SCHEMA,
        **card.facts,
        "metrics": {name: dict(zip(("about", "better"), explain_metric(name), strict=True)) for name in names},
        "entries": [
            {
                "label": entry.label,
                "arm": entry.arm,
                "keep": entry.keep,
                "kept_frames_alone": entry.alone,
                "runs": [side.run for side in entry.sides],
                "seeds": [side.seed for side in entry.sides],
                "metrics": {name: _list_cell(cell) for name, cell in card.cells[entry.label].items()},
            }
            for entry in card.entries
        ],
        "curves": [
            {
                "arm": curve.arm,
                "metric": curve.metric,
                "points": [{"keep": keep, **_list_estimate(one)} for keep, one in curve.points],
                "area": None if curve.area is None else _list_estimate(curve.area),
                "missing": curve.missing,
            }
            for curve in card.curves
        ],
        "comparisons": [
            asdict(one)
            | {"difference": one.difference.value, "interval": one.difference.interval}
            | {"videos": one.difference.videos}
            | {"equal_tokens": None if one.tokens is None else abs(one.tokens[0] - one.tokens[1]) < 0.5}
            for one in card.comparisons
        ],
        "missing": dict(card.missing),
    }


def _list_estimate(one: Estimate) -> dict[str, Any]:
    return {"value": one.value, "interval": one.interval, "n": one.n, "videos": one.videos}


def _list_cell(cell: Cell) -> dict[str, Any]:
    if cell.estimate is None:
        return {"value": None, "missing": cell.missing}
    return _list_estimate(cell.estimate) | {"seeds": cell.seeds, "missing": None}


def write_json(path: Path, contents: dict[str, Any]) -> None:
    """Write the contents of a card as JSON."""
    write_text(path, json.dumps(contents, indent=2, allow_nan=False) + "\n")


def write_page(path: Path, contents: dict[str, Any]) -> None:
    """Write the contents of a card as a page that needs nothing but itself; every text in it is escaped."""
    page = TEMPLATES.get_template("report_card.html.j2")
    write_text(path, page.render(card=contents, format_number=format_number, format_interval=format_interval) + "\n")


def write_scalars(folder: Path, contents: dict[str, Any]) -> int:
    """Write the numbers of a card and the ends of their intervals as scalars of TensorBoard; returns how many.

    The tag is ``report_card/METRIC/ENTRY``, with ``/low`` and ``/high`` behind it for the interval.
    """
    from tensorboard.summary import Writer

    writer, count = Writer(str(folder)), 0
    for entry in contents["entries"]:
        for name, cell in entry["metrics"].items():
            if cell["value"] is None:
                continue
            tag = f"report_card/{name.replace('/', '_')}/{entry['label']}"
            numbers = {tag: cell["value"]}
            if cell["interval"] is not None:
                numbers |= dict(zip((f"{tag}/low", f"{tag}/high"), cell["interval"], strict=True))
            for one, value in numbers.items():
                writer.add_scalar(one, value, step=0)
            count += len(numbers)
    writer.close()
    return count


def format_number(value: float | None) -> str:
    """Format a number for people."""
    return "-" if value is None else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def format_interval(interval: Sequence[float] | None) -> str:
    """Format an interval for people."""
    return "" if interval is None else f"[{format_number(interval[0])}, {format_number(interval[1])}]"


def format_text(contents: dict[str, Any]) -> str:
    """Format a card for a terminal: a line a metric, a column an entry; below it what differs, and what is missing."""
    entries = contents["entries"]
    lines = [["", *(entry["label"] for entry in entries)]]
    for name in contents["metrics"]:
        cells = [entry["metrics"].get(name, {"value": None}) for entry in entries]
        if any(cell["value"] is not None for cell in cells):
            lines.append([name, *(_format_cell(cell) for cell in cells)])
    parts = [] if contents["answers"] else ["No language model was asked: which frames are kept, and nothing else."]
    parts.append(_align(lines))
    if contents["comparisons"]:
        heads = ["", "a", "b", "a - b", "95 % interval", "p", "p by Holm", "p McNemar", "80 % power from"]
        rows = [
            [one["metric"], one["a"], one["b"], f"{one['difference']:+.3f}", format_interval(one["interval"])]
            + ["-" if p is None else f"{p:.3g}" for p in (one["p"], one["p_holm"], one["mcnemar"], one["smallest"])]
            for one in contents["comparisons"]
        ]
        parts.append(_align([heads, *rows]))
    curves = [
        f"area under {curve['metric']} over K of {curve['arm']}: {_format_cell(curve['area'])}"
        for curve in contents["curves"]
        if curve["area"] is not None
    ]
    parts += ["\n".join(curves)] if curves else []
    missing: dict[str, list[str]] = {}
    for entry in entries:
        for name, cell in entry["metrics"].items():
            if cell["value"] is None:
                missing.setdefault(cell["missing"], []).append(name)
    notes = [f"* {', '.join(dict.fromkeys(names))}: {why}" for why, names in missing.items()]
    notes += [f"* {name}: {why}" for name, why in contents["missing"].items()]
    return "\n\n".join([*parts, *(["missing:\n" + "\n".join(notes)] if notes else [])])


def _format_cell(cell: dict[str, Any]) -> str:
    return f"{format_number(cell['value'])} {format_interval(cell.get('interval'))}".strip()


def _align(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
