"""Make sketches with the frozen encoder, and the keys that say what each was made with."""

import json
from dataclasses import asdict, dataclass, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import get_worker_info

from dynfocus.data.sketches.digests import Digests, hash_files
from dynfocus.data.sketches.encoder_folder import EncoderFolder
from dynfocus.data.sketches.entries import DamagedEntryError, Layout
from dynfocus.data.sketches.media import describe_media, media_stamp
from dynfocus.errors import DataError, DynFocusError, FeatureError, VideoError
from dynfocus.method.sketch import sketch_frames
from dynfocus.models.towers import VisionTower
from dynfocus.records.rows import FrameFiles, VideoSegment
from dynfocus.settings import ConnectorSettings, FrameRule, sketch_settings
from dynfocus.types import FrameSketch
from dynfocus.video import IMAGES, Clip
from dynfocus.video.media import Media, read_or_blank
from dynfocus.video.time_limit import limit_time

FORMAT = 3  # of entries; entries of a lower number are not read
LIMITS = {"max_pixels"}  # of a frame rule: they refuse files, and change no frame
PRECISIONS = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}  # as safetensors names them
ITEM_ERRORS = (VideoError, FeatureError, DataError)  # what is wrong with one file or row, and stops no other


@dataclass(frozen=True)
class TimedSketch:
    """The sketch of one video (B = 1), on the CPU, and the time stamps of its frames."""

    sketch: FrameSketch
    seconds: Float[Tensor, " T"]


class Sketcher:
    """Makes sketches of videos and images, and keeps none.

    Args:
        source: where the vision encoder lies.
        settings: the connector's; only what shapes a sketch enters the key.
        rule: how frames are taken from a video.
        device: where sketches are computed; by default a GPU, where there is one.
        tower: the encoder of ``source``, where it is loaded already.
        digests: remembered digests of files; without them files are hashed each time.
    """

    def __init__(
        self,
        source: EncoderFolder,
        settings: ConnectorSettings,
        rule: FrameRule,
        device: torch.device | None = None,
        tower: VisionTower | None = None,
        digests: Digests | None = None,
    ) -> None:
        self.source, self.settings, self.rule, self.tower = source, settings, rule, tower
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.digests, self.threads = digests, 1

    @cached_property
    def encoder(self) -> str:
        """The encoder's identity."""
        if self.digests is None:
            return self.source.identity()
        return self.digests.get(self.source.files, self.source.identity, f"encoder {self.source.dtype}")

    @property
    def provenance(self) -> dict[str, Any]:
        """All that every sketch depends on besides its medium."""
        rule = {name: value for name, value in asdict(self.rule).items() if name not in LIMITS}
        if self.rule.fit == "squeeze":
            del rule["fit"]  # sketches of before there was a choice keep their keys
        return {"format": FORMAT, "rule": rule, "encoder": self.encoder, "sketch": sketch_settings(self.settings)}

    def key(self, media: Media) -> str:
        """Return all that the sketch of a video or image depends on; None is the blank frame of text-only rows.

        Raises:
            VideoError: if there is no such file, or it cannot be read.
        """
        return json.dumps(
            {**self.provenance, "media": "blank" if media is None else self._content(media)}, sort_keys=True
        )

    def load_entry(self, media: Media) -> bytes | None:
        """Load the entry of a sketch that was made earlier; None here. Raises VideoError as `key` does."""
        return None

    def read_with_key(self, media: Media) -> tuple[str, Clip]:
        """Read the frames of a video or image, and the key that fits them even if the file changes meanwhile.

        Raises:
            VideoError: if the file cannot be read.
        """
        key = self.key(media)
        clip = read_or_blank(media, self.rule, self.threads)
        while (now := self.key(media)) != key:
            key, clip = now, read_or_blank(media, self.rule, self.threads)
        return key, clip

    def sketch(self, media: Media, clip: Clip) -> TimedSketch:
        """Sketch the frames of a video or image; raises FeatureError that names it if its features are not finite."""
        # A loader's process cannot use a GPU that its parent has begun to use.
        device = self.device if get_worker_info() is None else torch.device("cpu")
        self.tower = (self.tower or self.source.tower()).to(device)
        try:
            with torch.autocast(device.type, enabled=False):
                sketch = sketch_frames(clip.frames.to(device), self.tower, self.settings)
        except FeatureError as error:
            raise FeatureError(f"{describe_media(media)} with {error.given}", error.needed, error.do) from error
        return TimedSketch(sketch.to("cpu"), clip.seconds)

    def try_sketch(self, media: Media, clip: Clip) -> TimedSketch | FeatureError:
        """Sketch, or return the error that this one video or image gives.

        Raises:
            FeatureError: if the blank frame cannot be sketched either: then it is the encoder or the settings.
        """
        try:
            return self.sketch(media, clip)
        except FeatureError as error:
            self.sketch(None, read_or_blank(None, self.rule))
            return error

    def _content(self, media: Path | VideoSegment | FrameFiles) -> list[Any]:
        if isinstance(media, FrameFiles):
            return ["frames", self._hash(media.paths), media.seconds, media.start, media.end, media.is_album]
        file = media.path if isinstance(media, VideoSegment) else media
        digest = self._hash((file,))
        kind = "image" if file.suffix.lower() in IMAGES else "video"
        return [kind, digest, media.start, media.end] if isinstance(media, VideoSegment) else [kind, digest]

    def _hash(self, files: tuple[Path, ...]) -> str:
        for file in files:
            media_stamp(file)
        try:
            compute = partial(hash_files, files)
            with limit_time(files[0]):
                return compute() if self.digests is None else self.digests.get(files, compute)
        except OSError as error:
            raise VideoError(
                f"{files[0]} cannot be read ({error})",
                "a file that can be opened",
                "Check its permissions and the disk.",
            ) from error


