"""Looks at every row of data sets as training will read them, and remembers which cannot be learned from."""

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
from dynfocus.data.doctor.findings import Findings, findings
from dynfocus.data.doctor.pool import Workers
from dynfocus.data.doctor.reuse import missed, recall
from dynfocus.data.doctor.store import Checkup, Measured, costs, over_long, visual
from dynfocus.data.sketches.cache import SketchCache
from dynfocus.errors import ContextLengthError, DynFocusError, PromptError
from dynfocus.models.collate import Collator
from dynfocus.records.rows import Row, VideoSegment
from dynfocus.records.skipped import Skipped, noted
from dynfocus.settings import FrameRule
from dynfocus.video import read_media

ROWS = 64  # rows that a worker reads at a time; of media one
FAILING = (DynFocusError, OSError, MemoryError)
CALLS = ("truncation", "padding")
DEADLY = RuntimeError("the process that reads it dies of it")


@dataclass(frozen=True)
class Reading:
    """A data set and the way training reads it.

    Attributes:
        annotations: its rows.
        processor: makes prompts of them, with answers.
        rule: how frames are taken from a video.
        cache: where training finds sketches; what is there needs no decoding.
    """

    annotations: Annotations
    processor: Collator
    rule: FrameRule
    cache: SketchCache | None = None

    @property
    def key(self) -> dict[str, Any]:
        """All that a checkup's numbers hang on: neither the connector's settings nor the context are among it."""
        annotations, processor = self.annotations, self.processor
        places = {"folder": os.path.realpath(self._home), "links": annotations.links, "stamp": annotations.stamp}
        return {
            "source": annotations.source.name,
            "annotations": asdict(annotations.source) | places,
            "rule": asdict(self.rule),
            "tokenizer": _digest(processor.tokenizer),
            "prompt": {
                "template": processor.prompt,
                "system_prompt": processor.system_prompt,
                "slots": processor.slots,
                "seed": processor.seed,
            },
        }

    @property
    def _home(self) -> Path:
        return self.annotations.root / self.annotations.source.folder

    def open(self) -> Checkup:
        """The checkup for the doctor to go on with; raises DataError, DiskError."""
        return Checkup.open(self.annotations.folder, self.key, len(self.annotations))

    def load(self) -> Checkup | None:
        """The checkup for training; None where the doctor has not finished one. Raises DataError."""
        return Checkup.load(self.annotations.folder, self.key, len(self.annotations))

    def missed(self) -> str | None:
        """What has to be said where `load` gives None though the doctor was run here; else None. Raises DataError."""
        return missed(self.annotations.folder, self.key, len(self.annotations))

    def rows(self, numbers: Sequence[int]) -> list[Measured | Skipped]:
        """What each of some rows costs besides frames, and what it shows; or what is wrong with it."""
        return [self._row(number) for number in numbers]

    def media(self, groups: Sequence[Sequence[int]]) -> list[int | list[Skipped]]:
        """Frames of what each group of rows shows; or what is wrong with its rows."""
        return [self._medium(group) for group in groups]

    def _row(self, number: int) -> Measured | Skipped:
        try:
            row = self.annotations[number]
        except FAILING as error:
            return self.skipped(number, None, error)
        try:
            measured = self.processor.measure(row, 1, number)
        except PromptError as error:
            return self.skipped(number, row, error)
        medium = 0
        if row.media is not None:
            try:
                medium = self._number(self._held(row) or self.annotations.find(row))
            except FAILING as error:
                return self.skipped(number, row, error)
        return Measured(measured.text, measured.slots, measured.targets, medium)

    def _medium(self, group: Sequence[int]) -> int | list[Skipped]:
        try:
            return self._frames(self.annotations[group[0]])
        except FAILING as error:
            return [self.skipped(number, self.annotations[number], error) for number in group]

    def _frames(self, row: Row) -> int:
        held = self._held(row)
        medium = None if held is not None else self.annotations.find(row)
        known = None if self.cache is None else self.cache.frames(medium, held)
        if known is not None:
            return known
        assert medium is not None
        return len(read_media(medium, self.rule).frames)

    def _held(self, row: Row) -> str | None:
        """The address of what a row shows, where shards hold it: then training needs no file.

        Raises:
            DataError: if its name leads out of its folder.
            VideoError, FeatureError: if no sketch could be made of it when the shards were written.
        """
        address = self.annotations.address(row)
        stored = None if self.cache is None else self.cache.stored
        return address if address is not None and stored is not None and stored.holds(address) else None

    def _number(self, medium: Path | VideoSegment | str | None) -> int:
        """A number of 64 bits, not 0, for a medium: two of ten million share one with a chance of 3 in a million."""
        span = (medium.start, medium.end) if isinstance(medium, VideoSegment) else ()
        path = medium.path if isinstance(medium, VideoSegment) else medium
        name = os.path.relpath(path, self._home) if isinstance(path, Path) else (path,)
        return int.from_bytes(hashlib.blake2b(repr((name, *span)).encode(), digest_size=8).digest(), "little") or 1

    def skipped(self, number: int, row: Row | None, error: Exception) -> Skipped:
        """The record of a bad row."""
        return noted(self.annotations.source.name, number, row, error)


