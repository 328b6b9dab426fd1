"""Read and write dataclass records as JSON lines."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from os import SEEK_END
from pathlib import Path
from typing import TypeVar

from dynfocus.errors import DataError
from dynfocus.records.atomic import write_text

Record = TypeVar("Record")
LONGEST_LINE = 2**20  # bytes at the end of a file in which the beginning of its last line lies


def write_jsonl(path: Path, records: Iterable) -> None:
    """Write dataclass records to ``path``, one JSON object a line, whole or not at all."""
    write_text(path, "".join(json.dumps(asdict(record)) + "\n" for record in records))


def append_jsonl(path: Path, records: Iterable) -> None:
    """Append dataclass records to a file, one JSON object a line; what a killed process has left half is cut off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        file.seek(max(0, file.seek(0, SEEK_END) - LONGEST_LINE))
        rest = file.read()
        file.truncate(file.tell() - len(rest) + rest.rfind(b"\n") + 1)
        file.write("".join(json.dumps(asdict(record)) + "\n" for record in records).encode())


def read_appended(path: Path, kind: type[Record]) -> Iterator[Record]:
    """Read what `append_jsonl` wrote, without a last line that is not whole; raises DataError as `read_jsonl`."""
    text = _read_text(path)
    return _read_lines(path, text[: text.rfind("\n") + 1], kind)


def read_jsonl(path: Path, kind: type[Record]) -> Iterator[Record]:
    """Read ``path`` as records of ``kind``; raises DataError if it is absent, or naming a line that does not fit."""
    if not Path(path).is_file():
        raise DataError(
            f"no file {path}", f"JSON lines of {kind.__name__}", "Correct the path, or make the file again."
        )
    yield from _read_lines(path, _read_text(path), kind)


def _read_text(path: Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, which is no text ({error.reason})", "JSON lines in UTF-8", "Name such a file."
        ) from error


def _read_lines(path: Path, text: str, kind: type[Record]) -> Iterator[Record]:
    for number, line in enumerate(text.splitlines(), 1):
        try:
            yield kind(**{name: _freeze(value) for name, value in json.loads(line).items()})
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(
                f"{path}, line {number}: {error}",
                f"one JSON object with the fields of {kind.__name__}",
                "Mend or delete that line.",
            ) from error


def _freeze(value: object) -> object:
    """Turn a list, and lists in it, into tuples."""
    return tuple(map(_freeze, value)) if isinstance(value, list) else value
