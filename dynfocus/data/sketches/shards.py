"""Read sketches from shards: a few large files in place of millions of small ones, read by byte ranges.

A part is a tar in the layout of WebDataset, which reads it from end to end as it stands; an index beside it says at
which bytes each sketch lies. Training draws rows in one random order of the whole set and goes on at any step of it, so
each read is of one entry at a random place: 100 random rows of 1000 videos of 18 frames (1.93 MB each, 1.93 GB
together) fetch 193 MB by ranges. WebDataset 1.0.2 alone has no random access, so they cost all 8 of its tars (1.93 GB)
or another order; litdata 0.2.76 fetched 30 of its 31 chunks of 64 MB for them (1.91 GB; it has ranges of its own for
four object stores, but not for a shared disk or other fsspec paths, nor in its loader, whose order is its own).
"""

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from logging import getLogger
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynfocus.data.sketches.entries import DamagedEntryError, unpack_entry
from dynfocus.data.sketches.shard_index import (
    ABOUT,
    ShardIndex,
    address_digest,
    describe_differences,
    merge_indices,
    read_about,
    share_name,
    short_digest,
    unpack_index,
)
from dynfocus.data.sketches.sketcher import ITEM_ERRORS, TimedSketch, check_layout, from_tensors
from dynfocus.data.sketches.stores import Store
from dynfocus.errors import ConfigError, DiskError, DynFocusError, VideoError

log = getLogger(__name__)


def _by_name(kinds: Iterable[type[DynFocusError]]) -> dict[str, type[DynFocusError]]:
    """Return error classes and their subclasses by name."""
    return {
        name: kind for one in kinds for name, kind in ({one.__name__: one} | _by_name(one.__subclasses__())).items()
    }


ERROR_TYPES = _by_name(ITEM_ERRORS)


class SketchShards:
    """Sketches by the addresses of what they are of, from shards on a local disk or anywhere that fsspec reaches.

    The index is read when first needed, best before loader processes are forked, which then share it.

    Args:
        url: where `dynfocus.data.sketches.write_shards.write_shards` has written them.
    """

    def __init__(self, url: str) -> None:
        self.url, self.store = str(url), Store(url)

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "store": self.store}

    def __len__(self) -> int:
        return len(self.index.addresses)

    @cached_property
    def index(self) -> ShardIndex:
        """Where each sketch lies.

        Raises:
            ConfigError: if there are no shards, or not all shares are finished.
            DiskError: if an index is damaged, or a part is missing or cut off.
        """
        about = read_about(self.store)
        if about is None:
            raise ConfigError(
                f"{self.url}, where there is no {ABOUT}", "a place with shards of sketches", "Check the address."
            )
        shares = about["shares"]
        with ThreadPoolExecutor(min(shares, 16)) as pool:
            by_share = list(pool.map(self._read_share_index, range(shares), [shares] * shares))
        indices = [index for index in by_share if index is not None]
        if len(indices) < shares:
            missing = [f"{n}/{shares}" for n, index in enumerate(by_share) if index is None]
            raise ConfigError(
                f"shards in {self.url} of which {len(missing)} of {shares} shares are not finished "
                f"({_first_names(missing)})",
                "every share",
                f"Run dynfocus sketch --shard {missing[0]} with the same settings; it goes on where it stopped.",
            )
        for n, index in enumerate(indices):
            if index.provenance != about["made"]:
                problem = (
                    f"share {n}/{shares} in {self.url}, where {describe_differences(index.provenance, about['made'])}"
                )
                raise ConfigError(problem, "shares that were made alike", "Delete it and write it again.")
        index_of_all = merge_indices(about["made"], (0, 1), indices)
        self._check_parts(index_of_all)
        return index_of_all

    @cached_property
    def order(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int64]]:
        """Both halves of the digests of addresses, sorted by the first, and their rows in the index."""
        halves = self.index.addresses.view(">u8")
        order = np.argsort(halves[:, 0], kind="stable")
        first, second = (halves[order, n].astype(np.uint64) for n in (0, 1))
        return first, second, order

    def check(self, provenance: dict[str, Any]) -> None:
        """Refuse shards that were made with other settings.

        Raises:
            ConfigError: it names what differs from ``provenance``, which `Sketcher.provenance` gives.
        """
        if difference := describe_differences(self.index.provenance, json.loads(json.dumps(provenance))):
            raise ConfigError(
                f"shards of sketches in {self.url} where {difference}",
                "shards that were made with the run's own encoder, frame rule and settings",
                "Correct the settings, or write shards with these by dynfocus sketch --shard.",
            )

    def holds(self, address: str) -> bool:
        """Return whether there is a sketch at an address; raises as `get` does where none could be made."""
        return self._find_row(address) is not None

    def frames(self, address: str) -> int | None:
        """Return T of the sketch at an address; None where there is none."""
        row = None if address in self.index.failed else self._find_row(address)
        return None if row is None else int(self.index.places[row, 3])

    def get(self, address: str) -> TimedSketch | None:
        """Read the sketch at an address; None where there is none.

        Raises:
            VideoError, FeatureError, DataError: if it could not be made when the shards were written.
            DiskError: if its part cannot be read, or a bit of it is not as it was written.
        """
        row = self._find_row(address)
        if row is None:
            return None
        part, start, size, _ = (int(number) for number in self.index.places[row])
        name = self.index.parts[part][0]
        try:
            content = self.store.read(name, start, start + size)
        except FileNotFoundError as error:
            raise self._make_damage_error(name, "it is missing") from error
        if short_digest(content) != self.index.contents[row].tobytes():
            raise self._make_damage_error(name, f"{address} in it is not as it was written")
        check = partial(check_layout, self.index.provenance["sketch"], None)
        try:
            return from_tensors(unpack_entry(content, check)[0])
        except DamagedEntryError as error:
            raise self._make_damage_error(name, f"{address} in it is no sketch: {error}") from error

    def _find_row(self, address: str) -> int | None:
        if failure := self.index.failed.get(address):
            raise ERROR_TYPES.get(failure[0], VideoError)(*failure[1:])  # a later version may know more kinds
        first, second, rows = self.order
        high, low = np.frombuffer(address_digest(address), ">u8").astype(np.uint64)
        place = int(np.searchsorted(first, high))
        while place < len(first) and first[place] == high:
            if second[place] == low:
                return int(rows[place])
            place += 1
        return None

    def _read_share_index(self, share: int, shares: int) -> ShardIndex | None:
        name = f"{share_name(share, shares)}.index"
        try:
            return unpack_index(self.store.read(name))
        except FileNotFoundError:
            return None
        except DamagedEntryError as error:
            raise self._make_damage_error(name, str(error)) from error

    def _check_parts(self, index: ShardIndex) -> None:
        """Check that all parts are there, where the place can list its files."""
        sizes = self.store.sizes()
        if sizes is None:
            return
        for name, size in index.parts:
            if name not in sizes:
                raise self._make_damage_error(name, "it is missing")
            if sizes[name] != size:
                raise self._make_damage_error(name, f"it has {sizes[name]} of {size} bytes")

    def _make_damage_error(self, name: str, what: str) -> DiskError:
        return DiskError(
            f"{self.url}/{name}, which is damaged: {what}",
            "shards as they were written",
            f"Delete it and run dynfocus sketch --shard {_share_argument(name)} again: it makes what is missing.",
        )


def _first_names(names: list[str]) -> str:
    return ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")


def _share_argument(name: str) -> str:
    """Return the share that a file belongs to, as the command line takes it."""
    share, shares = name.split(".")[0].split("-of-")
    return f"{int(share)}/{int(shares)}"