def diagnose(
    readings: Sequence[Reading], workers: int = 2, retry: bool = False, progress: bool = True
) -> list[Findings]:
    """Look at all rows that were not looked at yet, write each data set's quarantine, and say what was found.

    Args:
        readings: data sets, each with the way it is read.
        workers: processes that read; 0 reads in this one.
        retry: look at bad rows again, whose files may have come since.
        progress: whether to show bars.

    Raises:
        DataError: if what an earlier call has written is damaged.
        DiskError: if findings cannot be written; what was found before stays.
        ConfigError: if worker processes do not start.
    """
    found = []
    for reading in readings:
        checkup = reading.open()
        examine(reading, checkup, workers, retry, progress)
        quarantine = checkup.close(list(too_long(reading, checkup)))
        settings, context = reading.processor.settings, reading.processor.context
        found.append(findings(reading.annotations.source.name, checkup, settings, context, quarantine))
    return found


def examine(reading: Reading, checkup: Checkup, workers: int = 2, retry: bool = False, progress: bool = True) -> None:
    """Look at the rows that ``checkup`` does not know yet: first at each row, then once at each medium they show.

    A medium that was looked at already, in the same way and for other prompts, is not read again.
    What is found is kept at once: killed at any time, the next call goes on. Arguments and errors as in `diagnose`.
    """
    if reading.cache is not None:
        _ = reading.cache.stored, reading.cache.encoder  # once for all workers; and here a mistake in them is no row's
    again = np.zeros(len(checkup), bool)
    again[list(checkup.bad)] = retry
    todo = ~checkup.looked | again
    name = reading.annotations.source.name
    with Workers(reading, workers) as pool:
        unread = np.flatnonzero(todo & (again | checkup.unread)).tolist()
        jobs = [unread[n : n + ROWS] for n in range(0, len(unread), ROWS)]
        with tqdm(total=len(unread), desc=f"{name}: rows", unit="row", disable=not progress, delay=1) as bar:
            for numbers, found in pool.each("rows", jobs):
                said = found or [reading.skipped(numbers[0], None, DEADLY)]
                bad = [one for one in said if isinstance(one, Skipped)]
                checkup.measure({n: one for n, one in zip(numbers, said, strict=True) if isinstance(one, Measured)})
                checkup.note(bad)
                todo[[one.index for one in bad]] = False
                bar.update(len(numbers))
        new = np.flatnonzero(todo & ~again & (checkup.frames < 0))
        recall(checkup, reading.key, reading.annotations, new, faults=not retry)
        groups = list(_groups(checkup, np.flatnonzero(~checkup.looked | (todo & again))))
        with tqdm(total=len(groups), desc=f"{name}: media", unit="file", disable=not progress, delay=1) as bar:
            for (rows,), found in pool.each("media", [[group] for group in groups]):
                if found is None:
                    annotations = reading.annotations
                    found = [[reading.skipped(n, annotations[n], DEADLY) for n in rows]]
                if isinstance(found[0], int):
                    checkup.settle(rows, found[0])
                else:
                    checkup.note(found[0], medium=True)
                bar.update()


def too_long(reading: Reading, checkup: Checkup) -> Iterator[Skipped]:
    """The rows that need more tokens than the context holds, under the connector's present settings."""
    settings, context = reading.processor.settings, reading.processor.context
    tokens, shown = costs(checkup, settings), checkup.slots * visual(checkup.frames, settings)
    for number in over_long(checkup, settings, context).tolist():
        given = f"{tokens[number]} tokens, {shown[number]} of them visual, for a context of {context}"
        error = ContextLengthError(given, "a prompt that fits", "Lower what videos cost, or leave the row out.")
        yield reading.skipped(number, reading.annotations[number], error)


def _groups(checkup: Checkup, rows: np.ndarray) -> Iterator[list[int]]:
    """Rows that show the same, together, in the order of each group's first row; text-only rows need no look."""
    rows = rows[checkup.media[rows] != 0]
    rows = rows[np.argsort(checkup.media[rows], kind="stable")]
    groups = np.split(rows, np.flatnonzero(np.diff(checkup.media[rows])) + 1) if len(rows) else []
    yield from sorted(group.tolist() for group in groups)


def _digest(tokenizer: Any) -> str:
    """What a tokenizer is, without what its last call has left in it."""
    kept = {k: v for k, v in json.loads(tokenizer.backend_tokenizer.to_str()).items() if k not in CALLS}
    parts = [kept, str(tokenizer.eos_token), tokenizer.chat_template]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
