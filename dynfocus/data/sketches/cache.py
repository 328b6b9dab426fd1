"""Each video's sketch, computed once by the frozen encoder and kept on disk."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from logging import getLogger
from pathlib import Path

import torch
from tqdm import tqdm

from dynfocus.data.sketches.digests import Digests
from dynfocus.data.sketches.encoders import EncoderFolder
from dynfocus.data.sketches.entries import Damaged, entry_shape, glance, read_entry, read_packed, write_entry
from dynfocus.data.sketches.media import Clips, Media, Shown, ahead, named
from dynfocus.data.sketches.shards import SketchShards
from dynfocus.data.sketches.sketcher import ONE, Sketched, Sketcher, cause, from_tensors, to_tensors
from dynfocus.errors import DynFocusError, FeatureError
from dynfocus.models.towers import VisionTower
from dynfocus.settings import ConnectorSettings, FrameRule
from dynfocus.video import Clip

log = getLogger(__name__)


@dataclass(frozen=True)
class Filled:
    """What filling a cache found: sketches that were there, were computed, or were damaged and computed again.

    Attributes:
        there, computed, mended: how many.
        folder: where they lie.
        failed: how many videos and images have no sketch, as they cannot be read; the log says which, and why.
    """

    there: int
    computed: int
    mended: int
    folder: Path
    failed: int = 0

    def __str__(self) -> str:
        failed = f"{self.failed} left out as they cannot be read; " if self.failed else ""
        return (
            f"sketches: {self.there} were there, {self.computed} computed, "
            f"{self.mended} computed again as they were damaged; {failed}in {self.folder}"
        )


class SketchCache(Sketcher):
    """Sketches on disk, under a key of the file's content, the frame rule, the encoder and the sketch's settings.

    Many processes may use one folder at a time. What is damaged is computed again, with a warning in the log.

    Args:
        folder: where entries lie.
        source: where the vision encoder lies.
        settings: the connector's; only what shapes a sketch enters the key.
        rule: how frames are taken from a video.
        device: where sketches are computed; by default a GPU, where there is one.
        tower: the encoder of ``source``, where it is loaded already.
        shards: sketches that were computed elsewhere; of what they hold, no file is looked at.
    """

    def __init__(
        self,
        folder: Path,
        source: EncoderFolder,
        settings: ConnectorSettings,
        rule: FrameRule,
        device: torch.device | None = None,
        tower: VisionTower | None = None,
        shards: SketchShards | None = None,
    ) -> None:
        self.folder, self.shards = Path(folder), shards
        super().__init__(source, settings, rule, device, tower, Digests(self.folder / "digests"))

    @cached_property
    def stored(self) -> SketchShards | None:
        """The shards, which are looked at the first time; raises ConfigError if they were made otherwise."""
        if self.shards is not None:
            self.shards.check(self.made)
        return self.shards

    def path(self, media: Media) -> Path:
        """Where the sketch of a video or image lies."""
        return self._path(self.key(media))

    def read(self, media: Media, address: str | None = None) -> Sketched:
        """The sketch of one video or image: from shards that hold its address, else from the folder.

        It is computed where there is none or it is damaged.

        Raises:
            VideoError: if the file cannot be read, or could not be when shards were written.
            FeatureError: if its features are not finite, or were not then.
            DiskError: if there is no room, or a shard is damaged.
            ConfigError: if the shards were made otherwise.
        """
        stored = None if address is None or self.stored is None else self.stored.get(address)
        if stored is not None:
            return stored
        key = self.key(media)
        try:
            found = read_entry(self._path(key), key)
        except Damaged as error:
            self._report(self._path(key), media, error)
            found = None
        return self._compute(media) if found is None else from_tensors(found)

    def frames(self, media: Media, address: str | None = None) -> int | None:
        """T of a video or image whose sketch is there, without reading it; None where there is none."""
        stored = None if address is None or self.stored is None else self.stored.frames(address)
        if stored is not None:
            return stored
        try:
            key = self.key(media)
            shape = entry_shape(self._path(key), key, "seconds")
        except (*ONE, Damaged):
            return None
        return None if shape is None else shape[0]

    def kept(self, media: Media) -> bytes | None:
        key = self.key(media)
        try:
            return read_packed(self._path(key), key)
        except Damaged as error:
            self._report(self._path(key), media, error)
            return None

    def fill(self, media: Iterable[Media | Shown], workers: int = 2, share: tuple[int, int] = (0, 1)) -> Filled:
        """Compute the sketches that are missing or damaged, with progress; shards that hold an address suffice.

        What cannot be read is counted, and written to the log with its cause; the others go on.

        Args:
            media: what is sketched, with the addresses of those that shards may hold, in any number of copies.
            workers: processes that decode.
            share: which part is this process's own, of how many.

        Raises:
            DiskError: if there is no room; nothing half-written is left.
            FeatureError: if the encoder makes no finite features of anything.
            ConfigError: if the shards were made otherwise.
        """
        shown = [medium if isinstance(medium, Shown) else Shown(medium) for medium in media]
        mine = [one for one in dict.fromkeys(shown) if one.dealt(share)]
        missing: dict[str, Media] = {}
        damaged, failed = set(), 0
        for one in tqdm(mine, desc="looking for sketches", unit="video", delay=3, leave=False):
            try:
                if one.address is not None and self.stored is not None and self.stored.holds(one.address):
                    continue
                key = self.key(one.media)
                if not glance(self._path(key), key):
                    missing[key] = one.media
            except Damaged as error:
                self._report(self._path(key), one.media, error)
                missing[key] = one.media
                damaged.add(key)
            except ONE as error:
                failed += 1
                self._leave_out(error)
        own = self.tower
        try:
            bar = "sketches" if share[1] == 1 else f"sketches, part {share[0] + 1} of {share[1]}"
            computed, unread = self._fill(missing, workers, bar)
        finally:
            self.tower = own
        there = len(mine) - len(computed) - unread - failed
        return Filled(there, len(computed - damaged), len(computed & damaged), self.folder, unread + failed)

    def _fill(self, missing: dict[str, Media], workers: int, bar: str) -> tuple[set[str], int]:
        """Compute those that no other process has computed in the meantime; returns their keys, and how many failed."""
        computed, failed = set(), 0
        if missing:
            clips = Clips([(self._path(key), key, medium) for key, medium in missing.items()], self.rule)
            found = zip(missing.items(), ahead(clips, workers), strict=True)
            for (key, medium), clip in tqdm(found, total=len(missing), desc=bar, unit="video"):
                if clip is None:
                    continue
                error = clip if isinstance(clip, DynFocusError) else self._keep(key, medium, clip)
                if error is None:
                    computed.add(key)
                else:
                    failed += 1
                    self._leave_out(error)
        return computed, failed

    def _keep(self, key: str, medium: Media, clip: Clip) -> DynFocusError | None:
        try:
            if self.key(medium) != key:  # the file has changed since its key was made
                key, clip = self.opened(medium)
        except ONE as error:
            return error
        made = self.tried(medium, clip)
        if isinstance(made, FeatureError):
            return made
        self._write(key, made)
        return None

    def _leave_out(self, error: DynFocusError) -> None:
        if not isinstance(error, ONE):
            raise error
        log.warning("left out: %s", cause(error))

    def _compute(self, media: Media) -> Sketched:
        key, clip = self.opened(media)
        return self._write(key, self.sketch(media, clip))

    def _write(self, key: str, sketched: Sketched) -> Sketched:
        write_entry(self._path(key), to_tensors(sketched), key)
        return sketched

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.safetensors"

    def _report(self, path: Path, media: Media, error: Damaged) -> None:
        log.warning("the sketch of %s in %s is damaged (%s) and is computed again", named(media), path, error)
