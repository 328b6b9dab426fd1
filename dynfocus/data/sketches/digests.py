"""What files hold, as a digest that is computed once and remembered with the files' sizes and times."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from dynfocus.records.atomic import atomic_write, settled

Stamp = tuple[str, int, int, int]


def stamp(file: Path) -> Stamp:
    """The file's resolved path, size and times of change: while they stay, so does what it holds."""
    file = Path(file).resolve()
    found = os.stat(file)
    return str(file), found.st_size, found.st_mtime_ns, found.st_ctime_ns


def hash_file(file: Path) -> str:
    """The sha256 of what the file holds."""
    digest = hashlib.sha256()
    with open(file, "rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def raw(tensor: Tensor) -> memoryview:
    """The tensor's bytes, in any precision."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data


class Digests:
    """Digests remembered in a folder, in one small file for each group of files.

    Args:
        folder: where they are remembered.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.known: dict[Path, dict] = {}

    def of(self, files: Sequence[Path], compute: Callable[[], str], what: str = "sha256") -> str:
        """What ``compute`` says of the files, or said of them as they are now.

        Raises:
            OSError: if a file is absent.
            DiskError: if the digest cannot be remembered.
        """
        found = _stamps(files)
        name = hashlib.sha256(json.dumps([what, *(path for path, *_ in found)]).encode()).hexdigest()
        place = self.folder / name[:2] / f"{name}.json"
        known = self.known.get(place) or _read(place)
        if known is not None and known["files"] == found:
            self.known[place] = known
            return known["digest"]
        digest = compute()
        while (now := _stamps(files)) != found:
            found, digest = now, compute()
        if all(settled(changed) for *_, changed in found):
            self.known[place] = {"files": found, "digest": digest}
            with atomic_write(place) as part:
                part.write_text(json.dumps(self.known[place]))
        return digest


def _stamps(files: Sequence[Path]) -> list[Stamp]:
    return [stamp(file) for file in files]


def _read(place: Path) -> dict | None:
    try:
        known = json.loads(place.read_text())
        return {"files": [tuple(file) for file in known["files"]], "digest": str(known["digest"])}
    except (OSError, ValueError, TypeError, KeyError):
        return None
