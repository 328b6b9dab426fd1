"""Each video's sketch, computed once by the frozen encoder and kept on disk."""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from dynfocus.disk import whole
from dynfocus.nn import backbones
from dynfocus.nn.sketch import sketch_frames
from dynfocus.settings import ConnectorSettings, FrameRule
from dynfocus.types import FrameSketch
from dynfocus.video import read_media

SKETCH_SETTINGS = ("patches", "pooled", "spatial_prototypes", "spatial_neighbours", "neighbourhood", "sketch_dtype")


class SketchCache:
    """Sketches on disk, under a key of the file, the frame rule, the encoder and the sketch's settings.

    Args:
        folder: where entries lie.
        encoders: checkpoint folder of the vision encoder.
        settings: the connector's; only what shapes a sketch enters the key.
        rule: how frames are taken from a video.
    """

    def __init__(self, folder: Path, encoders: Path, settings: ConnectorSettings, rule: FrameRule) -> None:
        self.folder, self.encoders, self.settings, self.rule = Path(folder), Path(encoders), settings, rule
        shape = {name: getattr(settings, name) for name in SKETCH_SETTINGS}
        weights = [_stamp(file) for file in sorted(backbones.existing(self.encoders).glob("*.safetensors"))]
        self.common = [asdict(rule), shape, settings.kept_tokens == 256, weights]

    def path(self, media: Path | None) -> Path:
        """Where the sketch of a video or image lies; None is the blank frame of text-only rows."""
        key = json.dumps([_stamp(media) if media else "blank", *self.common])
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.safetensors"

    def read(self, media: Path | None) -> FrameSketch:
        """The sketch of one video (B = 1), which `fill` must have computed."""
        tensors = {name: tensor.float()[None] for name, tensor in load_file(self.path(media)).items()}
        return FrameSketch(mask=torch.ones(1, tensors["pooled"].shape[1], dtype=torch.bool), **tensors)

    def fill(self, media: Iterable[Path | None], workers: int = 2) -> int:
        """Compute the sketches that are missing or unreadable, with progress; returns how many there were.

        Raises:
            DiskError: if there is no room; nothing half-written is left.
        """
        missing = [medium for medium in dict.fromkeys(media) if not self._readable(medium)]
        if not missing:
            return 0
        config = backbones.read_config(self.encoders)
        tower = backbones.VisionTower(
            backbones.InstructBlipVisionConfig(**config["vision_config"]), config["image_mean"], config["image_std"]
        )
        backbones.load_part(tower.encoder, self.encoders, "vision_model.")
        tower.eval().to("cuda" if torch.cuda.is_available() else "cpu")
        frames = DataLoader(_Frames(missing, self.rule), batch_size=None, num_workers=min(workers, len(missing)))
        progress = tqdm(zip(missing, frames, strict=True), total=len(missing), desc="sketches", unit="video")
        for medium, clip in progress:
            self._write(medium, sketch_frames(clip.to(next(tower.parameters()).device), tower, self.settings))
        return len(missing)

    def _readable(self, media: Path | None) -> bool:
        try:
            load_file(self.path(media))
        except (OSError, SafetensorError):
            return False
        return True

    def _write(self, media: Path | None, sketch: FrameSketch) -> None:
        rounded = getattr(torch, self.settings.sketch_dtype)
        named = {"pooled": sketch.pooled, "grains": sketch.grains, "patches": sketch.patches}
        with whole(self.path(media)) as part:
            save_file({k: v[0].to(rounded).cpu().contiguous() for k, v in named.items() if v is not None}, part)


def blank(rule: FrameRule) -> torch.Tensor:
    """The one grey frame that text-only rows bring."""
    return torch.full((1, rule.size, rule.size, 3), 128, dtype=torch.uint8)


def read_frames(media: Path | None, rule: FrameRule) -> torch.Tensor:
    """The frames of a video or image [T,H,W,3], or the blank frame."""
    return blank(rule) if media is None else read_media(media, rule).frames


class _Frames(Dataset):
    def __init__(self, media: list[Path | None], rule: FrameRule) -> None:
        self.media, self.rule = media, rule

    def __len__(self) -> int:
        return len(self.media)

    def __getitem__(self, index: int) -> torch.Tensor:
        return read_frames(self.media[index], self.rule)


def _stamp(file: Path) -> list:
    found = os.stat(file)
    return [str(Path(file).resolve()), found.st_size, found.st_mtime_ns]
