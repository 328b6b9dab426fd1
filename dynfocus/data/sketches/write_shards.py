"""Sketches computed once by many processes, each its own share, into shards."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from logging import getLogger
from typing import Any

from torch.utils.data import Dataset
from tqdm import tqdm

from dynfocus.data.sketches.entries import packed, unpacked
from dynfocus.data.sketches.locks import alone
from dynfocus.data.sketches.media import Media, ahead
from dynfocus.data.sketches.shard_files import Part, claim, finish, finished
from dynfocus.data.sketches.shard_index import Failure, address_digest, merged, owner, share_name
from dynfocus.data.sketches.sketcher import ONE, Sketcher, cause, to_tensors
from dynfocus.data.sketches.stores import Store
from dynfocus.errors import ConfigError, DynFocusError
from dynfocus.video import Clip

PART = 256 * 2**20  # bytes
log = getLogger(__name__)


@dataclass(frozen=True)
class Written:
    """What writing a share has done.

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
        listed = f" (listed in {share_name(*self.share)}.failed.jsonl)" if self.failed else ""
        return (
            f"share {self.share[0]}/{self.share[1]}: {self.there} sketches were there, {self.computed} written, "
            f"{self.failed} left out as they cannot be read{listed}; {self.parts} parts of {self.size / 1e6:.1f} MB "
            f"altogether in {self.url}"
        )


def write_shards(
    items: Iterable[tuple[str, Media]],
    sketcher: Sketcher,
    out: str,
    share: tuple[int, int] = (0, 1),
    workers: int = 2,
    part: int = PART,
) -> Written:
    """Write one share of the sketches of ``items``, with progress; other processes write the others.

    What was finished when an earlier run stopped is not computed again, and in the end the files are the same, bit for
    bit, as those of a run that never stopped. What could not be read then is tried again.

    Args:
        items: addresses and what lies there, in any order and number of copies.
        sketcher: what makes sketches; a `dynfocus.data.sketches.cache.SketchCache` gives those that it keeps.
        out: a folder, or a URL that fsspec writes to.
        share: which of how many is written; the address alone decides what belongs to it.
        workers: processes that decode.
        part: bytes of a file, unless a single sketch has more.

    Raises:
        ConfigError: if there is no such share, another process is writing it, or ``out`` holds shards made otherwise
            or in another number.
        FeatureError: if the encoder makes no finite features of anything.
        DiskError: if there is no room, or something was deleted meanwhile; finished parts stay.
    """
    if not 0 <= share[0] < share[1]:
        raise ConfigError(f"share {share[0]}/{share[1]}", "i/n with i from 0 to n - 1", "Correct it, such as 0/1.")
    store = Store(out)
    made = json.loads(json.dumps(sketcher.made))
    claim(store, made, share[1])
    mine: dict[bytes, tuple[str, Media]] = {}
    for address, medium in items:
        name = address_digest(address)
        if owner(name, share[1]) == share[0]:
            mine[name] = address, medium
    with alone(store, share_name(*share)) as at_work:
        return _write(mine, sketcher, store, made, share, workers, part, at_work)


def _write(
    mine: dict[bytes, tuple[str, Media]],
    sketcher: Sketcher,
    store: Store,
    made: dict[str, Any],
    share: tuple[int, int],
    workers: int,
    part: int,
    at_work: Callable[[], None],
) -> Written:
    found = finished(store, share)
    there = {name.tobytes() for index in found.values() for name in index.addresses}
    todo = [mine[name] for name in sorted(mine.keys() - there)]
    failed: dict[str, Failure] = {}
    growing = Part()

    def publish() -> None:
        nonlocal growing
        number = next(n for n in range(len(found) + 1) if n not in found)
        found[number] = growing.publish(store, made, share, number)
        growing = Part()

    own = sketcher.tower
    bar = tqdm(total=len(mine), initial=len(mine) - len(todo), desc=f"share {share[0]}/{share[1]}", unit="video")
    try:
        for (address, _), (content, frames) in zip(todo, _contents(todo, sketcher, workers), strict=True):
            bar.update()
            at_work()
            if isinstance(content, DynFocusError):
                failed[address] = (type(content).__name__, content.given, content.needed, content.do)
                log.warning("left out: %s", cause(content))
                continue
            if growing.rows and growing.size + len(content) > part:
                publish()
            growing.add(address, content, frames)
        if growing.rows:
            publish()
    finally:
        sketcher.tower = own
        bar.close()
        growing.file.close()
    index = merged(made, share, [found[number] for number in sorted(found)], failed)
    finish(store, index)
    size = sum(size for _, size in index.parts)
    return Written(share, len(there), len(todo) - len(failed), len(failed), len(index.parts), size, store.url)


class _Found(Dataset):
    """What is kept of each medium, or else its frames, or what is wrong with it."""

    def __init__(self, media: list[Media], sketcher: Sketcher) -> None:
        self.media, self.sketcher = media, sketcher

    def __len__(self) -> int:
        return len(self.media)

    def __getitem__(self, index: int) -> bytes | tuple[str, Clip] | DynFocusError:
        medium = self.media[index]
        try:
            kept = self.sketcher.kept(medium)
            return self.sketcher.opened(medium) if kept is None else kept
        except DynFocusError as error:  # it would not cross a process's border if raised
            return error


def _contents(
    todo: list[tuple[str, Media]], sketcher: Sketcher, workers: int
) -> Iterator[tuple[bytes | DynFocusError, int]]:
    """The entry of each, or what is wrong with this one, and T."""
    found = _Found([medium for _, medium in todo], sketcher)
    for (_, medium), made in zip(todo, ahead(found, workers) if todo else (), strict=True):
        if isinstance(made, bytes):
            yield made, len(unpacked(made)[0]["seconds"])
            continue
        sketched = made if isinstance(made, DynFocusError) else sketcher.tried(medium, made[1])
        if isinstance(sketched, DynFocusError):
            if not isinstance(sketched, ONE):
                raise sketched
            yield sketched, 0
        else:
            yield packed(to_tensors(sketched), made[0]), len(sketched.seconds)
