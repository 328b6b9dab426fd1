"""Write sketches into shards, computed once by many processes, each its own share."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from logging import getLogger
from typing import Any

from torch.utils.data import Dataset
from tqdm import tqdm

from dynfocus.data.loading import lost_error
from dynfocus.data.sketches.entries import pack_entry, unpack_entry
from dynfocus.data.sketches.locks import lock_share
from dynfocus.data.sketches.media import describe_media, load_ahead
from dynfocus.data.sketches.shard_files import Part, claim, finish_share, read_finished_parts
from dynfocus.data.sketches.shard_index import Failure, address_digest, merge_indices, share_name, share_of
from dynfocus.data.sketches.sketcher import ITEM_ERRORS, Sketcher, cause, to_tensors
from dynfocus.data.sketches.stores import Store
from dynfocus.errors import ConfigError, DynFocusError
from dynfocus.video import Clip
from dynfocus.video.media import Media

PART = 256 * 2**20  # bytes
log = getLogger(__name__)


@dataclass(frozen=True)
class ShareReport:
    """Counts of a written share.

    Attributes:
        share: which of how many.
        there, computed: how many sketches earlier runs have written, and this one.
        failed: how many videos and images have no sketch, as they cannot be read.
        parts, size: how many files they lie in, and their bytes.
        url: where.
    """

    share: tuple[int, int]
    there: int
    computed: int
    failed: int
    parts: int
    size: int
    url: str

    def __str__(self) -> str:
        note = f" (listed in {share_name(*self.share)}.failed.jsonl)" if self.failed else ""
        return (
            f"share {self.share[0]}/{self.share[1]}: {self.there} sketches were there, {self.computed} written, "
            f"{self.failed} left out as they cannot be read{note}; {self.parts} parts of {self.size / 1e6:.1f} MB "
            f"altogether in {self.url}"
        )


def write_shards(
    items: Iterable[tuple[str, Media]],
    sketcher: Sketcher,
    out: str,
    share: tuple[int, int] = (0, 1),
    workers: int = 2,
    part: int = PART,
) -> ShareReport:
    """Write one share of the sketches of ``items``, with progress; other processes write the others.

    Parts that an earlier run has finished are not computed again, and in the end the files are the same, bit for bit,
    as those of a run that never stopped. What could not be read then is tried again.

    Args:
        items: addresses and what lies there, in any order; the same one may come often.
        sketcher: what makes sketches; a `dynfocus.data.sketches.cache.SketchCache` gives those that it keeps.
        out: a folder, or a URL that fsspec writes to.
        share: which of how many is written; the address alone decides what belongs to it.
        workers: processes that decode.
        part: bytes of a file, unless a single sketch has more.

    Raises:
        ConfigError: if there is no such share, another process is writing it, or ``out`` holds shards made with
            other settings or in another number.
        FeatureError: if the encoder makes no finite features of anything.
        DiskError: if there is no room, or something was deleted meanwhile; finished parts stay.
    """
    if not 0 <= share[0] < share[1]:
        raise ConfigError(f"share {share[0]}/{share[1]}", "i/n with i from 0 to n - 1", "Correct it, such as 0/1.")
    store = Store(out)
    provenance = json.loads(json.dumps(sketcher.provenance))
    claim(store, provenance, share[1])
    own_items: dict[bytes, tuple[str, Media]] = {}
    for address, medium in items:
        name = address_digest(address)
        if share_of(name, share[1]) == share[0]:
            own_items[name] = address, medium
    with lock_share(store, share_name(*share)) as at_work:
        return _write(own_items, sketcher, store, provenance, share, workers, part, at_work)


def _write(
    items: dict[bytes, tuple[str, Media]],
    sketcher: Sketcher,
    store: Store,
    provenance: dict[str, Any],
    share: tuple[int, int],
    workers: int,
    part: int,
    at_work: Callable[[], None],
) -> ShareReport:
    indices = read_finished_parts(store, share)
    there = {name.tobytes() for index in indices.values() for name in index.addresses}
    todo = [items[name] for name in sorted(items.keys() - there)]
    failed: dict[str, Failure] = {}
    open_part = Part()

    def publish() -> None:
        nonlocal open_part
        number = next(n for n in range(len(indices) + 1) if n not in indices)
        indices[number] = open_part.publish(store, provenance, share, number)
        open_part = Part()

    own = sketcher.tower
    bar = tqdm(total=len(items), initial=len(items) - len(todo), desc=f"share {share[0]}/{share[1]}", unit="video")
    try:
        for (address, _), (content, frames) in zip(todo, _make_entries(todo, sketcher, workers), strict=True):
            bar.update()
            at_work()
            if isinstance(content, DynFocusError):
                failed[address] = (type(content).__name__, content.given, content.needed, content.do)
                log.warning("left out: %s", cause(content))
                continue
            if open_part.rows and open_part.size + len(content) > part:
                publish()
            open_part.add(address, content, frames)
        if open_part.rows:
            publish()
    finally:
        sketcher.tower = own
        bar.close()
        open_part.file.close()
    index = merge_indices(provenance, share, [indices[number] for number in sorted(indices)], failed)
    finish_share(store, index)
    size = sum(size for _, size in index.parts)
    return ShareReport(share, len(there), len(todo) - len(failed), len(failed), len(index.parts), size, store.url)


class _EntryOrClip(Dataset):
    """For each medium, in loader processes: its stored entry, else its frames, or the error that it gives."""

    def __init__(self, media: list[Media], sketcher: Sketcher) -> None:
        self.media, self.sketcher = media, sketcher

    def __len__(self) -> int:
        return len(self.media)

    def __getitem__(self, index: int) -> bytes | tuple[str, Clip] | DynFocusError:
        medium = self.media[index]
        try:
            entry = self.sketcher.load_entry(medium)
            return self.sketcher.read_with_key(medium) if entry is None else entry
        except DynFocusError as error:  # returned: raised, it would lose its parts on the way to the main process
            return error

    def lose(self, index: int) -> DynFocusError:
        """Return the error of a medium whose reading crashes a process."""
        return lost_error(describe_media(self.media[index]))


def _make_entries(
    todo: list[tuple[str, Media]], sketcher: Sketcher, workers: int
) -> Iterator[tuple[bytes | DynFocusError, int]]:
    """Yield the entry of each medium, or the error that it gives, and T."""
    dataset = _EntryOrClip([medium for _, medium in todo], sketcher)
    for (_, medium), entry in zip(todo, load_ahead(dataset, workers) if todo else (), strict=True):
        if isinstance(entry, bytes):
            yield entry, len(unpack_entry(entry)[0]["seconds"])
            continue
        sketch = entry if isinstance(entry, DynFocusError) else sketcher.try_sketch(medium, entry[1])
        if isinstance(sketch, DynFocusError):
            if not isinstance(sketch, ITEM_ERRORS):
                raise sketch
            yield sketch, 0
        else:
            yield pack_entry(to_tensors(sketch), entry[0]), len(sketch.seconds)