def cause(error: DynFocusError) -> str:
    """Return what is wrong, in one line."""
    return " ".join(error.given.split())


def to_tensors(timed: TimedSketch) -> dict[str, Tensor]:
    """Return a sketch as an entry holds it, without the axis of videos."""
    batched = {field.name: getattr(timed.sketch, field.name) for field in fields(FrameSketch)}
    tensors = {name: value[0] for name, value in batched.items() if value is not None}
    return tensors | {"seconds": timed.seconds}


def from_tensors(tensors: dict[str, Tensor]) -> TimedSketch:
    """Return the sketch that an entry holds."""
    batched = {name: value[None] for name, value in tensors.items() if name != "seconds"}
    return TimedSketch(FrameSketch(**batched), tensors["seconds"])


def check_layout(settings: dict[str, Any], width: int | None, layout: Layout) -> None:
    """Check that an entry's tensors are those of a sketch.

    Args:
        settings: what it was made with, as `sketch_settings` gives them.
        width: d of the encoder; None where that is not known.
        layout: of the entry's tensors.

    Raises:
        DamagedEntryError: if names, precisions or shapes are others, or there is no frame.
    """

    def length(name: str, axis: int) -> int:
        shape = layout.get(name, ("", []))[1]
        return shape[axis] if shape else 0

    precision = PRECISIONS[settings["sketch_dtype"]]
    frames, width = length("seconds", 0), width or length("pooled", -1)
    expected = {
        "pooled": (precision, [frames, settings["pooled"], width]),
        "grains": (precision, [frames, sum(settings["spatial_prototypes"]), width]),
        "mask": ("BOOL", [frames]),
        "seconds": ("F32", [frames]),
    }
    if "kept_tokens" in settings:  # the mark of sketches that hold patches
        kept = length("patch_frames", 0)
        expected["patches"] = precision, [kept, settings["patches"], width]
        expected["patch_frames"] = "I64", [kept]
        frames = min(frames, kept)
    if frames < 1 or width < 1:
        raise DamagedEntryError("it holds no frame")
    for name in sorted(expected.keys() | layout.keys()):
        if layout.get(name) != expected.get(name):
            raise DamagedEntryError(f"{name} in it is {layout.get(name)}, where a sketch has {expected.get(name)}")
