"""Conversations read all at once and without an index: what the lazy way is held against."""

from contextlib import closing
from pathlib import Path
from typing import Any

from dynfocus.data.annotations.llava import NEEDS, parse_conversation
from dynfocus.data.annotations.parse import ParseContext, make_row, name_row_errors
from dynfocus.data.annotations.scan import scan
from dynfocus.data.annotations.sources import Source
from dynfocus.records.rows import Row


def read_row(value: Any, index: int, path: Path) -> Row:
    """The row of one element of the file ``path``, whatever the JSON holds there; raises DataError."""
    source = Source(path.name, path.name)
    return name_row_errors(
        lambda: make_row(parse_conversation(value, ParseContext(source)), index, source, 0), index, str(path), NEEDS
    )


def read_conversations(path: Path) -> list[Row]:
    """All rows of a file at once; raises DataError if it is absent or no such list, or a row does not fit."""
    (file,) = Source(Path(path).name, Path(path).name).files(Path(path).parent)
    with closing(scan("list", file)) as elements:
        return [read_row(value, index, file) for index, (_, _, value) in enumerate(elements)]
