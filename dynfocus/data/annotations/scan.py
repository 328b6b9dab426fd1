"""Scan the elements of an annotation file one after the other, with their places in it, without loading the file."""

import csv
import io
import json
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal

from dynfocus.data.annotations.json_stream import BOM, LIMIT, Window
from dynfocus.errors import DataError
from dynfocus.records.first_bytes import HEAD, name_kind

MAX_RECORD_LINES = 64  # a record of more is a quote that is never closed
Layout = Literal["list", "object", "lines", "table"]
# The byte at which an element begins, its length in bytes, and its value, or a ValueError where it cannot be read.
Element = tuple[int, int, Any]


def scan(layout: Layout, path: Path) -> Generator[Element, None, None]:
    """Yield every element of a file: of a JSON list or object, of lines of JSON, or the records of a CSV table.

    An element of an object is ``{key: value}``, a table's is ``{column: cell}``; a line or record that cannot be read
    is a ValueError in place of what it holds.

    Raises:
        DataError: if the file as a whole cannot be read; it names the byte.
    """
    with _open(path) as file:
        if layout == "table":
            yield from _scan_table(path, file)
        elif layout == "lines":
            yield from _scan_lines(path, file)
        else:
            yield from _scan_json(Window(path, file), layout)


def detect_layout(layout: Layout, path: Path) -> Layout:
    """Tell a list from lines of objects, whichever of the two a format says, and lines from a table: all hold rows.

    Raises:
        DataError: if the file cannot be read.
    """
    with _open(path) as file:
        _refuse_other_kinds(path, file)
        if layout not in ("list", "lines"):
            return layout
        if file.read(1024).removeprefix(BOM).lstrip().startswith(b"["):
            return "list"
        file.seek(0)
        _skip_bom(file)
        line = next(filter(bytes.strip, iter(lambda: file.readline(LIMIT), b"")), b"")
    if layout == "lines" and line.strip() == b"{":
        problem = f"{path}, whose JSON goes over several lines"
        raise DataError(problem, "one row a line, or a JSON list", "`jq -c . FILE` writes each row on one line.")
    if layout == "lines" and line and not line.lstrip().startswith(b"{"):
        return "table"
    with suppress(ValueError, RecursionError):
        return "lines" if isinstance(json.loads(line), dict) else layout
    return layout


def decode(layout: Layout, data: bytes, columns: Sequence[str]) -> Any:
    """Decode an element from its bytes; raises ValueError."""
    text = data.decode("utf-8", "surrogateescape")
    if layout == "table":
        try:
            return _pair_cells(next(_csv_reader(io.StringIO(text, newline="")), []), columns)
        except csv.Error as error:
            raise ValueError(str(error)) from error
    return json.loads(f"{{{text}}}" if layout == "object" else text)


def read_header(path: Path) -> list[str]:
    """Read the column names of a CSV file; empty if it has none; raises DataError if it cannot be read."""
    with _open(path) as file:
        return _read_header(path, file)[0]


def unreadable_error(path: Path, error: OSError) -> DataError:
    """Make the error of an annotation file that is gone, or that the system refuses to read."""
    return DataError(
        f"{path}, which cannot be read ({error.strerror})",
        "annotations that are there, and stay there while a run lasts",
        "Put the file back, or see why it cannot be read, and start the run again.",
    )


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise unreadable_error(path, error) from error


def _refuse_other_kinds(path: Path, file: BinaryIO) -> None:
    kind = name_kind(file.read(HEAD))
    file.seek(0)
    if kind is not None:
        raise DataError(
            f"{path}, which is {kind}", "rows as JSON or CSV, in UTF-8", "Get the file itself, or convert it."
        )


def _scan_json(window: Window, layout: Layout) -> Iterator[Element]:
    opening, closing, kind = ("[", "]", "list") if layout == "list" else ("{", "}", "object")
    if (first := window.peek()) != opening:
        problem = f"begins with {first!r} at byte {window.offset}" if first else "is empty"
        hint = " Rows of JSON are a list, or each on a line of its own." if layout == "list" and first == "{" else ""
        raise DataError(f"{window.path}, which {problem}", f"a JSON {kind}", f"Check the file and its format.{hint}")
    window.skip()
    more = window.peek() != closing
    while more:
        window.peek()
        start = window.offset
        key = window.read_value() if layout == "object" else None
        if layout == "object":
            if not isinstance(key, str) or window.peek() != ":":
                raise window.error_at("no key with a colon", start)
            window.skip()
            window.peek()
        value = window.read_value()
        yield start, window.offset - start, value if layout == "list" else {key: value}
        after = window.peek()
        if after not in (",", closing):
            raise window.error_at(f"neither a comma nor {closing!r}", window.offset)
        if more := after == ",":
            window.skip()
    window.skip()
    if window.peek():
        raise window.error_at(f"more after the last {closing!r}", window.offset)


def _scan_lines(path: Path, file: BinaryIO) -> Iterator[Element]:
    offset = _skip_bom(file)
    while line := _read_line(path, file):
        if content := line.rstrip():
            try:
                value: Any = decode("lines", content, ())
            except (ValueError, RecursionError) as error:
                value = ValueError(str(error))
            yield offset, len(content), value
        offset += len(line)


def _read_line(path: Path, file: BinaryIO) -> bytes:
    line = file.readline(LIMIT)
    if len(line) == LIMIT:
        problem = f"{path}, a line of more than {LIMIT} bytes at byte {file.tell() - LIMIT}"
        raise DataError(problem, "one row a line", "Mend it.")
    return line


def _scan_table(path: Path, file: BinaryIO) -> Iterator[Element]:
    columns, offset = _read_header(path, file)
    record: list[bytes] = []  # the lines of the record that is being read
    pending: deque[bytes] = deque()

    def lines() -> Iterator[str]:
        while line := pending.popleft() if pending else _read_line(path, file):
            record.append(line)
            if len(record) > MAX_RECORD_LINES:
                raise ValueError(f"a record of more than {MAX_RECORD_LINES} lines")
            yield line.decode("utf-8", "surrogateescape")

    reader = _csv_reader(lines())
    while True:
        value: Any
        try:
            if (cells := next(reader, None)) is None:
                return
            value = _pair_cells(cells, columns) if cells else None
        except (ValueError, csv.Error) as error:
            value = ValueError(str(error))
            # An open quote made one record of these lines; all but the first are scanned again as rows of their own.
            pending.extendleft(reversed(record[1:]))
            del record[1:]
            reader = _csv_reader(lines())
        length = sum(map(len, record))
        if value is not None:
            yield offset, length, value
        offset += length
        record.clear()


def _read_header(path: Path, file: BinaryIO) -> tuple[list[str], int]:
    start = _skip_bom(file)
    line = _read_line(path, file)
    try:
        names: list[str] = next(_csv_reader([line.decode("utf-8", "surrogateescape")]), [])
    except csv.Error as error:
        problem = f"{path}, whose first line names no columns ({error})"
        raise DataError(problem, "a CSV table", "Check the file and its format.") from error
    return [name.strip() for name in names], start + len(line)


def _csv_reader(lines: Any) -> Any:
    # Strict, or a quote that is never closed would take in the rows after it without an error.
    return csv.reader(lines, strict=True)


def _pair_cells(cells: Sequence[str], columns: Sequence[str]) -> dict[str, str]:
    if len(cells) != len(columns):
        raise ValueError(f"{len(cells)} cells under {len(columns)} columns")
    return dict(zip(columns, cells, strict=True))


def _skip_bom(file: BinaryIO) -> int:
    if file.read(len(BOM)) == BOM:
        return len(BOM)
    file.seek(0)
    return 0
