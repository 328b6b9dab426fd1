"""What is known of training rows before any is read: which are left out, and what each costs."""

import numpy as np

from datamodules.epochs import Numbers
from datamodules.rows import Rows
from dynfocus.audit import audit
from dynfocus.doctor.checkup import Checkup, costs, over_long, visual
from dynfocus.doctor.examining import Reading
from dynfocus.errors import DataError
from dynfocus.processor import Processor
from dynfocus.records import Skipped

BYTES = 3  # of text in a token, at least, in the languages that these data sets are written in
TRIED = 32  # rows, of which one at least has to teach something


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
    known = rows.sizes.astype(np.int64) // BYTES + visual(frames, settings)
    return np.where(frames < 0, -1, known) if estimate else np.full(len(rows), -1)


def first_lesson(data: Rows, order: Numbers, processor: Processor) -> str:
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
