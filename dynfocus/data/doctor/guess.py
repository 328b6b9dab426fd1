"""Guess the format of an annotation file of unknown origin, and show rows of it as the model will read them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from dynfocus.data.annotations.dataset import Annotations
from dynfocus.data.annotations.formats import FORMATS
from dynfocus.data.annotations.parse import PARSE_ERRORS, ParseContext
from dynfocus.data.annotations.scan import detect_layout, read_header, scan
from dynfocus.data.annotations.sources import FormatName, Source
from dynfocus.data.annotations.unpack import unpack
from dynfocus.errors import DataError, DynFocusError
from dynfocus.models.prompts import TEMPLATES, Template
from dynfocus.records.rows import Row
from dynfocus.settings import FrameRule
from dynfocus.video import read_media

SAMPLED = 50  # rows that each format is tried on
SHOWN = 3
LAYOUTS = {"list": "a JSON list", "lines": "JSON lines", "object": "a JSON object", "table": "a CSV table"}


@dataclass(frozen=True)
class Guess:
    """The format that fits most of a file's first rows.

    Attributes:
        format: its name.
        layout: how the file holds its rows, in words.
        keys: those of the first row.
        fits: of each format that fits any, how many of the first rows.
        rows: how many rows were tried.
    """

    format: FormatName
    layout: str
    keys: list[str]
    fits: dict[FormatName, int]
    rows: int


def describe_file(file: Path, media: Path | None, index: Path) -> Iterator[str]:
    """Yield what is to be said of a file: its format and why, what to set, rows that fit, and rows that do not.

    Args:
        file: the annotation file.
        media: folder of its videos and images; by default the file's own.
        index: folder for indices, where packed files are unpacked.

    Raises:
        DataError: if it cannot be read, or fits no format.
    """
    where = str((media or file.parent).absolute())
    source = Source(file.name.partition(".")[0] or "rows", file.name, folder=str(file.parent.absolute()), media=where)
    guess = guess_format(source, index)
    source = Source(source.name, source.file, guess.format, source.folder, source.media)
    others = ", ".join(f"{name} {count}" for name, count in guess.fits.items() if name != guess.format)
    yield f"{file}: format: {guess.format}, in {guess.layout}"
    yield f"why: it fits {guess.fits[guess.format]} of the first {guess.rows} rows, others: {others or 'none'}"
    yield f"     the first row has the keys {', '.join(map(repr, guess.keys))}"
    place = f"folder: {source.folder}, file: {source.file}, format: {source.format}, media: {where}"
    yield f"setting: sources: [{{name: {source.name}, {place}}}]"
    rows = Annotations(source, Path(), index)
    good = np.flatnonzero(rows.turns)
    yield f"{len(good)} of {len(rows)} rows fit; the first of them, what is learned between ⟦ and ⟧:"
    for number in good[:SHOWN].tolist():
        yield from _describe_row(rows, number)
    bad = np.flatnonzero(rows.turns == 0)[:SHOWN].tolist()
    if bad:
        yield "\nrows that do not fit:"
    for number in bad:
        try:
            _ = rows[number]
        except DynFocusError as error:
            yield error.given


def guess_format(source: Source, index: Path) -> Guess:
    """Guess the format of a source's file from its first rows, whatever format it names; raises DataError."""
    fits: dict[FormatName, int] = {}
    unfit = ""
    keys: dict[FormatName, list[str]] = {}
    layouts: dict[FormatName, tuple[str, int]] = {}
    for name, form in FORMATS.items():
        if name == "jsonl":  # conversations, by another name
            continue
        files = source.files(Path())
        file = unpack(files[0], index, form.layout)
        try:
            layout = detect_layout(form.layout, file)
            if layout == "table" and not {*form.columns} <= {*read_header(file)}:
                continue
            values = [value for *_, value in islice(scan(layout, file), SAMPLED)]
        except DataError:
            continue
        companion = None if form.companion_name is None else files[0].parent / form.companion_name
        keys[name] = next((list(value) for value in values if isinstance(value, dict)), [])
        layouts[name] = LAYOUTS[layout], len(values)
        causes = [_find_cause(name, source, companion, value) for value in values]
        if count := causes.count(None):
            fits[name] = count
        elif causes and causes[0]:
            unfit += f"; as {name}: {causes[0]}"
    if not fits:
        seen = next((f"whose first row has the keys {', '.join(one)}" for one in keys.values() if one), "without a row")
        needs = "; ".join(f"{name}: {form.needs}" for name, form in FORMATS.items() if name != "jsonl")
        raise DataError(
            f"{source.file}, {seen}{unfit}", f"rows that a format fits ({needs})", "Rename keys, or write it anew."
        )
    best = max(fits, key=lambda name: fits[name])
    return Guess(best, layouts[best][0], keys[best], fits, layouts[best][1])


def _find_cause(name: FormatName, source: Source, companion: Path | None, value: Any) -> str | None:
    """Find why a row does not fit a format; None where it does, and empty where only a key is missing."""
    form = FORMATS[name]
    try:
        if isinstance(value, ValueError):
            raise value
        content = form.read_companion(source, companion) if form.read_companion and companion else None
        return None if form.parse(value, ParseContext(source, content)) is not None else ""
    except KeyError:
        return ""
    except (*PARSE_ERRORS, DataError) as error:
        return str(error)


def _describe_row(rows: Annotations, number: int) -> Iterator[str]:
    try:
        row = rows[number]
        yield f"\nrow {number}, id {row.id!r}, {_describe_medium(rows, row)}"
    except DynFocusError as error:
        yield f"\nrow {number}: {error.given}"
        return
    template = TEMPLATES["vicuna_v1"]
    assert isinstance(template, Template)
    text = f"{row.system} " if row.system else template.opening
    slot = "" if row.media is None else "<image>\n" if rows.kinds[number] == 1 else "<video>\n"
    for turn in row.turns:
        text += f"{template.user}{slot}{turn.question}{template.assistant} ⟦{turn.answer}⟧"
    yield text


def _describe_medium(rows: Annotations, row: Row) -> str:
    if row.media is None:
        return "text alone"
    span = "" if row.span is None else f" from {row.span[0]:g} s to {row.span[1]:g} s"
    try:
        medium = rows.find(row)
        assert medium is not None
        count = len(read_media(medium, FrameRule()).frames)
    except DynFocusError as error:
        return f"{row.media}{span}: {error.given}"
    return f"{row.media}{span}: {count} frame{'s' * (count > 1)} at one a second"
