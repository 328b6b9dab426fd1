"""Parts of shards: tar files in WebDataset's layout, and what says that they are finished."""

import json
import re
import tarfile
from logging import getLogger
from tempfile import TemporaryFile, gettempdir
from typing import Any

from dynfocus.data.sketches.entries import Damaged
from dynfocus.data.sketches.shard_index import (
    ABOUT,
    FORMAT,
    Index,
    address_digest,
    differing,
    digest,
    read_about,
    rows_index,
    share_name,
    unpacked_index,
)
from dynfocus.data.sketches.stores import Store
from dynfocus.errors import ConfigError, DiskError

BLOCK = tarfile.BLOCKSIZE
log = getLogger(__name__)


def claim(store: Store, made: dict[str, Any], shares: int) -> None:
    """Say how many shares there will be and how they are made; raises ConfigError where it was said otherwise."""
    wanted = {"format": FORMAT, "shares": shares, "made": made}
    if read_about(store) is None:
        store.write(ABOUT, json.dumps(wanted, indent=1).encode())
    if said := differing(read_about(store) or {}, wanted):
        raise ConfigError(
            f"{store.url}, which holds shards where {said}", "a place of its own for each set", "Choose another place."
        )


def finished(store: Store, share: tuple[int, int]) -> dict[int, Index]:
    """The indices of a share's finished parts, by number; what is damaged is made again, with a warning in the log."""
    store.sweep(share_name(*share))
    sizes, found = store.sizes() or {}, {}
    for name in sizes:
        if match := re.fullmatch(rf"{share_name(*share)}\.(\d{{6}})\.index", name):
            try:
                index = unpacked_index(store.read(name))
                [(part, size)] = index.parts
                if sizes.get(part) != size:
                    raise Damaged(f"{part} has {sizes.get(part, 0)} of {size} bytes")
                found[int(match[1])] = index
            except Damaged as error:
                log.warning("the part of %s/%s is damaged (%s) and is made again", store.url, name, error)
    return found


def finish(store: Store, index: Index) -> None:
    """Write the list of what failed and the share's own index, which says that it is finished.

    Raises:
        DiskError: if a part is not there as it was written, or nothing says any more what the shards are.
    """
    name, sizes = share_name(*index.share), store.sizes()
    lost = [part for part, size in index.parts if sizes is not None and sizes.get(part) != size]
    lost += [] if read_about(store) else [ABOUT]
    if lost:
        raise DiskError(
            f"{store.url}, where {', '.join(lost[:8])} {'is' if len(lost) == 1 else 'are'} gone or cut off since "
            "written",
            "a place that nothing else deletes from",
            f"Run dynfocus sketch --shard {index.share[0]}/{index.share[1]} again: it makes what is missing.",
        )
    lines = [json.dumps({"address": address, "cause": failure[1]}) for address, failure in index.failed.items()]
    store.write(f"{name}.failed.jsonl", "".join(line + "\n" for line in lines).encode())
    store.write(f"{name}.index", index.packed())


class Part:
    """A tar file that grows out of sight."""

    def __init__(self) -> None:
        self.file = TemporaryFile()  # noqa: SIM115 (it is closed when it is published, and has no name to leave behind)
        self.rows: list[tuple[bytes, bytes, int, int, int]] = []

    @property
    def size(self) -> int:
        return self.file.tell()

    def add(self, address: str, content: bytes, frames: int) -> None:
        name = address_digest(address)
        said = json.dumps({"address": address, "frames": frames}).encode()
        self._member(f"{name.hex()}.json", said)
        start = self._member(f"{name.hex()}.safetensors", content)
        self.rows.append((name, digest(content), start, len(content), frames))

    def _member(self, name: str, content: bytes) -> int:
        """Write one file of the tar; returns where its bytes begin. Times are left out, so equal runs write equally."""
        info = tarfile.TarInfo(name)
        info.size = len(content)
        try:
            self.file.write(info.tobuf(tarfile.GNU_FORMAT))
            start = self.file.tell()
            self.file.write(content + bytes(-len(content) % BLOCK))
        except OSError as error:
            raise DiskError(
                f"a part that could not grow in {gettempdir()} ({error})",
                "room for one part beside the finished ones",
                "Free some room, or set TMPDIR to another folder.",
            ) from error
        return start

    def publish(self, store: Store, made: dict[str, Any], share: tuple[int, int], number: int) -> Index:
        """Write the part, and its index after it, without which it counts for nothing."""
        with self.file as file:
            file.write(bytes(2 * BLOCK))
            name, size = f"{share_name(*share)}.{number:06}", file.tell()
            file.seek(0)
            store.write(f"{name}.tar", file)
        index = rows_index(made, share, (f"{name}.tar", size), self.rows)
        store.write(f"{name}.index", index.packed())
        return index
