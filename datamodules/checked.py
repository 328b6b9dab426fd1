"""What is known of training rows before any is read: which are left out, and what each costs."""

from copy import copy

import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from datamodules.epochs import Mix, Numbers
from datamodules.order import ResumableBatches
from datamodules.rows import Rows
from dynfocus.data.doctor.examine import Reading
from dynfocus.data.doctor.store import Checkup, costs, over_long, visual
from dynfocus.errors import DataError
from dynfocus.models.collate import Collator
from dynfocus.models.preview import audit
from dynfocus.records.skipped import Skipped
from dynfocus.types import Batch

BYTES = 3  # of text in a token, at least, in the languages that these data sets are written in
TRIED = 32  # rows, of which one at least has to teach something


def known(
    readings: list[Reading], weights: dict[str, float], seed: int, group: bool
) -> tuple[Mix, Numbers | None, Numbers | None]:
    """What an epoch holds, what each row costs, and, to group batches, what each shows; None where it is not known.

    Args:
        readings: the data sets and how they are read.
        weights: how often an epoch reads each row of a set.
        seed: keys the order.
        group: whether batches are arranged; then what rows cost has to be counted, not estimated.
    """
    found = {reading.annotations.source.name: reading.load() for reading in readings}
    out = {name: left_out(reading, found[name]) for name, reading in zip(found, readings, strict=True)}
    for name, rows in out.items():
        if len(rows):
            rank_zero_info(f"{len(rows)} rows of {name} are left out, as `dynfocus doctor` found them")
    for reading in readings:
        if found[reading.annotations.source.name] is None and (said := reading.missed()):
            rank_zero_info(said)
    mix = Mix({reading.annotations.source.name: len(reading.annotations) for reading in readings}, weights, seed, out)
    costs = np.concatenate(
        [row_costs(reading, found[name], not group) for name, reading in zip(found, readings, strict=True)]
    )
    kinds = np.concatenate([reading.annotations.kinds for reading in readings]) if group else None
    return mix, costs if group or (costs[mix.drawn] >= 0).all() else None, kinds


def left_out(reading: Reading, found: Checkup | None) -> Numbers:
    """Numbers of the rows that the doctor found nothing to learn from, in ascending order; none where it was not."""
    if found is None:
        return np.empty(0, np.int64)
    long = over_long(found, reading.processor.settings, reading.processor.context)
    return np.union1d(np.array(list(found.bad), np.int64), long)


def row_costs(reading: Reading, found: Checkup | None, estimate: bool) -> Numbers:
    """Tokens of each row's prompt: what the doctor has counted; -1 where nothing is known.

    Args:
        reading: a data set and how it is read.
        found: what the doctor found of it.
        estimate: whether, where it was not, bytes of text and the frame rule may stand for tokens and frames.
    """
    rows, settings = reading.annotations, reading.processor.settings
    if found is not None:
        return costs(found, settings)
    frames = np.choose(rows.kinds, [0, 1, reading.rule.frames or -1])
    slots = rows.turns.astype(np.int64) if reading.processor.slots == "every" else 1
    known = rows.sizes.astype(np.int64) // BYTES + slots * visual(frames, settings)
    return np.where(frames < 0, -1, known) if estimate else np.full(len(rows), -1)


def first_lesson(data: Rows, order: Numbers, processor: Collator) -> str:
    """The first row of an epoch that can be learned from, as the language model reads it.

    Raises:
        DataError: if it is none of the first 32.
    """
    wrong: list[Skipped] = []
    for index in order[:TRIED].tolist():
        example = data[index]
        skipped = processor([example]).skipped
        if not skipped:
            return audit(processor, example)
        wrong += skipped
    raise DataError(
        f"training rows of which the first {len(wrong)} give nothing to learn, such as row {wrong[0].index} of "
        f"{wrong[0].source}: {wrong[0].cause}",
        "rows with something to show and an answer",
        "Check data.init_args.root and the files; `dynfocus doctor` with the same configs looks at every row.",
    )


def dearest_lesson(data: Rows, order: ResumableBatches, processor: Collator) -> Batch | None:
    """The batch that costs most in the epoch that is next, of rows that can be learned from.

    None where it is not known what rows cost, or the dearest ones cannot be read.
    """
    order = copy(order)
    for _ in range(TRIED):
        rows = order.most_expensive()
        if rows is None:
            return None
        batch = processor([data[row] for row in rows])
        if not batch.skipped:
            return batch
        assert order.costs is not None
        order.costs = order.costs.copy()
        order.costs[[row for row, record in zip(rows, batch.records, strict=True) if record is None]] = 0
    return None
