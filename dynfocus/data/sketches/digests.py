"""Compute digests of files' content once, and remember them with the files' sizes and times."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from dynfocus.records.atomic import atomic_write, is_settled
from dynfocus.video.time_limit import seconds_left

Stamp = tuple[str, int, int, int]


def file_stamp(file: Path) -> Stamp:
    """Return the file's resolved path, size and times of change: while they stay, so does its content."""
    file = Path(file).resolve()
    status = os.stat(file)
    return str(file), status.st_size, status.st_mtime_ns, status.st_ctime_ns


def hash_file(file: Path) -> str:
    """Compute the sha256 of a file's content."""
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while block := stream.read(1 << 20):
            seconds_left()
            digest.update(block)
    return digest.hexdigest()


def hash_files(files: Sequence[Path]) -> str:
    """Compute one sha256 of several files' content in their order; of one file its own."""
    digests = [hash_file(file) for file in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()


def tensor_bytes(tensor: Tensor) -> memoryview:
    """Return the tensor's bytes, in any precision."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data


class Digests:
    """Digests remembered in a folder, in one small file for each group of files.

    Args:
        folder: where they are remembered.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.cache: dict[Path, dict] = {}

    def get(self, files: Sequence[Path], compute: Callable[[], str], what: str = "sha256") -> str:
        """Return the digest of the files: from memory while they are unchanged, else what ``compute`` returns.

        Raises:
            OSError: if a file is absent.
            DiskError: if the digest cannot be remembered.
        """
        stamps = _file_stamps(files)
        name = hashlib.sha256(json.dumps([what, *(path for path, *_ in stamps)]).encode()).hexdigest()
        place = self.folder / name[:2] / f"{name}.json"
        record = self.cache.get(place) or _read(place)
        if record is not None and record["files"] == stamps:
            self.cache[place] = record
            return record["digest"]
        digest = compute()
        while (now := _file_stamps(files)) != stamps:
            stamps, digest = now, compute()
        if all(is_settled(changed) for *_, changed in stamps):
            self.cache[place] = {"files": stamps, "digest": digest}
            with atomic_write(place) as part:
                part.write_text(json.dumps(self.cache[place]))
        return digest


def _file_stamps(files: Sequence[Path]) -> list[Stamp]:
    return [file_stamp(file) for file in files]


def _read(place: Path) -> dict | None:
    try:
        record = json.loads(place.read_text())
        return {"files": [tuple(file) for file in record["files"]], "digest": str(record["digest"])}
    except (OSError, ValueError, TypeError, KeyError):
        return None
