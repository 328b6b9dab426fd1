"""Write and list the parts of a share: tar files in WebDataset's layout, each with an index that marks it finished."""

import json
import re
import tarfile
from logging import getLogger
from tempfile import TemporaryFile, gettempdir
from typing import Any

from dynfocus.data.sketches.entries import DamagedEntryError
from dynfocus.data.sketches.shard_index import (
    ABOUT,
    FORMAT,
    ShardIndex,
    address_digest,
    describe_differences,
    make_part_index,
    read_about,
    share_name,
    short_digest,
    unpack_index,
)
from dynfocus.data.sketches.stores import Store
from dynfocus.errors import ConfigError, DiskError

BLOCK = tarfile.BLOCKSIZE
log = getLogger(__name__)


def claim(store: Store, provenance: dict[str, Any], shares: int) -> None:
    """Write how many shares there will be and how they are made; raises ConfigError where that differs."""
    about = {"format": FORMAT, "shares": shares, "made": provenance}
    if read_about(store) is None:
        store.write(ABOUT, json.dumps(about, indent=1).encode())
    if difference := describe_differences(read_about(store) or {}, about):
        raise ConfigError(
            f"{store.url}, which holds shards where {difference}",
            "a place of its own for each set",
            "Choose another place.",
        )


def read_finished_parts(store: Store, share: tuple[int, int]) -> dict[int, ShardIndex]:
    """Read the indices of a share's finished parts, by number; damaged ones are left out with a warning."""
    store.sweep(share_name(*share))
    sizes, indices = store.sizes() or {}, {}
    for name in sizes:
        if match := re.fullmatch(rf"{share_name(*share)}\.(\d{{6}})\.index", name):
            try:
                index = unpack_index(store.read(name))
                [(part, size)] = index.parts
                if sizes.get(part) != size:
                    raise DamagedEntryError(f"{part} has {sizes.get(part, 0)} of {size} bytes")
                indices[int(match[1])] = index
            except DamagedEntryError as error:
                log.warning("the part of %s/%s is damaged (%s) and is made again", store.url, name, error)
    return indices


def finish_share(store: Store, index: ShardIndex) -> None:
    """Write the list of what failed and the share's own index, which marks it finished.

    Raises:
        DiskError: if a part is not there as it was written, or ``sketches.json`` is gone.
    """
    name, sizes = share_name(*index.share), store.sizes()
    damaged = [part for part, size in index.parts if sizes is not None and sizes.get(part) != size]
    damaged += [] if read_about(store) else [ABOUT]
    if damaged:
        raise DiskError(
            f"{store.url}, where {', '.join(damaged[:8])} {'is' if len(damaged) == 1 else 'are'} gone or cut off since "
            "written",
            "a place that nothing else deletes from",
            f"Run dynfocus sketch --shard {index.share[0]}/{index.share[1]} again: it makes what is missing.",
        )
    lines = [json.dumps({"address": address, "cause": failure[1]}) for address, failure in index.failed.items()]
    store.write(f"{name}.failed.jsonl", "".join(line + "\n" for line in lines).encode())
    store.write(f"{name}.index", index.pack())


class Part:
    """A tar file that grows in a temporary file until it is published."""

    def __init__(self) -> None:
        self.file = TemporaryFile()  # noqa: SIM115 (it is closed when it is published, and has no name to leave behind)
        self.rows: list[tuple[bytes, bytes, int, int, int]] = []

    @property
    def size(self) -> int:
        return self.file.tell()

    def add(self, address: str, content: bytes, frames: int) -> None:
        name = address_digest(address)
        description = json.dumps({"address": address, "frames": frames}).encode()
        self._add_member(f"{name.hex()}.json", description)
        start = self._add_member(f"{name.hex()}.safetensors", content)
        self.rows.append((name, short_digest(content), start, len(content), frames))

    def _add_member(self, name: str, content: bytes) -> int:
        """Write one file of the tar, without times, so that equal runs write equal bytes; returns where it begins."""
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

    def publish(self, store: Store, provenance: dict[str, Any], share: tuple[int, int], number: int) -> ShardIndex:
        """Write the part, and after it its index, without which the part does not count."""
        with self.file as file:
            file.write(bytes(2 * BLOCK))
            name, size = f"{share_name(*share)}.{number:06}", file.tell()
            file.seek(0)
            store.write(f"{name}.tar", file)
        index = make_part_index(provenance, share, (f"{name}.tar", size), self.rows)
        store.write(f"{name}.index", index.pack())
        return index
