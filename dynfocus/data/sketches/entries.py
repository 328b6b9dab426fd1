"""Write one sketch as one file, whole or not at all, and check it when it is read."""

import hashlib
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save, save_file
from torch import Tensor

from dynfocus.data.sketches.digests import tensor_bytes
from dynfocus.records.atomic import atomic_write


class DamagedEntryError(Exception):
    """Raised for an entry that is there, but not as it was written."""


def write_entry(path: Path, tensors: dict[str, Tensor], key: str) -> None:
    """Write tensors under a key, with their checksum; raises DiskError, and leaves nothing half-written."""
    tensors, metadata = _add_checksum(tensors, key)
    with atomic_write(path) as part:
        save_file(tensors, part, metadata)


def pack_entry(tensors: dict[str, Tensor], key: str) -> bytes:
    """Return the bytes that `write_entry` writes."""
    return save(*_add_checksum(tensors, key))


def unpack_entry(content: bytes) -> tuple[dict[str, Tensor], str]:
    """Return the tensors of an entry and its key.

    Raises:
        DamagedEntryError: if a bit of it is not as it was written.
    """
    try:
        tensors = load(content)
        metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__")
    except (SafetensorError, ValueError) as error:
        raise DamagedEntryError(str(error)) from error
    key, stored_sum = _read_claims(metadata)
    if stored_sum != checksum(tensors):
        raise DamagedEntryError("its checksum does not fit")
    return tensors, key


def has_entry(path: Path, key: str) -> bool:
    """Return whether there is an entry, judged by its header and size alone: its tensors are not read.

    Raises:
        DamagedEntryError: if it is cut off, or not of this key.
    """
    return _read_header(path, key) is not None


def read_entry_shape(path: Path, key: str, name: str) -> list[int] | None:
    """Read the shape of one of an entry's tensors from its header alone; None where there is no entry.

    Raises:
        DamagedEntryError: if it is cut off, or not of this key.
    """
    shapes = _read_header(path, key)
    return None if shapes is None else shapes[name]


def read_entry(path: Path, key: str) -> dict[str, Tensor] | None:
    """Read the tensors of an entry; None where there is none.

    Raises:
        DamagedEntryError: if a bit of it is not as it was written.
    """
    entry = _read_and_check(path, key)
    return None if entry is None else entry[1]


def read_entry_bytes(path: Path, key: str) -> bytes | None:
    """Read the bytes of an entry; None where there is none.

    Raises:
        DamagedEntryError: if a bit of it is not as it was written.
    """
    entry = _read_and_check(path, key)
    return None if entry is None else entry[0]


def _read_and_check(path: Path, key: str) -> tuple[bytes, dict[str, Tensor]] | None:
    if not path.exists():
        return None
    try:
        content = path.read_bytes()  # not mapped into memory, where a later change of the file would show
    except OSError as error:
        raise DamagedEntryError(str(error)) from error
    tensors, stored_key = unpack_entry(content)
    _check_key(stored_key, key)
    return content, tensors


def _read_header(path: Path, key: str) -> dict[str, list[int]] | None:
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            _check_key(_read_claims(file.metadata())[0], key)
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 (no dict)
    except (SafetensorError, OSError) as error:
        raise DamagedEntryError(str(error)) from error


def _add_checksum(tensors: dict[str, Tensor], key: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    return tensors, {"entry": json.dumps([key, checksum(tensors)])}


def _read_claims(metadata: dict[str, str] | None) -> tuple[str, str]:
    """Return the key and the checksum that an entry's metadata hold."""
    try:
        key, stored_sum = json.loads((metadata or {})["entry"])
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedEntryError("it does not say what it is") from error
    return str(key), str(stored_sum)


def _check_key(stored_key: str, key: str) -> None:
    if stored_key != key:
        raise DamagedEntryError("it is the entry of something else")


def checksum(tensors: dict[str, Tensor]) -> str:
    """Compute the sha256 of names, precisions, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(json.dumps([name, str(tensors[name].dtype), list(tensors[name].shape)]).encode())
        digest.update(tensor_bytes(tensors[name]))
    return digest.hexdigest()
