"""The elements of an annotation file, one after the other with their places in it, without loading the file."""

import csv
import io
import json
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

from dynfocus.data.annotations.json_stream import BOM, LIMIT, Window
from dynfocus.errors import DataError

SPAN = 64  # lines; a record of more is a quote that is never closed
Layout = Literal["list", "object", "lines", "table"]
# Where an element begins and how many bytes it takes; what it holds, or why that cannot be said.
Element = tuple[int, int, Any]


def scan(layout: Layout, path: Path) -> Generator[Element, None, None]:
    """Every element of a file: of a JSON list or object, of lines of JSON, or the records of a CSV table.

    An element of an object is ``{key: value}``, a table's is ``{column: cell}``; a line or record that cannot be read
    is a ValueError in place of what it holds.

    Raises:
        DataError: if the file as a whole cannot be read; it names the byte.
    """
    with _opened(path) as file:
        if layout == "table":
            yield from _records(path, file)
        elif layout == "lines":
            yield from _lines(path, file)
        else:
            yield from _json(Window(path, file), layout)


def decode(layout: Layout, data: bytes, columns: Sequence[str]) -> Any:
    """What an element holds, from its bytes; raises ValueError."""
    text = data.decode("utf-8", "surrogateescape")
    if layout == "table":
        try:
            return _cells(next(_reader(io.StringIO(text, newline="")), []), columns)
        except csv.Error as error:
            raise ValueError(str(error)) from error
    return json.loads(f"{{{text}}}" if layout == "object" else text)


def header(path: Path) -> list[str]:
    """The column names of a CSV file; empty if it has none; raises DataError if it cannot be read."""
    with _opened(path) as file:
        return _header(file)[0]


def unreadable(path: Path, error: OSError) -> DataError:
    """What to say of an annotation file that is gone, or that the system does not give."""
    return DataError(
        f"{path}, which cannot be read ({error.strerror})",
        "annotations that are there, and stay there while a run lasts",
        "Put the file back, or see why it cannot be read, and start the run again.",
    )


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise unreadable(path, error) from error


def _json(window: Window, layout: Layout) -> Iterator[Element]:
    opening, closing, kind = ("[", "]", "list") if layout == "list" else ("{", "}", "object")
    if (first := window.peek()) != opening:
        given = f"begins with {first!r} at byte {window.offset}" if first else "is empty"
        hint = " One row a line is format jsonl." if layout == "list" and first == "{" else ""
        raise DataError(f"{window.path}, which {given}", f"a JSON {kind}", f"Check the file and its format.{hint}")
    window.skip()
    more = window.peek() != closing
    while more:
        window.peek()
        start = window.offset
        key = window.take() if layout == "object" else None
        if layout == "object":
            if not isinstance(key, str) or window.peek() != ":":
                raise window.wrong("no key with a colon", start)
            window.skip()
            window.peek()
        value = window.take()
        yield start, window.offset - start, value if layout == "list" else {key: value}
        after = window.peek()
        if after not in (",", closing):
            raise window.wrong(f"neither a comma nor {closing!r}", window.offset)
        if more := after == ",":
            window.skip()
    window.skip()
    if window.peek():
        raise window.wrong(f"more after the last {closing!r}", window.offset)


def _lines(path: Path, file: BinaryIO) -> Iterator[Element]:
    offset = _after_bom(file)
    while line := _line(path, file):
        if held := line.rstrip():
            try:
                value: Any = decode("lines", held, ())
            except (ValueError, RecursionError) as error:
                value = ValueError(str(error))
            yield offset, len(held), value
        offset += len(line)


def _line(path: Path, file: BinaryIO) -> bytes:
    line = file.readline(LIMIT)
    if len(line) == LIMIT:
        given = f"{path}, a line of more than {LIMIT} bytes at byte {file.tell() - LIMIT}"
        raise DataError(given, "one row a line", "Mend it.")
    return line


def _records(path: Path, file: BinaryIO) -> Iterator[Element]:
    columns, offset = _header(file)
    taken: list[bytes] = []  # the lines of the record that is being read
    again: deque[bytes] = deque()

    def lines() -> Iterator[str]:
        while line := again.popleft() if again else _line(path, file):
            taken.append(line)
            if len(taken) > SPAN:
                raise ValueError(f"a record of more than {SPAN} lines")
            yield line.decode("utf-8", "surrogateescape")

    reader = _reader(lines())
    while True:
        value: Any
        try:
            if (cells := next(reader, None)) is None:
                return
            value = _cells(cells, columns) if cells else None
        except (ValueError, csv.Error) as error:
            value = ValueError(str(error))
            # What an open quote swallowed are rows all the same.
            again.extendleft(reversed(taken[1:]))
            del taken[1:]
            reader = _reader(lines())
        length = sum(map(len, taken))
        if value is not None:
            yield offset, length, value
        offset += length
        taken.clear()


def _header(file: BinaryIO) -> tuple[list[str], int]:
    start = _after_bom(file)
    line = file.readline(LIMIT)
    return [name.strip() for name in next(_reader([line.decode("utf-8", "surrogateescape")]), [])], start + len(line)


def _reader(lines: Any) -> Any:
    # Strict, or a quote that is never closed would quietly swallow the rows after it.
    return csv.reader(lines, strict=True)


def _cells(cells: Sequence[str], columns: Sequence[str]) -> dict[str, str]:
    if len(cells) != len(columns):
        raise ValueError(f"{len(cells)} cells under {len(columns)} columns")
    return dict(zip(columns, cells, strict=True))


def _after_bom(file: BinaryIO) -> int:
    if file.read(len(BOM)) == BOM:
        return len(BOM)
    file.seek(0)
    return 0
