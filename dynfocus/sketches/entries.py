"""One sketch as one file: written whole, checked when read."""

import hashlib
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save_file
from torch import Tensor

from dynfocus.disk import whole
from dynfocus.sketches.digests import raw


class Damaged(Exception):
    """An entry that is there, but not as it was written."""


def write_entry(path: Path, tensors: dict[str, Tensor], key: str) -> None:
    """Write tensors under a key, with their checksum; raises DiskError, and leaves nothing half-written."""
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with whole(path) as part:
        save_file(tensors, part, {"entry": json.dumps([key, checksum(tensors)])})


def glance(path: Path, key: str) -> bool:
    """Whether there is an entry, judged by its header and size alone: what it holds is not read.

    Raises:
        Damaged: if it is cut off, or not of this key.
    """
    if not path.exists():
        return False
    try:
        with safe_open(path, "pt") as opened:
            _claims(opened.metadata(), key)
    except (SafetensorError, OSError) as error:
        raise Damaged(str(error)) from error
    return True


def read_entry(path: Path, key: str) -> dict[str, Tensor] | None:
    """The tensors of an entry, or None where there is none.

    Raises:
        Damaged: if a bit of it is not as it was written.
    """
    if not path.exists():
        return None
    try:
        content = path.read_bytes()  # no map of the file, in which later damage would show
        tensors = load(content)
        said = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__")
    except (SafetensorError, OSError, ValueError) as error:
        raise Damaged(str(error)) from error
    if _claims(said, key) != checksum(tensors):
        raise Damaged("its checksum does not fit")
    return tensors


def _claims(said: dict[str, str] | None, key: str) -> str:
    """The checksum that an entry of this key claims."""
    try:
        claimed, given = json.loads((said or {})["entry"])
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged("it does not say what it is") from error
    if claimed != key:
        raise Damaged("it is the entry of something else")
    return str(given)


def checksum(tensors: dict[str, Tensor]) -> str:
    """The sha256 of names, precisions, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(json.dumps([name, str(tensors[name].dtype), list(tensors[name].shape)]).encode())
        digest.update(raw(tensors[name]))
    return digest.hexdigest()
