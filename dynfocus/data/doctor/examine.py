"""Check every row of data sets as training will read it, and store which rows cannot be learned from."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dynfocus.data.annotations.dataset import Annotations
from dynfocus.data.doctor.findings import Findings, summarize_checkup
from dynfocus.data.doctor.pool import Workers
from dynfocus.data.doctor.reuse import explain_unused, reuse_frames
from dynfocus.data.doctor.store import Checkup, RowCost, count_tokens, count_visual_tokens, find_over_long
from dynfocus.data.sketches.cache import SketchCache
from dynfocus.errors import ContextLengthError, DynFocusError, PromptError
from dynfocus.models.collate import Collator
from dynfocus.records.rows import FrameFiles, Row, VideoSegment
from dynfocus.records.skipped import Skipped, describe_skipped
from dynfocus.settings import FrameRule
from dynfocus.video import read_media

ROWS = 64  # rows that a worker checks at a time; of media one
ROW_ERRORS = (DynFocusError, OSError, MemoryError)
CALLS = ("truncation", "padding")  # parts of a tokenizer that each call changes
WORKER_DIED = RuntimeError("the process that reads it dies of it")


@dataclass(frozen=True)
class TrainingView:
    """A data set as training reads it.

    Attributes:
        annotations: its rows.
        processor: makes prompts of them, with answers.
        rule: how frames are taken from a video.
        cache: where training finds sketches; a medium with a sketch needs no decoding.
    """

    annotations: Annotations
    collator: Collator
    rule: FrameRule
    cache: SketchCache | None = None

    @property
    def key(self) -> dict[str, Any]:
        """All that a checkup's numbers depend on, which excludes the connector's settings and the context."""
        annotations, collator = self.annotations, self.collator
        places = {"folder": os.path.realpath(self._home), "links": annotations.links, "stamp": annotations.stamp}
        rule = asdict(self.rule)
        del rule["fit"]  # how frames become square does not change what can be read
        return {
            "source": annotations.source.name,
            "annotations": asdict(annotations.source) | places,
            "rule": rule,
            "tokenizer": _digest_tokenizer(collator.tokenizer),
            "prompt": {
                "template": collator.prompt,
                "system_prompt": collator.system_prompt,
                "slots": collator.slots,
                "seed": collator.seed,
            },
        }

    @property
    def _home(self) -> Path:
        return self.annotations.root / self.annotations.source.folder

    def open(self) -> Checkup:
        """Open the checkup for the doctor to go on with; raises DataError, DiskError."""
        return Checkup.open(self.annotations.folder, self.key, len(self.annotations))

    def load(self) -> Checkup | None:
        """Load the checkup for training; None where the doctor has not finished one. Raises DataError."""
        return Checkup.load(self.annotations.folder, self.key, len(self.annotations))

    def explain_unused(self) -> str | None:
        """Explain why `load` gives None though the doctor was run here; else None. Raises DataError."""
        return explain_unused(self.annotations.folder, self.key, len(self.annotations))

    def check_rows(self, numbers: Sequence[int]) -> list[RowCost | Skipped]:
        """Return what each row costs besides frames and which medium it shows, or the record of a bad row."""
        return [self._check_row(number) for number in numbers]

    def check_media(self, groups: Sequence[Sequence[int]]) -> list[int | list[Skipped]]:
        """Return the frames of the medium that each group of rows shows, or the records of its bad rows."""
        return [self._check_medium(group) for group in groups]

    def _check_row(self, number: int) -> RowCost | Skipped:
        try:
            row = self.annotations[number]
        except ROW_ERRORS as error:
            return self.make_skipped(number, None, error)
        try:
            measured = self.collator.measure(row, 1, number)
        except PromptError as error:
            return self.make_skipped(number, row, error)
        medium = 0
        if row.media is not None:
            try:
                medium = self._media_number(self._shard_address(row) or self.annotations.find(row))
            except ROW_ERRORS as error:
                return self.make_skipped(number, row, error)
        return RowCost(measured.text, measured.slots, measured.targets, medium, measured.unknown)

    def _check_medium(self, group: Sequence[int]) -> int | list[Skipped]:
        try:
            return self._count_frames(self.annotations[group[0]])
        except ROW_ERRORS as error:
            return [self.make_skipped(number, self.annotations[number], error) for number in group]

    def _count_frames(self, row: Row) -> int:
        address = self._shard_address(row)
        medium = None if address is not None else self.annotations.find(row)
        count = None if self.cache is None else self.cache.frames(medium, address)
        if count is not None:
            return count
        assert medium is not None
        return len(read_media(medium, self.rule).frames)

    def _shard_address(self, row: Row) -> str | None:
        """Return the address of what a row shows, where shards hold it: then training needs no file.

        Raises:
            DataError: if its name leads out of its folder.
            VideoError, FeatureError: if no sketch could be made of it when the shards were written.
        """
        address = self.annotations.address(row)
        return address if self.cache is not None and self.cache.shards_hold(address) else None

    def _media_number(self, medium: Path | VideoSegment | FrameFiles | str | None) -> int:
        """Hash a medium to 64 bits, never 0; two of ten million share a number with a chance of 3 in a million."""
        span: tuple[Any, ...] = (medium.start, medium.end) if isinstance(medium, VideoSegment) else ()
        if isinstance(medium, FrameFiles):
            span = (
                medium.seconds,
                medium.start,
                medium.end,
                *(os.path.relpath(path, self._home) for path in medium.paths),
            )
            medium = medium.paths[0]
        path = medium.path if isinstance(medium, VideoSegment) else medium
        name = os.path.relpath(path, self._home) if isinstance(path, Path) else (path,)
        return int.from_bytes(hashlib.blake2b(repr((name, *span)).encode(), digest_size=8).digest(), "little") or 1

    def make_skipped(self, number: int, row: Row | None, error: Exception) -> Skipped:
        """Make the record of a bad row."""
        return describe_skipped(self.annotations.source.name, number, row, error)


def diagnose(
    views: Sequence[TrainingView], workers: int = 2, retry: bool = False, progress: bool = True
) -> list[Findings]:
    """Check all rows that were not checked yet, write each data set's quarantine, and return the findings.

    Args:
        views: the data sets as training reads them.
        workers: processes that read; 0 reads in this one.
        retry: check bad rows again, whose files may be there by now.
        progress: whether to show bars.

    Raises:
        DataError: if what an earlier call has written is damaged.
        DiskError: if findings cannot be written; earlier findings stay.
        ConfigError: if worker processes do not start.
    """
    all_findings = []
    for view in views:
        checkup = view.open()
        examine(view, checkup, workers, retry, progress)
        quarantine = checkup.close(list(find_too_long(view, checkup)))
        settings, context = view.collator.settings, view.collator.context
        all_findings.append(summarize_checkup(view.annotations.source.name, checkup, settings, context, quarantine))
    return all_findings


def examine(view: TrainingView, checkup: Checkup, workers: int = 2, retry: bool = False, progress: bool = True) -> None:
    """Check the rows that ``checkup`` does not know yet: first each row, then once each medium that they show.

    A medium that was checked under the same frame rule for other prompts is not read again. Findings are written at
    once: after an interruption the next call goes on. Arguments and errors as in `diagnose`.
    """
    if view.cache is not None:
        # Read once, before workers are started; and an error here is the settings', not one row's.
        _ = view.cache.matching_shards, view.cache.encoder
    retried = np.zeros(len(checkup), bool)
    retried[list(checkup.bad)] = retry
    todo = ~checkup.is_checked | retried
    name = view.annotations.source.name
    with Workers(view, workers) as pool:
        unread = np.flatnonzero(todo & (retried | checkup.needs_prompt)).tolist()
        jobs = [unread[n : n + ROWS] for n in range(0, len(unread), ROWS)]
        with tqdm(total=len(unread), desc=f"{name}: rows", unit="row", disable=not progress, delay=1) as bar:
            for numbers, results in pool.each("check_rows", jobs):
                row_results = results or [view.make_skipped(numbers[0], None, WORKER_DIED)]
                bad = [one for one in row_results if isinstance(one, Skipped)]
                checkup.add_costs(
                    {n: one for n, one in zip(numbers, row_results, strict=True) if isinstance(one, RowCost)}
                )
                checkup.add_bad(bad)
                todo[[one.index for one in bad]] = False
                bar.update(len(numbers))
        new = np.flatnonzero(todo & ~retried & (checkup.frames < 0))
        reuse_frames(checkup, view.key, view.annotations, new, faults=not retry)
        groups = list(_group_by_media(checkup, np.flatnonzero(~checkup.is_checked | (todo & retried))))
        with tqdm(total=len(groups), desc=f"{name}: media", unit="file", disable=not progress, delay=1) as bar:
            for (rows,), results in pool.each("check_media", [[group] for group in groups]):
                if results is None:
                    annotations = view.annotations
                    results = [[view.make_skipped(n, annotations[n], WORKER_DIED) for n in rows]]
                if isinstance(results[0], int):
                    checkup.set_frames(rows, results[0])
                else:
                    checkup.add_bad(results[0], medium=True)
                bar.update()


def find_too_long(view: TrainingView, checkup: Checkup) -> Iterator[Skipped]:
    """Yield the rows that need more tokens than the context holds, under the connector's present settings."""
    settings, context = view.collator.settings, view.collator.context
    tokens, visual = count_tokens(checkup, settings), checkup.slots * count_visual_tokens(checkup.frames, settings)
    for number in find_over_long(checkup, settings, context).tolist():
        problem = f"{tokens[number]} tokens, {visual[number]} of them visual, for a context of {context}"
        error = ContextLengthError(problem, "a prompt that fits", "Lower what videos cost, or leave the row out.")
        yield view.make_skipped(number, view.annotations[number], error)


def _group_by_media(checkup: Checkup, rows: np.ndarray) -> Iterator[list[int]]:
    """Group rows by the medium they show, in the order of each group's first row; text-only rows are left out."""
    rows = rows[checkup.media[rows] != 0]
    rows = rows[np.argsort(checkup.media[rows], kind="stable")]
    groups = np.split(rows, np.flatnonzero(np.diff(checkup.media[rows])) + 1) if len(rows) else []
    yield from sorted(group.tolist() for group in groups)


def _digest_tokenizer(tokenizer: Any) -> str:
    """Digest a tokenizer without the state that its last call has left in it."""
    settings = {k: v for k, v in json.loads(tokenizer.backend_tokenizer.to_str()).items() if k not in CALLS}
    parts = [settings, str(tokenizer.eos_token), tokenizer.chat_template]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
