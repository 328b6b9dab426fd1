"""Collect a few videos of a data set to watch during training, each with one question and thumbnails."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from datamodules.examples import ExampleDataset, as_example
from datamodules.training_rows import MAX_TRIES
from dynfocus.data.annotations.dataset import Annotations
from dynfocus.data.sketches.sketcher import ITEM_ERRORS
from dynfocus.models.collate import Collator, Example
from dynfocus.records.rows import Row
from dynfocus.types import Batch
from dynfocus.video.thumbnails import Thumbnails

MAX_SEARCHED = 1000  # rows that are read to find them
Candidate = tuple[Row, Annotations, int]  # a row as its data set has it, and its number among those of all sets


@dataclass(frozen=True)
class ProbeVideos:
    """Videos that the model answers about again and again during training.

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


def collect_probes(dataset: ExampleDataset, collator: Collator, videos: int) -> ProbeVideos | None:
    """Collect the first videos that can be read, those first whose question has relevant frames.

    Where a data set shows no video its images are taken; None where it shows nothing, or nothing that can be read.

    Args:
        data: the rows, of which the first thousand that show a video are searched.
        processor: makes the batch.
        videos: at most so many.
    """
    collator = replace(collator, skip_invalid=True)
    examples: list[Example] = []
    seconds, frames = [], []
    for row, annotations, number in islice(find_candidates(dataset), videos + MAX_TRIES):
        try:
            media = dataset.read_media(row, annotations)
        except ITEM_ERRORS:
            continue  # training reports the row
        example, times = as_example(replace(row, index=number), media), tuple(media.seconds.tolist())
        if collator([example]).skipped:
            continue
        examples.append(example)
        seconds.append(times)
        frames.append(open_thumbnails(row, annotations, dataset, times))
        if len(examples) == videos:
            break
    if not examples:
        return None
    return ProbeVideos(tuple(one.row for one in examples), tuple(seconds), collator(examples), tuple(frames))


def find_candidates(dataset: ExampleDataset) -> Iterator[Candidate]:
    """Yield one row of one turn for each video, those first whose question has relevant frames."""
    by_media: dict[tuple[str, str | None, tuple[float, float] | None], Candidate] = {}
    for annotations, place, number in islice(rows_with_media(dataset), MAX_SEARCHED):
        try:
            row = keep_one_turn(annotations[place])
        except ITEM_ERRORS:
            continue
        key = (annotations.source.name, row.media, row.span)
        if key not in by_media or (has_events(row) and not has_events(by_media[key][0])):
            by_media[key] = row, annotations, number
    yield from sorted(by_media.values(), key=lambda one: not has_events(one[0]))


def rows_with_media(dataset: ExampleDataset) -> Iterator[tuple[Annotations, int, int]]:
    """Yield the rows that show a video, or an image where there is no video: data set, number in it, number of all."""
    kind = 2 if any((annotations.kinds == 2).any() for annotations in dataset.sets) else 1
    for start, annotations in zip(dataset.starts, dataset.sets, strict=False):
        for place in np.flatnonzero(annotations.kinds == kind).tolist():
            yield annotations, place, start + place


def keep_one_turn(row: Row) -> Row:
    """Keep the first turn of a row whose question has relevant frames, or else its first turn."""
    turn = next((n for n, question in enumerate(row.questions) if question.segments), 0)
    return replace(row, turns=row.turns[turn : turn + 1], questions=row.questions[turn : turn + 1])


def has_events(row: Row) -> bool:
    return any(question.segments for question in row.questions)


def open_thumbnails(
    row: Row, annotations: Annotations, dataset: ExampleDataset, seconds: tuple[float, ...]
) -> Thumbnails | None:
    """Open the frames at a size to look at; None where the file is absent, as with sketches from elsewhere."""
    try:
        media = annotations.find(row)
        assert media is not None
        frames = Thumbnails(media, seconds, dataset.rule)
        frames[0]
    except ITEM_ERRORS:
        return None
    return frames
