"""One sketch as one file: written whole, checked when read."""

import hashlib
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save, save_file
from torch import Tensor

from dynfocus.data.sketches.digests import raw
from dynfocus.records.atomic import atomic_write


class Damaged(Exception):
    """An entry that is there, but not as it was written."""


def write_entry(path: Path, tensors: dict[str, Tensor], key: str) -> None:
    """Write tensors under a key, with their checksum; raises DiskError, and leaves nothing half-written."""
    tensors, said = _signed(tensors, key)
    with atomic_write(path) as part:
        save_file(tensors, part, said)


def packed(tensors: dict[str, Tensor], key: str) -> bytes:
    """What `write_entry` writes."""
    return save(*_signed(tensors, key))


def unpacked(content: bytes) -> tuple[dict[str, Tensor], str]:
    """The tensors of an entry and its key.

    Raises:
        Damaged: if a bit of it is not as it was written.
    """
    try:
        tensors = load(content)
        said = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__")
    except (SafetensorError, ValueError) as error:
        raise Damaged(str(error)) from error
    key, claimed = _claims(said)
    if claimed != checksum(tensors):
        raise Damaged("its checksum does not fit")
    return tensors, key


def glance(path: Path, key: str) -> bool:
    """Whether there is an entry, judged by its header and size alone: what it holds is not read.

    Raises:
        Damaged: if it is cut off, or not of this key.
    """
    return _header(path, key) is not None


def entry_shape(path: Path, key: str, name: str) -> list[int] | None:
    """The shape of one of an entry's tensors, from its header alone; None where there is no entry.

    Raises:
        Damaged: if it is cut off, or not of this key.
    """
    shapes = _header(path, key)
    return None if shapes is None else shapes[name]


def read_entry(path: Path, key: str) -> dict[str, Tensor] | None:
    """The tensors of an entry, or None where there is none.

    Raises:
        Damaged: if a bit of it is not as it was written.
    """
    found = _checked(path, key)
    return None if found is None else found[1]


def read_packed(path: Path, key: str) -> bytes | None:
    """An entry as it lies on the disk, or None where there is none.

    Raises:
        Damaged: if a bit of it is not as it was written.
    """
    found = _checked(path, key)
    return None if found is None else found[0]


def _checked(path: Path, key: str) -> tuple[bytes, dict[str, Tensor]] | None:
    if not path.exists():
        return None
    try:
        content = path.read_bytes()  # no map of the file, in which later damage would show
    except OSError as error:
        raise Damaged(str(error)) from error
    tensors, claimed = unpacked(content)
    _fits(claimed, key)
    return content, tensors


def _header(path: Path, key: str) -> dict[str, list[int]] | None:
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as opened:
            _fits(_claims(opened.metadata())[0], key)
            return {name: opened.get_slice(name).get_shape() for name in opened.keys()}  # noqa: SIM118 (no dict)
    except (SafetensorError, OSError) as error:
        raise Damaged(str(error)) from error


def _signed(tensors: dict[str, Tensor], key: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    return tensors, {"entry": json.dumps([key, checksum(tensors)])}


def _claims(said: dict[str, str] | None) -> tuple[str, str]:
    """The key and the checksum that an entry claims."""
    try:
        key, given = json.loads((said or {})["entry"])
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged("it does not say what it is") from error
    return str(key), str(given)


def _fits(claimed: str, key: str) -> None:
    if claimed != key:
        raise Damaged("it is the entry of something else")


def checksum(tensors: dict[str, Tensor]) -> str:
    """The sha256 of names, precisions, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(json.dumps([name, str(tensors[name].dtype), list(tensors[name].shape)]).encode())
        digest.update(raw(tensors[name]))
    return digest.hexdigest()
