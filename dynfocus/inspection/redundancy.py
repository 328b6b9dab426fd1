"""Measure how many frames of a data set repeat what was seen, and how many a question does not need (Figure 1a).

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
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dynfocus.data.annotations.dataset import Annotations
from dynfocus.errors import DataError, VideoError
from dynfocus.records.rows import FrameFiles, Question, Row, VideoSegment
from dynfocus.settings import FrameRule

THRESHOLD = 20.0  # grey levels of 255
SIDE = 16  # cells that a frame is pooled to, across and down
VIDEO = 2  # among the kinds of `Annotations`
BLOCK = 512  # frames whose distances are computed at once
Numbers = NDArray[np.float64]


class Need(NamedTuple):
    """What one question needs of its video.

    Attributes:
        group: of the question.
        irrelevant: the share of the video's frames that it does not need.
        names_frames: whether it names the frames it needs; one that does not needs all of them.
    """

    group: str
    irrelevant: float
    names_frames: bool


@dataclass
class Redundancy:
    """How the frames of some rows' videos repeat, and what their questions need.

    Attributes:
        source: the data set's name.
        before: each frame's distance to the one before it; infinite for the first of a video.
        earlier: each frame's distance to the nearest of all earlier ones of its video; likewise.
        videos: how many were read.
        failed: what was wrong with those that were not.
        questions: what each question needs of its video.
    """

    source: str
    before: Numbers = field(default_factory=lambda: np.empty(0))
    earlier: Numbers = field(default_factory=lambda: np.empty(0))
    videos: int = 0
    failed: list[VideoError] = field(default_factory=list)
    questions: list[Need] = field(default_factory=list)


def measure(annotations: Annotations, rows: int, fps: float | None = 1.0) -> Redundancy:
    """Look at ``rows`` rows with a video, evenly spread over the data set; each video is read once.

    Raises:
        DataError: if no row has a video, or a question names a frame that its video does not have.
        VideoError: if no video can be read.
    """
    redundancy, counts = Redundancy(annotations.source.name), dict[str, int]()
    rule, before, earlier = FrameRule(size=SIDE, fps=fps, interpolation="box"), [], []
    for row in tqdm(list(spread_rows(annotations, rows)), desc="reading videos", unit="row", delay=3, leave=False):
        address = str(annotations.address(row))
        if address not in counts:
            try:
                frames = read_pixels(annotations.find(row), rule)
            except VideoError as error:
                counts[address] = 0
                redundancy.failed.append(error)
                continue
            counts[address] = len(frames)
            near = measure_distances(frames)
            before.append(near[0])
            earlier.append(near[1])
        if counts[address]:
            for question in row.questions:
                share = share_unneeded(question, row, counts[address])
                redundancy.questions.append(Need(question.group, share, bool(question.segments)))
    if not before:
        failed = redundancy.failed
        raise VideoError(
            f"{redundancy.source} with {len(failed)} videos, of which none can be read ({failed[0].given})",
            "videos that are there",
            "Check the folders of the data set.",
        )
    redundancy.before, redundancy.earlier = np.concatenate(before), np.concatenate(earlier)
    redundancy.videos = len(before)
    return redundancy


def read_pixels(media: Path | VideoSegment | FrameFiles | None, rule: FrameRule) -> Numbers:
    """The frames of a video that a rule takes, each as one row of numbers in [0, 255]; raises VideoError."""
    from dynfocus.video import read_media

    assert media is not None
    frames = read_media(media, rule).frames.numpy()
    return frames.reshape(len(frames), -1).astype(np.float64)


def measure_distances(frames: Numbers) -> tuple[Numbers, Numbers]:
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


def share_below(nearest: Numbers, threshold: float) -> float:
    """The share of frames that are nearer than ``threshold``."""
    return float((nearest < threshold).mean())


def spread_rows(annotations: Annotations, count: int) -> Iterator[Row]:
    """So many rows about videos, evenly over the data set; raises DataError if there is none."""
    rows = np.flatnonzero(annotations.kinds == VIDEO)
    if not len(rows):
        raise DataError(
            f"{annotations.source.name}, {len(annotations)} rows and no video among them",
            "rows about videos",
            "Name another annotation file.",
        )
    places = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))
    return (annotations[int(index)] for index in rows[places])


def share_unneeded(question: Question, row: Row, frames: int) -> float:
    """The share of the video's frames that the question does not need; raises DataError if it lacks one it needs."""
    needed = {frame for segment in question.segments for frame in segment}
    if needed and not 0 <= min(needed) <= max(needed) < frames:
        raise DataError(
            f"row {row.id}, whose question needs frame {max(needed)} of {row.media}, of which {frames} were read",
            "frames that the video has",
            "Take as many frames a second as the rows count in (--fps), or mend the row.",
        )
    return 1 - len(needed) / frames if needed else 0.0
