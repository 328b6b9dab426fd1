"""Decode frames of the embedded world, and label what each of their patches shows."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from dynfocus.errors import DataError
from dynfocus.settings import FrameRule
from dynfocus.video import read_media
from dynfocus.world.recipes import read_settings
from dynfocus.world.videos import CELLS, COLORS, PLACES, SHAPES, WorldVideo, generator, sample_image, sample_video

SIZE = 48
PATCH = 8
SIDE = SIZE // PATCH
# Each patch has one word of each category or, but for places, none: the index after the last word.
CATEGORIES: dict[str, tuple[str, ...]] = {"color": COLORS, "shape": SHAPES, "cell": CELLS, "place": PLACES}
UNKNOWN = -100  # no place can be seen in a glitch


@dataclass(frozen=True)
class LabelledFrames:
    """Frames ``[M, 48, 48, 3]`` and what each of their patches shows, ``[M, 36, 4]``, in the order of `CATEGORIES`."""

    frames: UInt8[Tensor, "M H W 3"]
    labels: Int[Tensor, "M N 4"]

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def eventful(self) -> Tensor:
        """Bool ``[M]``: which frames show things."""
        return (self.labels[..., 0] < len(COLORS)).any(1)


def patch_labels(video: WorldVideo, frame: int) -> NDArray[np.int64]:
    """Label what each patch of a frame shows: ``[36, 4]`` indices into the words of `CATEGORIES`."""
    scene, labels = video.scene_at(frame), np.empty((SIDE, SIDE, 4), np.int64)
    labels[..., :3] = [len(COLORS), len(SHAPES), len(CELLS)]
    labels[..., 3] = UNKNOWN if frame in video.glitches else PLACES.index(scene.place)
    if scene.event and frame in scene.event.frames:
        for thing in scene.event.things:
            row, column = divmod(CELLS.index(thing.cell), 3)
            cell = [COLORS.index(thing.color), SHAPES.index(thing.shape), CELLS.index(thing.cell)]
            labels[2 * row : 2 * row + 2, 2 * column : 2 * column + 2, :3] = cell
    return labels.reshape(SIDE * SIDE, 4)


def read_labelled(
    data: Path, rows: str, videos: int, images: int = 0, plain: int = 3, progress: bool = True, position: int = 0
) -> LabelledFrames:
    """Decode videos and images that a rows file of a written world names, and label their patches.

    Args:
        data: a folder of `dynfocus.world.dataset.write_world`.
        rows: the rows file, such as ``stage1``.
        videos, images: how many of each to read, at most.
        plain: frames taken from each video beside all that show things, glitches among them.
        progress, position: whether to show bars, and on which line.

    Raises:
        DataError: if the folder is no written world, or holds no such rows.
    """
    path = Path(data) / f"{rows}.json"
    if not path.is_file():
        raise DataError(f"no {path}", "the data set of the embedded world", "Write it first: `make world`.")
    world = read_settings(json.loads((Path(data) / "world.json").read_text()))
    media = {}
    for row in json.loads(path.read_text()):
        for kind in ("video", "image"):
            if kind in row:
                media[row[kind]] = (kind, row["seed"], row["index"])
    rule = FrameRule(size=SIZE, interpolation="box")
    frames, labels = [], []
    for kind, most in (("video", videos), ("image", images)):
        names = sorted(name for name in media if media[name][0] == kind)[:most]
        for name in tqdm(names, desc=f"frames of {rows} {kind}s", leave=False, disable=not progress, position=position):
            _, seed, index = media[name]
            video = (sample_video if kind == "video" else sample_image)(seed, index, world)
            clip = read_media(Path(data) / name, rule).frames
            if len(clip) != video.length:
                raise DataError(
                    f"{name} of {len(clip)} frames", f"{video.length}, as it was written", "Write it again."
                )
            for frame in _pick_frames(video, plain):
                frames.append(clip[frame])
                labels.append(torch.from_numpy(patch_labels(video, frame)))
    if not frames:
        raise DataError(f"{path} names no video and no image", "at least one", "Write the world again.")
    return LabelledFrames(torch.stack(frames), torch.stack(labels))


def _pick_frames(video: WorldVideo, plain: int) -> list[int]:
    eventful = {frame for scene in video.eventful for frame in scene.event.frames}  # type: ignore[union-attr]
    rest = [frame for frame in range(video.length) if frame not in eventful]
    some = generator(video.seed, video.index, 9).permutation(rest)[:plain]
    return sorted(eventful | {int(frame) for frame in some})
