"""Keep each video's sketch on disk, computed once by the frozen encoder."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from logging import getLogger
from pathlib import Path

import torch
from tqdm import tqdm

from dynfocus.data.sketches.checked import CheckedEntries, place_entry
from dynfocus.data.sketches.digests import Digests
from dynfocus.data.sketches.encoder_folder import EncoderFolder
from dynfocus.data.sketches.entries import (
    Check,
    DamagedEntryError,
    has_entry,
    read_entry,
    read_entry_bytes,
    read_entry_layout,
    write_entry,
)
from dynfocus.data.sketches.media import Clips, SketchItem, describe_media, load_ahead
from dynfocus.data.sketches.shards import SketchShards
from dynfocus.data.sketches.sketcher import (
    ITEM_ERRORS,
    Sketcher,
    TimedSketch,
    cause,
    check_layout,
    from_tensors,
    to_tensors,
)
from dynfocus.errors import CrashingFileError, DynFocusError, FeatureError
from dynfocus.models.towers import VisionTower
from dynfocus.settings import ConnectorSettings, FrameRule, sketch_settings
from dynfocus.video import Clip
from dynfocus.video.media import Media

log = getLogger(__name__)


@dataclass(frozen=True)
class FillReport:
    """Counts of a fill: sketches that were there, were computed, or were damaged and computed again.

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
        self.crashing: dict[Media, CrashingFileError] = {}  # media that `fill` has found to be so
        super().__init__(source, settings, rule, device, tower, Digests(self.folder / "digests"))

    @cached_property
    def check(self) -> Check:
        """Refuses entries that hold no sketch of these settings; raises DamagedEntryError."""
        return partial(check_layout, sketch_settings(self.settings), self.source.vision.hidden_size)

    @cached_property
    def matching_shards(self) -> SketchShards | None:
        """The shards, checked the first time; raises ConfigError if they were made with other settings."""
        if self.shards is not None:
            self.shards.check(self.provenance)
        return self.shards

    def path(self, media: Media) -> Path:
        """Return where the sketch of a video or image lies."""
        return self._path(self.key(media))

    def read(self, media: Media, address: str | None = None) -> TimedSketch:
        """Read the sketch of one video or image: from shards that hold its address, else from the folder.

        It is computed where there is none or it is damaged.

        Raises:
            VideoError: if the file cannot be read, or could not be when shards were written.
            FeatureError: if its features are not finite, or were not then.
            DiskError: if there is no room, or a shard is damaged.
            ConfigError: if the shards were made with other settings.
        """
        sketch = None if address is None or self.matching_shards is None else self.matching_shards.get(address)
        if sketch is not None:
            return sketch
        key = self.key(media)
        try:
            tensors = read_entry(self._path(key), key, self.check)
        except DamagedEntryError as error:
            self._warn_damaged(self._path(key), media, error)
            tensors = None
        if tensors is not None:
            return from_tensors(tensors)
        if media in self.crashing:
            raise self.crashing[media]
        return self._compute(media)

    def shards_hold(self, address: str | None) -> bool:
        """Return whether shards hold a sketch at an address, so that no file is needed.

        Raises:
            VideoError, FeatureError: if no sketch could be made of it when the shards were written.
        """
        return address is not None and self.matching_shards is not None and self.matching_shards.holds(address)

    def frames(self, media: Media, address: str | None = None) -> int | None:
        """Return T of a video or image whose sketch is there, without reading it; None where there is none."""
        count = None if address is None or self.matching_shards is None else self.matching_shards.frames(address)
        if count is not None:
            return count
        try:
            key = self.key(media)
            layout = read_entry_layout(self._path(key), key, self.check)
        except (*ITEM_ERRORS, DamagedEntryError):
            return None
        return None if layout is None else layout["seconds"][1][0]

    def load_entry(self, media: Media) -> bytes | None:
        key = self.key(media)
        try:
            return read_entry_bytes(self._path(key), key, self.check)
        except DamagedEntryError as error:
            self._warn_damaged(self._path(key), media, error)
            return None

    def fill(
        self, media: Iterable[Media | SketchItem], workers: int = 2, share: tuple[int, int] = (0, 1)
    ) -> FillReport:
        """Compute the sketches that are missing or damaged, with progress; shards that hold an address suffice.

        What cannot be read is counted, and written to the log with its cause; the others go on.

        Args:
            media: videos and images, with the addresses of those that shards may hold; the same one may come often.
            workers: processes that decode.
            share: which share is this process's own, of how many.

        Raises:
            DiskError: if there is no room; nothing half-written is left.
            FeatureError: if the encoder makes no finite features of anything.
            ConfigError: if the shards were made with other settings.
        """
        items = [medium if isinstance(medium, SketchItem) else SketchItem(medium) for medium in media]
        own_items = [item for item in dict.fromkeys(items) if item.is_own_share(share)]
        missing: dict[str, Media] = {}
        damaged, failed = set(), 0
        checked = CheckedEntries(self.folder, json.dumps(self.provenance, sort_keys=True) if own_items else "")
        for item in tqdm(own_items, desc="looking for sketches", unit="video", delay=3, leave=False):
            try:
                if self.shards_hold(item.address) or checked.hold(item.media, stamps := checked.stamp(item.media)):
                    continue
                key = self.key(item.media)
                if has_entry(self._path(key), key, self.check):
                    checked.add(item.media, stamps, self._path(key).stem)
                else:
                    missing[key] = item.media
            except DamagedEntryError as error:
                self._warn_damaged(self._path(key), item.media, error)
                missing[key] = item.media
                damaged.add(key)
            except ITEM_ERRORS as error:
                failed += 1
                self._skip_or_raise(error)
        checked.save()
        tower = self.tower
        try:
            bar = "sketches" if share[1] == 1 else f"sketches, part {share[0] + 1} of {share[1]}"
            computed, unreadable = self._fill(missing, workers, bar)
        finally:
            self.tower = tower
        there = len(own_items) - len(computed) - unreadable - failed
        return FillReport(there, len(computed - damaged), len(computed & damaged), self.folder, unreadable + failed)

    def _fill(self, missing: dict[str, Media], workers: int, bar: str) -> tuple[set[str], int]:
        """Compute those that no other process has computed in the meantime; returns their keys, and how many failed."""
        computed, failed = set(), 0
        if missing:
            clips = Clips([(self._path(key), key, medium) for key, medium in missing.items()], self.rule, self.check)
            pairs = zip(missing.items(), load_ahead(clips, workers), strict=True)
            for (key, medium), clip in tqdm(pairs, total=len(missing), desc=bar, unit="video"):
                if clip is None:
                    continue
                if isinstance(clip, CrashingFileError):
                    self.crashing[medium] = clip
                error = clip if isinstance(clip, DynFocusError) else self._sketch_and_write(key, medium, clip)
                if error is None:
                    computed.add(key)
                else:
                    failed += 1
                    self._skip_or_raise(error)
        return computed, failed

    def _sketch_and_write(self, key: str, medium: Media, clip: Clip) -> DynFocusError | None:
        try:
            if self.key(medium) != key:  # the file has changed since its key was made
                key, clip = self.read_with_key(medium)
        except ITEM_ERRORS as error:
            return error
        sketch = self.try_sketch(medium, clip)
        if isinstance(sketch, FeatureError):
            return sketch
        self._write(key, sketch)
        return None

    def _skip_or_raise(self, error: DynFocusError) -> None:
        if not isinstance(error, ITEM_ERRORS):
            raise error
        log.warning("left out: %s", cause(error))

    def _compute(self, media: Media) -> TimedSketch:
        key, clip = self.read_with_key(media)
        return self._write(key, self.sketch(media, clip))

    def _write(self, key: str, timed: TimedSketch) -> TimedSketch:
        write_entry(self._path(key), to_tensors(timed), key)
        return timed

    def _path(self, key: str) -> Path:
        return place_entry(self.folder, hashlib.sha256(key.encode()).hexdigest())

    def _warn_damaged(self, path: Path, media: Media, error: DamagedEntryError) -> None:
        log.warning("the sketch of %s in %s is damaged (%s) and is computed again", describe_media(media), path, error)
