"""Make selections and inspections of any length, as DPE leaves them, over frames of one colour each."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dynfocus.inspection.content import Inspection
from dynfocus.records.selections import Selection
from dynfocus.settings import ConnectorSettings, count_kept, prototypes

SETTINGS = ConnectorSettings(events=8, keep=0.5)


def choose(frames: int, seed: int = 0, settings: ConnectorSettings = SETTINGS, **fields: object) -> Selection:
    """A selection of ``frames`` frames, one a second, that agrees with itself."""
    draw, count, keep = np.random.default_rng(seed), prototypes(frames, settings), count_kept(frames, settings)
    peaks = draw.gamma(1, 0.3, frames)
    representatives = np.sort(np.argsort(-peaks)[:count])
    nearest = np.abs(representatives[:, None] - np.arange(frames)).argmin(0)
    scores = draw.permutation(np.linspace(0, 1, count))
    best = np.sort(representatives[np.argsort(-scores, kind="stable")[:keep]])
    parts = {
        "peaks": tuple(peaks.tolist()),
        "nearest": tuple(nearest.tolist()),
        "representatives": tuple(representatives.tolist()),
        "scores": tuple(scores.tolist()),
    }
    seconds = tuple(map(float, range(frames)))
    return Selection(seconds, tuple(best.tolist()), 38 * keep, 2 * frames, **(parts | fields))  # type: ignore[arg-type]


def color(frame: int) -> tuple[int, int, int]:
    """The one colour of a frame; no two of the first thousands share it, and none is a colour of the drawing."""
    return (255, frame * 37 % 256, 255 - frame // 7 % 128)


def plain_frames(frames: int, height: int = 48, width: int = 48) -> list[NDArray[np.uint8]]:
    """Frames of one colour each."""
    return [np.full((height, width, 3), color(frame), np.uint8) for frame in range(frames)]


def inspection(frames: int, seed: int = 0, **fields: object) -> Inspection:
    """An inspection with frames."""
    return Inspection(
        choose(frames, seed),
        plain_frames(frames),
        "a title",
        "what color is the star ?",
        "star red",
        **fields,
    )  # type: ignore[arg-type]


class CountedFrames(Sequence[NDArray[np.uint8]]):
    """Frames that remember which of them were looked at."""

    def __init__(self, frames: int) -> None:
        self.frames, self.read = frames, set[int]()

    def __len__(self) -> int:
        return self.frames

    def __getitem__(self, index: int) -> NDArray[np.uint8]:  # type: ignore[override]
        self.read.add(range(self.frames)[index])
        return np.random.default_rng(index).integers(0, 256, (160, 160, 3), dtype=np.uint8)
