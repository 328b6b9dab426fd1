"""A few videos of a data set that are looked at again and again, each with one question and thumbnails."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from datamodules.checked import TRIED
from datamodules.rows import BROKEN, Rows, beside
from dynfocus.data.annotations.dataset import Annotations
from dynfocus.models.collate import Collator, Example
from dynfocus.records.rows import Row
from dynfocus.types import Batch
from dynfocus.video.thumbnails import Thumbnails

SEARCHED = 1000  # rows that are read to find them
Candidate = tuple[Row, Annotations, int]  # a row as its data set has it, and its number among those of all sets


@dataclass(frozen=True)
class Probed:
    """Videos that are looked at again and again.

    Attributes:
        rows: for each video a row with one turn, whose answer the batch leaves open.
        seconds: the time stamps of each video's frames.
        batch: all of them, collated.
        frames: each video's frames at a size to look at; None where its file is not at hand.
    """

    rows: tuple[Row, ...]
    seconds: tuple[tuple[float, ...], ...]
    batch: Batch
    frames: tuple[Thumbnails | None, ...]


def probing(data: Rows, processor: Collator, videos: int) -> Probed | None:
    """The first videos that can be read, those first of which a question knows the frames that it needs.

    Where a data set shows no video its images are taken; None where it shows nothing, or nothing that can be read.

    Args:
        data: the rows, of which the first thousand that show a video are searched.
        processor: makes the batch.
        videos: at most so many.
    """
    processor = replace(processor, lenient=True)
    examples: list[Example] = []
    seconds, frames = [], []
    for row, annotations, number in islice(candidates(data), videos + TRIED):
        try:
            seen = data.seen(row, annotations)
        except BROKEN:
            continue  # whoever learns from the row says so
        example, times = beside(replace(row, index=number), seen), tuple(seen.seconds.tolist())
        if processor([example]).skipped:
            continue
        examples.append(example)
        seconds.append(times)
        frames.append(thumbnails(row, annotations, data, times))
        if len(examples) == videos:
            break
    if not examples:
        return None
    return Probed(tuple(one.row for one in examples), tuple(seconds), processor(examples), tuple(frames))


def candidates(data: Rows) -> Iterator[Candidate]:
    """One row of one turn for each video, those first whose question knows the frames that it needs."""
    found: dict[tuple[str, str | None, tuple[float, float] | None], Candidate] = {}
    for annotations, place, number in islice(showing(data), SEARCHED):
        try:
            row = one_turn(annotations[place])
        except BROKEN:
            continue
        shown = (annotations.source.name, row.media, row.span)
        if shown not in found or (knows(row) and not knows(found[shown][0])):
            found[shown] = row, annotations, number
    yield from sorted(found.values(), key=lambda one: not knows(one[0]))


def showing(data: Rows) -> Iterator[tuple[Annotations, int, int]]:
    """The rows that show a video, or an image where there is no video: their data set, number in it, and of all."""
    kind = 2 if any((annotations.kinds == 2).any() for annotations in data.sets) else 1
    for start, annotations in zip(data.starts, data.sets, strict=False):
        for place in np.flatnonzero(annotations.kinds == kind).tolist():
            yield annotations, place, start + place


def one_turn(row: Row) -> Row:
    """The row with the first turn whose question knows the frames that it needs, or else with its first."""
    turn = next((n for n, question in enumerate(row.questions) if question.events), 0)
    return replace(row, turns=row.turns[turn : turn + 1], questions=row.questions[turn : turn + 1])


def knows(row: Row) -> bool:
    return any(question.events for question in row.questions)


def thumbnails(row: Row, annotations: Annotations, data: Rows, seconds: tuple[float, ...]) -> Thumbnails | None:
    """The frames at a size to look at; None where the file is not at hand, as with sketches from elsewhere."""
    try:
        media = annotations.find(row)
        assert media is not None
        frames = Thumbnails(media, seconds, data.rule)
        frames[0]
    except BROKEN:
        return None
    return frames
