"""Find the frames that an index file names in their videos: frame numbers or seconds -> frames with both."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dynfocus.bridge.index_files import IndexRow
from dynfocus.bridge.picked import Picked, duration, pick
from dynfocus.bridge.rows import Asked, Chosen
from dynfocus.errors import DataError
from dynfocus.video.numbered import NumberedFrames

FEATURES = "an index file"
CLOSE = 2e-3  # seconds; containers round time stamps to milliseconds


def pick_row(video: NumberedFrames | Path, row: IndexRow) -> Picked:
    """The frames that a row of an index file names; repeated ones count once.

    A time means the frame whose time stamp is nearest, the earlier one of two.

    Raises:
        DataError: if there is none, a number or a time lies outside the video, or a row gives both and they differ.
        VideoError: if the video cannot be read.
    """
    video = video if isinstance(video, NumberedFrames) else NumberedFrames(video)
    return pick(video, list(find_numbers(video, row)))


def find_numbers(video: NumberedFrames, row: IndexRow) -> tuple[int, ...]:
    """The number of the frame that each value of a row means; raises as `pick_row` does."""
    times, end = video.times, duration(video.times)
    most = len(times) - 1 if row.unit == "frames" else end
    outside = [value for value in row.values if not 0 <= value <= most]
    if outside or not row.values:
        units = f"numbers of frames, from 0 to {most}" if row.unit == "frames" else f"seconds, from 0 to {end:.3f}"
        raise DataError(
            f"{video.path} with {f'{outside[0]:g} {row.unit}' if outside else f'no {row.unit}'} to pick",
            units,
            "Correct them, the form of the index file (its unit), or the video that they are of.",
        )
    if row.unit == "seconds":
        return tuple(find_nearest(times, row.values))
    numbers = tuple(int(value) for value in row.values)
    for number, second in zip(numbers, row.times or (), strict=row.times is not None):
        if abs(times[number] - second) > CLOSE:
            raise DataError(
                f"frame {number} of {video.path} at {times[number]:.3f} s, and at {second:.3f} s in the index file",
                "the video that the frames were chosen of",
                "Choose the frames again, or fetch the video as it was.",
            )
    return numbers


def find_nearest(times: NDArray[np.float64], seconds: Sequence[float]) -> list[int]:
    """For each second the number of the frame whose time is nearest; of two equally near ones the earlier."""
    between = (times[1:] + times[:-1]) / 2
    return np.searchsorted(between, np.asarray(seconds, float)).tolist()


def join_rows(rows: Sequence[IndexRow], questions: Sequence[Asked], source: str) -> list[IndexRow]:
    """The row of each question: by its id, or by its number where the file's rows have none.

    Raises:
        DataError: if a row belongs to no question, or a question has no row or two.
    """
    numbered = any(row.id is None for row in rows)
    names = [str(place) if numbered else asked.id for place, asked in enumerate(questions)]
    by_name: dict[str, IndexRow] = {}
    wrong = None
    for row in rows:
        name = str(row.place) if row.id is None else row.id
        wrong = wrong or (f"two rows of {name!r}" if name in by_name else None)
        wrong = wrong or (None if name in set(names) else f"a row of {name!r}, which is no question")
        by_name[name] = row
    lost = [name for name in names if name not in by_name]
    if wrong or lost:
        raise DataError(
            f"{source} with {wrong or f'no row of {lost[0]!r}'}",
            f"one row for each of the {len(questions)} questions",
            "Name the questions that the file was made for.",
        )
    return [by_name[name] for name in names]


def resolve_index(rows: Sequence[IndexRow], questions: Sequence[Asked], source: str) -> list[Chosen]:
    """Find the frames of an index file in the videos of its questions; ``source`` names the file in errors.

    Raises:
        DataError: as `join_rows` and `pick_row`.
        VideoError: if a video cannot be read.
    """
    opened: dict[Path, NumberedFrames] = {}
    result = []
    for asked, row in zip(questions, join_rows(rows, questions, source), strict=True):
        if asked.path not in opened:
            opened = {asked.path: NumberedFrames(asked.path)}  # rows of one video mostly stand together
        video = opened[asked.path]
        try:
            numbers = find_numbers(video, row)
        except DataError as error:
            raise DataError(f"{source}, row of {asked.id!r}: {error.given}", error.needed, error.do) from error
        picked = pick(video, list(numbers), row.scores, numbers)
        result.append(Chosen.of(asked, picked, source, FEATURES, len(picked.frames)))
    return result
