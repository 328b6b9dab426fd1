"""Write one sketch as one file, whole or not at all, and check it when it is read."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save, save_file
from torch import Tensor

from dynfocus.data.sketches.digests import tensor_bytes
from dynfocus.records.atomic import atomic_write

Layout = dict[str, tuple[str, list[int]]]  # of each tensor its precision, as safetensors names it, and its shape
Check = Callable[[Layout], None]  # raises DamagedEntryError for the tensors of something else


class DamagedEntryError(Exception):
    """Raised for an entry that is there, but not as it was written."""


def accept_any(layout: Layout) -> None:
    """Accept an entry whatever its tensors are."""


def write_entry(path: Path, tensors: dict[str, Tensor], key: str) -> None:
    """Write tensors under a key, with their checksum; raises DiskError, and leaves nothing half-written."""
    tensors, metadata = _add_checksum(tensors, key)
    with atomic_write(path) as part:
        save_file(tensors, part, metadata)


def pack_entry(tensors: dict[str, Tensor], key: str) -> bytes:
    """Return the bytes that `write_entry` writes."""
    return save(*_add_checksum(tensors, key))


def unpack_entry(content: bytes, check: Check = accept_any) -> tuple[dict[str, Tensor], str]:
    """Return the tensors of an entry and its key.

    Raises:
        DamagedEntryError: if a bit of it is not as it was written, or ``check`` refuses its tensors.
    """
    try:
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (SafetensorError, ValueError) as error:
        raise DamagedEntryError(str(error)) from error
    key, stored_sum = _read_claims(header.pop("__metadata__", None))
    if stored_sum != checksum(tensors):
        raise DamagedEntryError("its checksum does not fit")
    check({name: (one["dtype"], one["shape"]) for name, one in header.items()})
    return tensors, key


def has_entry(path: Path, key: str, check: Check = accept_any) -> bool:
    """Return whether there is an entry, judged by its header and size alone: its tensors are not read.

    Raises:
        DamagedEntryError: if it is cut off, not of this key, or ``check`` refuses its tensors.
    """
    return read_entry_layout(path, key, check) is not None


def read_entry_layout(path: Path, key: str, check: Check = accept_any) -> Layout | None:
    """Read the precisions and shapes of an entry's tensors from its header alone; None where there is no entry.

    Raises:
        DamagedEntryError: as `has_entry` does.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            _check_key(_read_claims(file.metadata())[0], key)
            parts: dict[str, Any] = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no dict)
            layout = {name: (part.get_dtype(), part.get_shape()) for name, part in parts.items()}
    except (SafetensorError, OSError) as error:
        raise DamagedEntryError(str(error)) from error
    check(layout)
    return layout


def read_entry(path: Path, key: str, check: Check = accept_any) -> dict[str, Tensor] | None:
    """Read the tensors of an entry; None where there is none.

    Raises:
        DamagedEntryError: if a bit of it is not as it was written, or ``check`` refuses its tensors.
    """
    entry = _read_and_check(path, key, check)
    return None if entry is None else entry[1]


def read_entry_bytes(path: Path, key: str, check: Check = accept_any) -> bytes | None:
    """Read the bytes of an entry; None where there is none.

    Raises:
        DamagedEntryError: as `read_entry` does.
    """
    entry = _read_and_check(path, key, check)
    return None if entry is None else entry[0]


def _read_and_check(path: Path, key: str, check: Check) -> tuple[bytes, dict[str, Tensor]] | None:
    if not path.exists():
        return None
    try:
        content = path.read_bytes()  # not mapped into memory, where a later change of the file would show
    except OSError as error:
        raise DamagedEntryError(str(error)) from error
    tensors, stored_key = unpack_entry(content, check)
    _check_key(stored_key, key)
    return content, tensors


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
