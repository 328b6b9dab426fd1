"""Read the rows of several data sets as examples, each with the sketch or frames of what it shows."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol, SupportsIndex, runtime_checkable

import numpy as np
from lightning import Trainer
from torch.utils.data import Dataset
from tqdm import tqdm

from dynfocus.data.loading import lost_error
from dynfocus.data.sketches.cache import SketchCache, TimedSketch
from dynfocus.data.sketches.media import SketchItem, describe_media, is_own_share
from dynfocus.data.sketches.sketcher import ITEM_ERRORS
from dynfocus.errors import DataError
from dynfocus.models.collate import Example, blank_row
from dynfocus.records.rows import FrameFiles, Row, VideoSegment
from dynfocus.records.skipped import describe_skipped
from dynfocus.settings import FrameRule
from dynfocus.types import Batch
from dynfocus.video import Clip
from dynfocus.video.media import read_or_blank


@runtime_checkable
class RowSet(Protocol):
    """A data set whose rows name files, such as `Annotations`."""

    source: Any  # with a name

    @property
    def shows(self) -> Any:
        """Of each row a number of what it shows, one for equal media; 0 where nobody can say."""
        ...

    def __len__(self) -> int: ...
    def __getitem__(self, at: SupportsIndex) -> Row: ...
    def find(self, row: Row) -> Path | VideoSegment | FrameFiles | None: ...
    def address(self, row: Row) -> str | None: ...


class ExampleDataset(Dataset):
    """Data sets one after the other; a row's number counts from the first one's first.

    Args:
        sets: the data sets.
        rule: how frames are taken from a video.
        cache: where sketches are; without one rows come with frames.
        skip_invalid: whether a row that cannot be read becomes a blank one that says so, instead of an error.
    """

    def __init__(self, sets: Sequence[RowSet], rule: FrameRule, cache: SketchCache | None, skip_invalid: bool) -> None:
        self.rule, self.cache, self.skip_invalid = rule, cache, skip_invalid
        self.sets: Any = sets
        self.starts, self.unreadable = [0, *accumulate(map(len, sets))], 0

    def __len__(self) -> int:
        return self.starts[-1]

    def __getitem__(self, index: int) -> Example:
        part = bisect_right(self.starts, index) - 1
        place, row = index - self.starts[part], None
        try:
            row = self.sets[part][place]
            example = self.make_example(row, self.sets[part])
            return replace(example, row=replace(example.row, index=index), place=place)
        except ITEM_ERRORS as error:
            return self._skip(index, row, error)

    def lose(self, index: int) -> Example:
        """Return what stands for a row whose reading crashes a process: the same as for one that cannot be read."""
        part = bisect_right(self.starts, index) - 1
        row = self.sets[part][index - self.starts[part]]
        return self._skip(index, row, lost_error(str(row.media or row.id)))

    def _skip(self, index: int, row: Row | None, error: Exception) -> Example:
        if not self.skip_invalid:
            raise error
        part = bisect_right(self.starts, index) - 1
        place = index - self.starts[part]
        skipped = describe_skipped(self.sets[part].source.name, place, row, error)
        return replace(self.make_example(blank_row(index), self.sets[part]), place=place, skipped=skipped)

    def make_example(self, row: Row, annotations: RowSet) -> Example:
        """Make an example of a row, with its sketch or frames."""
        return as_example(row, self.read_media(row, annotations))

    def read_media(self, row: Row, annotations: RowSet) -> TimedSketch | Clip:
        """Read the sketch or frames of what a row shows, with their time stamps."""
        if self.cache is None:
            return read_or_blank(annotations.find(row), self.rule)
        item = self.find_item(row, annotations)
        return self.cache.read(item.media, item.address)

    def find_item(self, row: Row, annotations: RowSet) -> SketchItem:
        """Find what a row shows; no file is needed for what shards hold."""
        address = annotations.address(row)
        needs_file = self.cache is None or not self.cache.shards_hold(address)
        return SketchItem(annotations.find(row) if needs_file else None, address)

    def media(self, share: tuple[int, int] = (0, 1)) -> Iterator[SketchItem]:
        """Yield what the rows of a process's share show, of rows that show the same the first that can be read.

        Rows that cannot be read are counted in `unreadable`.
        """
        for annotations in self.sets:
            name, done = f"looking at {annotations.source.name}", set()
            for place, shown in enumerate(
                tqdm(np.asarray(annotations.shows).tolist(), desc=name, unit="row", delay=3, leave=False)
            ):
                if shown and shown in done:
                    continue
                try:
                    row = annotations[place]
                    if is_own_share(annotations.address(row) or describe_media(None), share):
                        yield self.find_item(row, annotations)
                    done.add(shown)
                except ITEM_ERRORS:
                    self.unreadable += 1  # reading the row reports it


def as_example(row: Row, media: TimedSketch | Clip) -> Example:
    """Make an example of a row and the sketch or frames of what it shows."""
    shown = {"sketch": media.sketch} if isinstance(media, TimedSketch) else {"frames": media.frames}
    return Example(row, **shown, seconds=tuple(media.seconds.tolist()))


def check_questions(rows: ExampleDataset, split: str, file: str) -> None:
    """Raises DataError if a row of a split that is asked and scored does not say what its question asks for."""
    mute = next((row.id for part in rows.sets for row in part if not row.questions), None)
    if mute is not None:
        raise DataError(
            f"row {mute!r} of {file}, which does not say what its question asks for",
            "`questions` in every row that is asked and scored, as the embedded world's rows have them",
            f"Leave {split} out of data.init_args.files, or add them.",
        )


def check_recorded(batch: Batch, trainer: Trainer | None) -> None:
    """Raises DataError if a row of the batch was skipped and no callback would record it."""
    callbacks = trainer.callbacks if trainer is not None else []  # type: ignore[attr-defined]
    if batch.skipped and not any(getattr(one, "records_skipped", False) for one in callbacks):
        one = batch.skipped[0]
        raise DataError(
            f"row {one.index} of {one.source}, which cannot be learned from: {one.cause}",
            "rows that can be read, or callbacks.quarantine.Quarantine to note those that cannot",
            "Mend or delete the row, or add that callback to trainer.callbacks.",
        )
