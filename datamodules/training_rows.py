"""Prepare training rows before any is read: leave out bad ones, count costs, try the first and the largest."""

from copy import copy

import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from datamodules.epoch_order import EpochOrder, Numbers
from datamodules.examples import ExampleDataset
from datamodules.sampler import ResumableBatchSampler
from dynfocus.data.doctor.examine import TrainingView
from dynfocus.data.doctor.store import Checkup, count_tokens, count_visual_tokens, find_over_long
from dynfocus.errors import DataError
from dynfocus.models.collate import Collator
from dynfocus.models.preview import audit
from dynfocus.records.skipped import Skipped
from dynfocus.types import Batch

BYTES_PER_TOKEN = 3  # of text in a token, at least, in the languages that these data sets are written in
MAX_TRIES = 32  # rows, of which at least one must be trainable


def plan_epochs(
    views: list[TrainingView], weights: dict[str, float], seed: int, group: bool
) -> tuple[EpochOrder, Numbers | None, Numbers | None]:
    """Plan which rows an epoch holds, what each costs and, to group batches, what each shows; None where unknown.

    Args:
        views: the data sets as training reads them.
        weights: how often an epoch reads each row of a set.
        seed: keys the order.
        group: whether batches are arranged; then costs have to be counted, not estimated.
    """
    checkups = {view.annotations.source.name: view.load() for view in views}
    left_out = {name: find_left_out(view, checkups[name]) for name, view in zip(checkups, views, strict=True)}
    for name, rows in left_out.items():
        if len(rows):
            rank_zero_info(f"{len(rows)} rows of {name} are left out, as `dynfocus doctor` found them")
    for view in views:
        if checkups[view.annotations.source.name] is None and (explanation := view.explain_unused()):
            rank_zero_info(explanation)
    epoch_order = EpochOrder(
        {view.annotations.source.name: len(view.annotations) for view in views}, weights, seed, left_out
    )
    costs = np.concatenate(
        [count_row_costs(view, checkups[name], not group) for name, view in zip(checkups, views, strict=True)]
    )
    kinds = np.concatenate([view.annotations.kinds for view in views]) if group else None
    return epoch_order, costs if group or (costs[epoch_order.used_rows] >= 0).all() else None, kinds


def find_left_out(view: TrainingView, checkup: Checkup | None) -> Numbers:
    """Find the numbers of the rows that the doctor found to be bad, in ascending order; none without a checkup."""
    if checkup is None:
        return np.empty(0, np.int64)
    long = find_over_long(checkup, view.collator.settings, view.collator.context)
    return np.union1d(np.array(list(checkup.bad), np.int64), long)


def count_row_costs(view: TrainingView, checkup: Checkup | None, estimate: bool) -> Numbers:
    """Count the tokens of each row's prompt, from the doctor's checkup; -1 where they are not known.

    Args:
        view: a data set as training reads it.
        checkup: what the doctor found of it, if it was run.
        estimate: whether, without a checkup, bytes of text and the frame rule may stand for tokens and frames.
    """
    rows, settings = view.annotations, view.collator.settings
    if checkup is not None:
        return count_tokens(checkup, settings)
    frames = np.choose(rows.kinds, [0, 1, view.rule.frames or -1, view.rule.frames or -1])
    slots = rows.turns.astype(np.int64) if view.collator.slots == "every" else 1
    estimated = rows.sizes.astype(np.int64) // BYTES_PER_TOKEN + slots * count_visual_tokens(frames, settings)
    return np.where(frames < 0, -1, estimated) if estimate else np.full(len(rows), -1)


def first_trainable_example(dataset: ExampleDataset, order: Numbers, collator: Collator) -> str:
    """Show the first trainable row of an epoch as the language model reads it.

    Raises:
        DataError: if none of the first 32 is trainable.
    """
    skipped_rows: list[Skipped] = []
    for index in order[:MAX_TRIES].tolist():
        example = dataset[index]
        skipped = collator([example]).skipped
        if not skipped:
            return audit(collator, example)
        skipped_rows += skipped
    raise DataError(
        f"training rows of which the first {len(skipped_rows)} give nothing to learn, such as row "
        f"{skipped_rows[0].index} of {skipped_rows[0].source}: {skipped_rows[0].cause}",
        "rows with something to show and an answer",
        "Check data.init_args.root and the files; `dynfocus doctor` with the same configs looks at every row.",
    )


def most_expensive_batch(dataset: ExampleDataset, sampler: ResumableBatchSampler, collator: Collator) -> Batch | None:
    """Make the batch that costs most in the next epoch, of trainable rows.

    None where costs are not known, or the most expensive rows cannot be read.
    """
    sampler = copy(sampler)
    for _ in range(MAX_TRIES):
        rows = sampler.most_expensive()
        if rows is None:
            return None
        batch = collator([dataset[row] for row in rows])
        if not batch.skipped:
            return batch
        assert sampler.costs is not None
        sampler.costs = sampler.costs.copy()
        sampler.costs[[row for row, record in zip(rows, batch.records, strict=True) if record is None]] = 0
    return None
