"""What lies where in shards: the index of a part, and of all parts of a share."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dynfocus.data.sketches.entries import Damaged, packed, unpacked
from dynfocus.data.sketches.stores import Store
from dynfocus.errors import ConfigError

FORMAT = 1  # of shards; a reader of one number refuses the others
KEY = "index of sketches"
ABOUT = "sketches.json"  # how many shares there are and how they were made
Failure = tuple[str, str, str, str]  # the error's class and its three parts


def share_name(share: int, shares: int) -> str:
    """What the files of a share begin with.

    >>> share_name(1, 8)
    '00001-of-00008'
    """
    return f"{share:05}-of-{shares:05}"


def digest(content: bytes) -> bytes:
    """The first half of the sha256."""
    return hashlib.sha256(content).digest()[:16]


def address_digest(address: str) -> bytes:
    """What stands for an address in an index, and says which share it belongs to."""
    return digest(address.encode(errors="surrogateescape"))


def owner(address: bytes, shares: int) -> int:
    """Which of so many shares the digest of an address belongs to."""
    return int.from_bytes(address, "big") % shares


@dataclass(frozen=True)
class Index:
    """Where the entries of a part or of a whole share lie.

    Attributes:
        made: what the sketches were made with.
        share: which of how many.
        parts: name and size in bytes of each part.
        addresses: digests of addresses, ``[M, 16]``.
        contents: digests of entries, ``[M, 16]``.
        places: the number of the part, the first byte, the count of bytes and the frames T of each, ``[M, 4]``.
        failed: what could not be sketched, by address.
    """

    made: dict[str, Any]
    share: tuple[int, int]
    parts: tuple[tuple[str, int], ...]
    addresses: NDArray[np.uint8]
    contents: NDArray[np.uint8]
    places: NDArray[np.int64]
    failed: dict[str, Failure] = field(default_factory=dict)

    def packed(self) -> bytes:
        """As a file."""
        said = {"index": FORMAT, "made": self.made, "share": self.share, "parts": self.parts, "failed": self.failed}
        text = np.frombuffer(bytearray(json.dumps(said).encode()), np.uint8)  # as numbers, which the checksum covers
        arrays = {"addresses": self.addresses, "contents": self.contents, "places": self.places, "said": text}
        return packed({name: torch.from_numpy(array) for name, array in arrays.items()}, KEY)


def unpacked_index(content: bytes) -> Index:
    """The index in a file; raises Damaged if it is not as it was written."""
    tensors, key = unpacked(content)
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    try:
        said = json.loads(arrays.pop("said").tobytes() if key == KEY else "null")
        if said["index"] != FORMAT:
            raise Damaged(f"it is of format {said['index']}, where {FORMAT} is read")
        parts = tuple((str(name), int(size)) for name, size in said["parts"])
        failed = {address: tuple(failure) for address, failure in said["failed"].items()}
        return Index(said["made"], tuple(said["share"]), parts, **arrays, failed=failed)
    except (ValueError, TypeError, KeyError) as error:
        raise Damaged("it is no index of sketches") from error


def rows_index(made: dict[str, Any], share: tuple[int, int], part: tuple[str, int], rows: Sequence[Any]) -> Index:
    """The index of one part, of rows of (digest of the address, digest of the entry, first byte, bytes, frames)."""
    addresses, contents = ([row[n] for row in rows] for n in (0, 1))
    places = np.array([(0, *row[2:]) for row in rows], np.int64)
    return Index(made, share, (part,), _bytes(addresses), _bytes(contents), places)


def merged(
    made: dict[str, Any], share: tuple[int, int], indices: Sequence[Index], failed: dict[str, Failure] | None = None
) -> Index:
    """One index of several; parts are numbered anew."""
    places, count = [np.empty((0, 4), np.int64)], 0
    for index in indices:
        places.append(index.places + np.array([count, 0, 0, 0]))
        count += len(index.parts)
    none = np.empty((0, 16), np.uint8)
    return Index(
        made,
        share,
        tuple(part for index in indices for part in index.parts),
        np.concatenate([none, *(index.addresses for index in indices)]),
        np.concatenate([none, *(index.contents for index in indices)]),
        np.concatenate(places),
        {address: failure for index in indices for address, failure in index.failed.items()} | (failed or {}),
    )


def read_about(store: Store) -> dict[str, Any] | None:
    """What the shards in a place are; None where there are none.

    Raises:
        ConfigError: if they are of another format.
    """
    try:
        about = json.loads(store.read(ABOUT))
        given, shares = about["format"], int(about["shares"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        given, shares = error, 0
    if given != FORMAT or shares < 1:
        raise ConfigError(f"{store.url}/{ABOUT} of format {given}", f"format {FORMAT}", "Write the shards again.")
    return about


def differing(there: dict[str, Any], here: dict[str, Any]) -> str:
    """What two sets of settings do not agree in, in words; empty where they agree."""
    one, other = _flat(there), _flat(here)
    names = [name for name in sorted(one | other) if one.get(name) != other.get(name)]
    return "; ".join(f"{name} is {one.get(name)} in place of {other.get(name)}" for name in names)


def _flat(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{above}{name}.") if isinstance(value, dict) else {f"{above}{name}": value}
    return flat


def _bytes(digests: Sequence[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16).copy()
