"""Read and write dataclass records as JSON lines."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from dynfocus.errors import DataError
from dynfocus.records.atomic import write_text

Record = TypeVar("Record")


def write_jsonl(path: Path, records: Iterable) -> None:
    """Write dataclass records to ``path``, one JSON object a line, whole or not at all."""
    write_text(path, "".join(json.dumps(asdict(record)) + "\n" for record in records))


def read_jsonl(path: Path, kind: type[Record]) -> Iterator[Record]:
    """Read ``path`` as records of ``kind``; raises DataError naming the line that does not fit."""
    for number, line in enumerate(Path(path).read_text().splitlines(), 1):
        try:
            fields = {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(line).items()}
            yield kind(**fields)
        except (ValueError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path}, line {number}: {error}",
                f"one JSON object with the fields of {kind.__name__}",
                "Mend or delete that line.",
            ) from error
