"""Define the index of shards: where each sketch lies, in one part or in all parts of a share."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dynfocus.data.sketches.entries import DamagedEntryError, pack_entry, unpack_entry
from dynfocus.data.sketches.stores import Store
from dynfocus.errors import ConfigError

FORMAT = 1  # of shards; a reader of one number refuses the others
KEY = "index of sketches"
ABOUT = "sketches.json"  # how many shares there are and how they were made
Failure = tuple[str, str, str, str]  # the error's class and its three parts


def share_name(share: int, shares: int) -> str:
    """Return the name that the files of a share begin with.

    >>> share_name(1, 8)
    '00001-of-00008'
    """
    return f"{share:05}-of-{shares:05}"


def short_digest(content: bytes) -> bytes:
    """Compute the first half of the sha256."""
    return hashlib.sha256(content).digest()[:16]


def address_digest(address: str) -> bytes:
    """Compute the digest that stands for an address in an index; its share follows from it."""
    return short_digest(address.encode(errors="surrogateescape"))


def share_of(address: bytes, shares: int) -> int:
    """Return the share, of so many, that the digest of an address belongs to."""
    return int.from_bytes(address, "big") % shares


@dataclass(frozen=True)
class ShardIndex:
    """Where the entries of a part or of a whole share lie.

    Attributes:
        provenance: what the sketches were made with.
        share: which of how many.
        parts: name and size in bytes of each part.
        addresses: digests of addresses, ``[M, 16]``.
        contents: digests of entries, ``[M, 16]``.
        places: the number of the part, the first byte, the count of bytes and the frames T of each, ``[M, 4]``.
        failed: what could not be sketched, by address.
    """

    provenance: dict[str, Any]
    share: tuple[int, int]
    parts: tuple[tuple[str, int], ...]
    addresses: NDArray[np.uint8]
    contents: NDArray[np.uint8]
    places: NDArray[np.int64]
    failed: dict[str, Failure] = field(default_factory=dict)

    def pack(self) -> bytes:
        """Return the index as the bytes of a file."""
        header = {
            "index": FORMAT,
            "made": self.provenance,
            "share": self.share,
            "parts": self.parts,
            "failed": self.failed,
        }
        text = np.frombuffer(bytearray(json.dumps(header).encode()), np.uint8)  # as numbers, which the checksum covers
        arrays = {"addresses": self.addresses, "contents": self.contents, "places": self.places, "said": text}
        return pack_entry({name: torch.from_numpy(array) for name, array in arrays.items()}, KEY)


def unpack_index(content: bytes) -> ShardIndex:
    """Read the index in a file's bytes; raises DamagedEntryError if it is not as it was written."""
    tensors, key = unpack_entry(content)
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    try:
        header = json.loads(arrays.pop("said").tobytes() if key == KEY else "null")
        if header["index"] != FORMAT:
            raise DamagedEntryError(f"it is of format {header['index']}, where {FORMAT} is read")
        parts = tuple((str(name), int(size)) for name, size in header["parts"])
        failed = {address: tuple(failure) for address, failure in header["failed"].items()}
        return ShardIndex(header["made"], tuple(header["share"]), parts, **arrays, failed=failed)
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedEntryError("it is no index of sketches") from error


def make_part_index(
    provenance: dict[str, Any], share: tuple[int, int], part: tuple[str, int], rows: Sequence[Any]
) -> ShardIndex:
    """Index one part, from rows of (digest of the address, digest of the entry, first byte, bytes, frames)."""
    addresses, contents = ([row[n] for row in rows] for n in (0, 1))
    places = np.array([(0, *row[2:]) for row in rows], np.int64)
    return ShardIndex(provenance, share, (part,), _stack_digests(addresses), _stack_digests(contents), places)


def merge_indices(
    provenance: dict[str, Any],
    share: tuple[int, int],
    indices: Sequence[ShardIndex],
    failed: dict[str, Failure] | None = None,
) -> ShardIndex:
    """Merge several indices into one; parts are numbered anew."""
    places, count = [np.empty((0, 4), np.int64)], 0
    for index in indices:
        places.append(index.places + np.array([count, 0, 0, 0]))
        count += len(index.parts)
    none = np.empty((0, 16), np.uint8)
    return ShardIndex(
        provenance,
        share,
        tuple(part for index in indices for part in index.parts),
        np.concatenate([none, *(index.addresses for index in indices)]),
        np.concatenate([none, *(index.contents for index in indices)]),
        np.concatenate(places),
        {address: failure for index in indices for address, failure in index.failed.items()} | (failed or {}),
    )


def read_about(store: Store) -> dict[str, Any] | None:
    """Read how many shares a place has and how they were made; None where there are no shards.

    Raises:
        ConfigError: if they are of another format.
    """
    try:
        about = json.loads(store.read(ABOUT))
        format_, shares = about["format"], int(about["shares"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        format_, shares = error, 0
    if format_ != FORMAT or shares < 1:
        raise ConfigError(f"{store.url}/{ABOUT} of format {format_}", f"format {FORMAT}", "Write the shards again.")
    return about


def describe_differences(there: dict[str, Any], here: dict[str, Any]) -> str:
    """Describe in words where two sets of settings differ; empty where they agree."""
    one, other = _flatten(there), _flatten(here)
    names = [name for name in sorted(one | other) if one.get(name) != other.get(name)]
    return "; ".join(f"{name} is {one.get(name)} in place of {other.get(name)}" for name in names)


def _flatten(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flatten(value, f"{above}{name}.") if isinstance(value, dict) else {f"{above}{name}": value}
    return flat


def _stack_digests(digests: Sequence[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16).copy()
