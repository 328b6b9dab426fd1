"""Unpack files that hold rows in another file: gzip, parquet, Arrow, and WebDataset tars with their videos and images.

Each is unpacked once, into the folder of indices: rows as JSON lines (or as a table), media as files beside them.
"""

import csv
import gzip
import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from dynfocus.data.annotations.media_fields import IMAGE_FILE, MEDIA_KEYS, OTHER_FILE
from dynfocus.data.annotations.scan import Layout
from dynfocus.errors import ConfigError, DataError

UNPACKED = "unpacked:"  # begins the name of a medium that was unpacked
ROWS = "rows"
Rows = Iterator[dict[str, Any]]
Save = Callable[[str, Any], str]  # writes a medium, from a stream of bytes, under a name; returns the name for its row


def unpack(path: Path, folder: Path, layout: Layout) -> Path:
    """Return the file that holds the rows of ``path``: itself, or what it is unpacked to under ``folder``.

    Raises:
        DataError: if it is damaged.
        ConfigError: if it is parquet or Arrow, and pyarrow is not installed.
    """
    if _kind(path) is None:
        return path
    status = path.stat()
    key = json.dumps([os.path.realpath(path), status.st_size, status.st_mtime_ns, layout])
    place = folder / "unpacked" / f"{path.stem}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if not (place / ROWS).exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=place.parent, prefix="part-"))
        try:
            _write(path, part, place.name, layout)
            if not (place / ROWS).exists():
                os.replace(part, place)
        except (OSError, EOFError, ValueError, tarfile.TarError) as error:
            if (place / ROWS).exists():  # another process was faster
                return place / ROWS
            raise DataError(
                f"{path}, which cannot be unpacked ({error})",
                f"a whole {path.suffix.removeprefix('.')} file, and room for it in {place.parent}",
                "Get it again, or make room.",
            ) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return place / ROWS


def _kind(path: Path) -> str | None:
    """Return the ending that says how a file is packed; None where it is not."""
    return next((kind for kind in (*READERS, ".gz") if path.name.endswith(kind)), None)


def find_unpacked(name: str, folder: Path) -> Path | None:
    """Return the file of an unpacked medium of this name; None if it is not the name of one."""
    return folder / "unpacked" / name.removeprefix(UNPACKED) if name.startswith(UNPACKED) else None


def _write(path: Path, part: Path, name: str, layout: Layout) -> None:
    reader = READERS.get(_kind(path) or "")
    if reader is None:
        with gzip.open(path) as packed, (part / ROWS).open("wb") as whole:
            return shutil.copyfileobj(packed, whole)

    def save(medium: str, stream: Any) -> str:
        with (part / medium).open("wb") as file:
            shutil.copyfileobj(stream, file)
        return f"{UNPACKED}{name}/{medium}"

    rows = reader(path, save)
    with (part / ROWS).open("w", encoding="utf-8", newline="") as file:
        if layout == "table":
            table = csv.writer(file, lineterminator="\n")
            for number, row in enumerate(rows):
                table.writerows([list(row)] * (number == 0) + [["" if cell is None else cell for cell in row.values()]])
        else:
            file.writelines(json.dumps(row, default=str) + "\n" for row in rows)


def _read_arrow(path: Path, save: Save) -> Rows:
    """Yield the rows of a parquet file, or of an Arrow stream as `datasets` writes it; media in it are saved."""
    try:
        import pyarrow as pa
        from pyarrow import ipc, parquet
    except ImportError as error:
        raise ConfigError(f"{path} without pyarrow", "pyarrow", "pip install 'dynfocus[eval]'.") from error
    if path.suffix == ".parquet":
        batches = parquet.ParquetFile(path).iter_batches(1000)
    else:
        batches = iter(ipc.open_stream(pa.memory_map(str(path))))
    number = 0
    for batch in batches:
        for row in batch.to_pylist():
            yield {key: _save_media(value, f"{number}_{key}", key, save) for key, value in row.items()}
            number += 1


def _save_media(value: Any, name: str, key: str, save: Save) -> Any:
    if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
        suffix = PurePosixPath(value.get("path") or "").suffix or (".mp4" if "video" in key else ".png")
        return save(f"{name}{suffix}".replace("/", "_"), BytesIO(value["bytes"]))
    if isinstance(value, bytes):
        return save(f"{name}{'.mp4' if 'video' in key else '.png'}".replace("/", "_"), BytesIO(value))
    if isinstance(value, list):
        return [_save_media(one, f"{name}_{n}", key, save) for n, one in enumerate(value)]
    return value


def _read_tar(path: Path, save: Save) -> Rows:
    """Yield a row for each sample of a WebDataset tar: members of one name up to its first dot, one after the other.

    A ``.json`` is the row, a ``.txt`` its caption; the video or images are saved, and named in the row.
    """
    with tarfile.open(path) as tar:
        files = ((member, member.name.rpartition("/")) for member in tar if member.isfile())
        for (_, stem), group in groupby(files, lambda pair: (pair[1][0], pair[1][2].partition(".")[0])):
            row, shown = {"id": stem}, dict[str, list[str]]()
            for member, (*_, base) in group:
                stream = tar.extractfile(member)
                assert stream is not None
                if base.endswith(".json"):
                    row |= json.load(stream)
                elif base.endswith(".txt"):
                    row["caption"] = stream.read().decode()
                elif IMAGE_FILE.fullmatch(base) or OTHER_FILE.fullmatch(base):
                    kind = "images" if IMAGE_FILE.fullmatch(base) else "videos"
                    shown.setdefault(kind, []).append(save(f"{member.offset}_{base}", stream))
            yield {key: one for key, one in row.items() if not shown or key not in MEDIA_KEYS} | shown


READERS = {".parquet": _read_arrow, ".arrow": _read_arrow, ".tar": _read_tar, ".tar.gz": _read_tar}
