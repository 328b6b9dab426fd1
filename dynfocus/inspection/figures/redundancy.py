"""Figure 1a: how many frames of a data set repeat what was seen, and how many a question does not need.

*Repeated* is a frame that is nearer than a threshold to an earlier frame of its video. The distance has the form of
Eq. 1's, the mean squared difference of two pooled frames, and is taken between the pixels of frames pooled to 16 x 16,
as its root, in grey levels of 255. Pixels, because every data set has them: no encoder is chosen, and a grey level is
one everywhere. The default threshold was chosen on 60 videos of the embedded world, where it is known which frame
shows what was seen before; on 200 others it decides as the truth does for 99 % of the frames. A moving camera makes
pixels new where the content is old: there the share is a lower bound.

*Irrelevant* to a question is a frame outside every event that it needs; known only where questions name their frames.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dynfocus.data.annotations.dataset import Annotations
from dynfocus.errors import DataError, VideoError
from dynfocus.records.rows import Question, Row, VideoSegment
from dynfocus.settings import FrameRule

THRESHOLD = 20.0  # grey levels of 255
SIDE = 16  # cells that a frame is pooled to, across and down
VIDEO = 2  # among the kinds of `Annotations`
BLOCK = 512  # frames whose distances are held at once
Numbers = NDArray[np.float64]


@dataclass
class Redundancy:
    """What was found in the videos of some rows.

    Attributes:
        source: the data set's name.
        before: each frame's distance to the one before it; infinite for the first of a video.
        earlier: each frame's distance to the nearest of all earlier ones of its video; likewise.
        videos: how many were read.
        failed: what was wrong with those that were not.
        irrelevant: for each kind of question, the share of its video's frames that each question does not need.
        named: whether each of these questions names its frames; one that does not needs all of them.
    """

    source: str
    before: Numbers = field(default_factory=lambda: np.empty(0))
    earlier: Numbers = field(default_factory=lambda: np.empty(0))
    videos: int = 0
    failed: list[VideoError] = field(default_factory=list)
    irrelevant: dict[str, list[float]] = field(default_factory=dict)
    named: dict[str, list[bool]] = field(default_factory=dict)

    @property
    def knows(self) -> bool:
        """Whether any question names the frames it needs."""
        return any(any(some) for some in self.named.values())

    def shares(self, naming: bool = False) -> list[float]:
        """What each question does not need; ``naming`` leaves out questions that name no frames."""
        return [
            share
            for kind, some in self.irrelevant.items()
            for share, named in zip(some, self.named[kind], strict=True)
            if named or not naming
        ]


def measure(annotations: Annotations, rows: int, fps: float | None = 1.0) -> Redundancy:
    """Look at ``rows`` rows with a video, evenly spread over the data set; each video is read once.

    Raises:
        DataError: if no row has a video, or a question names a frame that its video does not have.
        VideoError: if no video can be read.
    """
    found, known = Redundancy(annotations.source.name), dict[str, int]()
    rule, before, earlier = FrameRule(size=SIDE, fps=fps, interpolation="box"), [], []
    for row in tqdm(list(_spread(annotations, rows)), desc="reading videos", unit="row", delay=3, leave=False):
        address = str(annotations.address(row))
        if address not in known:
            try:
                frames = pixels(annotations.find(row), rule)
            except VideoError as error:
                known[address] = 0
                found.failed.append(error)
                continue
            known[address] = len(frames)
            near = distances(frames)
            before.append(near[0])
            earlier.append(near[1])
        if known[address]:
            _relevance(found, row, known[address])
    if not before:
        raise VideoError(
            f"{found.source} with {len(found.failed)} videos, of which none can be read ({found.failed[0].given})",
            "videos that are there",
            "Check the folders of the data set.",
        )
    found.before, found.earlier, found.videos = np.concatenate(before), np.concatenate(earlier), len(before)
    return found


def pixels(media: Path | VideoSegment | None, rule: FrameRule) -> Numbers:
    """The frames of a video that a rule takes, each as one row of numbers in [0, 255]; raises VideoError."""
    from dynfocus.video import read_media

    assert media is not None
    frames = read_media(media, rule).frames.numpy()
    return frames.reshape(len(frames), -1).astype(np.float64)


def distances(frames: Numbers) -> tuple[Numbers, Numbers]:
    """Each frame's distance to the one before it and to the nearest of all earlier ones; infinite for the first.

    Shapes: [T, numbers] -> [T] and [T], the root of the mean squared difference.
    """
    count, width = frames.shape
    before, earlier = np.full(count, np.inf), np.full(count, np.inf)
    before[1:] = np.sqrt(np.square(np.diff(frames, axis=0)).mean(1))
    squares = np.square(frames).sum(1)
    for start in range(0, count, BLOCK):
        part = slice(start, start + BLOCK)
        stop = min(start + BLOCK, count)
        gaps = squares[part, None] + squares[:stop] - 2 * frames[part] @ frames[:stop].T
        later = np.arange(stop) >= np.arange(start, stop)[:, None]
        nearest = np.where(later, np.inf, gaps.clip(min=0)).min(1)
        earlier[part] = np.sqrt(nearest / width)
    return before, np.minimum(before, earlier)  # a product rounds otherwise than a difference


def repeated(nearest: Numbers, threshold: float) -> float:
    """The share of frames that are nearer than ``threshold``."""
    return float((nearest < threshold).mean())


def _spread(annotations: Annotations, rows: int) -> Iterator[Row]:
    shown = np.flatnonzero(annotations.kinds == VIDEO)
    if not len(shown):
        raise DataError(
            f"{annotations.source.name}, {len(annotations)} rows and no video among them",
            "rows about videos",
            "Name another annotation file.",
        )
    chosen = np.unique(np.linspace(0, len(shown) - 1, min(rows, len(shown))).round().astype(int))
    return (annotations[int(index)] for index in shown[chosen])


def _relevance(found: Redundancy, row: Row, frames: int) -> None:
    for question in row.questions:
        found.irrelevant.setdefault(question.kind, []).append(_unneeded(question, row, frames))
        found.named.setdefault(question.kind, []).append(bool(question.events))


def _unneeded(question: Question, row: Row, frames: int) -> float:
    needed = {frame for event in question.events for frame in event}
    if needed and not 0 <= min(needed) <= max(needed) < frames:
        raise DataError(
            f"row {row.id}, whose question needs frame {max(needed)} of {row.media}, of which {frames} were read",
            "frames that the video has",
            "Take as many frames a second as the rows count in (--fps), or mend the row.",
        )
    return 1 - len(needed) / frames if needed else 0.0
