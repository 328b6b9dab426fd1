"""Each video's sketch, computed once by the frozen encoder and kept on disk."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from logging import getLogger
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info
from tqdm import tqdm

from dynfocus.errors import DynFocusError, FeatureError
from dynfocus.nn.backbones import VisionTower
from dynfocus.nn.sketch import sketch_frames
from dynfocus.settings import ConnectorSettings, FrameRule, sketch_settings
from dynfocus.sketches.clips import Clips, media_stamp, read_or_blank
from dynfocus.sketches.digests import Digests, hash_file
from dynfocus.sketches.encoders import EncoderFolder
from dynfocus.sketches.entries import Damaged, glance, read_entry, write_entry
from dynfocus.types import FrameSketch
from dynfocus.video import IMAGES, Clip

FORMAT = 1  # of entries; a higher number leaves all older ones unread
log = getLogger(__name__)


@dataclass(frozen=True)
class Sketched:
    """The sketch of one video (B = 1), on the CPU, and the time stamps of its frames."""

    sketch: FrameSketch
    seconds: Float[Tensor, " T"]


@dataclass(frozen=True)
class Filled:
    """What filling a cache found: sketches that were there, were computed, or were damaged and computed again."""

    there: int
    computed: int
    mended: int
    folder: Path

    def __str__(self) -> str:
        return (
            f"sketches: {self.there} were there, {self.computed} computed, "
            f"{self.mended} computed again as they were damaged; in {self.folder}"
        )


class SketchCache:
    """Sketches on disk, under a key of the file's content, the frame rule, the encoder and the sketch's settings.

    Many processes may use one folder at a time. What is damaged is computed again, with a warning in the log.

    Args:
        folder: where entries lie.
        source: where the vision encoder lies.
        settings: the connector's; only what shapes a sketch enters the key.
        rule: how frames are taken from a video.
        device: where sketches are computed; by default a GPU, where there is one.
        tower: the encoder of ``source``, where it is loaded already.
    """

    def __init__(
        self,
        folder: Path,
        source: EncoderFolder,
        settings: ConnectorSettings,
        rule: FrameRule,
        device: torch.device | None = None,
        tower: VisionTower | None = None,
    ) -> None:
        self.folder, self.source, self.settings, self.rule = Path(folder), source, settings, rule
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.digests = Digests(self.folder / "digests")
        self.tower = tower

    @cached_property
    def encoder(self) -> str:
        """The encoder's identity."""
        return self.digests.of(self.source.files, self.source.identity, f"encoder {self.source.dtype}")

    def key(self, media: Path | None) -> str:
        """All that the sketch of a video or image hangs on; None is the blank frame of text-only rows.

        Raises:
            VideoError: if there is no such file.
        """
        return json.dumps(
            {
                "format": FORMAT,
                "media": "blank" if media is None else self._content(Path(media)),
                "rule": asdict(self.rule),
                "encoder": self.encoder,
                "sketch": sketch_settings(self.settings),
            },
            sort_keys=True,
        )

    def path(self, media: Path | None) -> Path:
        """Where the sketch of a video or image lies."""
        return self._path(self.key(media))

    def read(self, media: Path | None) -> Sketched:
        """The sketch of one video or image, which is computed where there is none or it is damaged.

        Raises:
            VideoError: if the file cannot be read.
            DiskError: if there is no room.
        """
        key = self.key(media)
        try:
            found = read_entry(self._path(key), key)
        except Damaged as error:
            self._report(self._path(key), media, error)
            found = None
        return self._compute(media) if found is None else _from_tensors(found)

    def fill(self, media: Iterable[Path | None], workers: int = 2, share: tuple[int, int] = (0, 1)) -> Filled:
        """Compute the sketches that are missing or damaged, with progress.

        Args:
            media: videos, images and None, in any number of copies.
            workers: processes that decode.
            share: which part is this process's own, of how many.

        Raises:
            VideoError: if a file cannot be read; what was computed before stays.
            DiskError: if there is no room; nothing half-written is left.
        """
        mine = list(dict.fromkeys(media))[share[0] :: share[1]]
        missing: dict[str, Path | None] = {}
        damaged = set()
        for medium in tqdm(mine, desc="looking for sketches", unit="video", delay=3, leave=False):
            key = self.key(medium)
            try:
                if not glance(self._path(key), key):
                    missing[key] = medium
            except Damaged as error:
                self._report(self._path(key), medium, error)
                missing[key] = medium
                damaged.add(key)
        own = self.tower
        try:
            bar = "sketches" if share[1] == 1 else f"sketches, part {share[0] + 1} of {share[1]}"
            computed = self._fill(missing, workers, bar)
        finally:
            self.tower = own
        return Filled(len(mine) - len(computed), len(computed - damaged), len(computed & damaged), self.folder)

    def _fill(self, missing: dict[str, Path | None], workers: int, bar: str) -> set[str]:
        """Compute those that no other process has computed in the meantime; returns the keys of what was computed."""
        computed = set()
        if missing:
            clips = Clips([(self._path(key), key, medium) for key, medium in missing.items()], self.rule)
            workers = min(workers, len(missing) - 1)
            ahead = 1 if workers else None  # an hour of video is half a gigabyte of frames
            own = torch.Generator()  # or a cache that has to be filled would move what is drawn after it
            loader = DataLoader(clips, batch_size=None, num_workers=workers, prefetch_factor=ahead, generator=own)
            found = zip(missing.items(), loader, strict=True)
            for (key, medium), clip in tqdm(found, total=len(missing), desc=bar, unit="video"):
                if isinstance(clip, DynFocusError):
                    raise clip
                if clip is None:
                    continue
                computed.add(key)
                if self.key(medium) == key:
                    self._write(key, medium, clip)
                else:  # the file has changed since its key was made
                    self._compute(medium)
        return computed

    def _compute(self, media: Path | None) -> Sketched:
        key = self.key(media)
        clip = read_or_blank(media, self.rule)
        while (now := self.key(media)) != key:
            key, clip = now, read_or_blank(media, self.rule)
        return self._write(key, media, clip)

    def _write(self, key: str, media: Path | None, clip: Clip) -> Sketched:
        # A loader's process cannot use a GPU that its parent has begun to use.
        device = self.device if get_worker_info() is None else torch.device("cpu")
        self.tower = (self.tower or self.source.tower()).to(device)
        try:
            with torch.autocast(device.type, enabled=False):
                sketch = sketch_frames(clip.frames.to(device), self.tower, self.settings)
        except FeatureError as error:
            raise FeatureError(f"{_shown(media)} with {error.given}", error.needed, error.do) from error
        sketched = Sketched(sketch.to("cpu"), clip.seconds)
        write_entry(self._path(key), _to_tensors(sketched), key)
        return sketched

    def _content(self, media: Path) -> list[str]:
        media_stamp(media)
        digest = self.digests.of([media], lambda: hash_file(media))
        return ["image" if media.suffix.lower() in IMAGES else "video", digest]

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.safetensors"

    def _report(self, path: Path, media: Path | None, error: Damaged) -> None:
        log.warning("the sketch of %s in %s is damaged (%s) and is computed again", _shown(media), path, error)


def _shown(media: Path | None) -> str:
    return "the blank frame" if media is None else str(media)


def _to_tensors(sketched: Sketched) -> dict[str, Tensor]:
    named = {field.name: getattr(sketched.sketch, field.name) for field in fields(FrameSketch)}
    kept = {name: value[0] for name, value in named.items() if value is not None}
    return kept | {"seconds": sketched.seconds}


def _from_tensors(tensors: dict[str, Tensor]) -> Sketched:
    named = {name: value[None] for name, value in tensors.items() if name != "seconds"}
    return Sketched(FrameSketch(**named), tensors["seconds"])
