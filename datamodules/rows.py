"""The rows of several data sets as one, each with what it shows."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate

from torch.utils.data import Dataset
from tqdm import tqdm

from dynfocus.data.annotations.dataset import Annotations
from dynfocus.data.sketches.cache import SketchCache, Sketched
from dynfocus.data.sketches.media import Shown, dealt, named, read_or_blank
from dynfocus.errors import DataError, FeatureError, VideoError
from dynfocus.models.collate import Example, blank_row
from dynfocus.records.rows import Row
from dynfocus.records.skipped import noted
from dynfocus.settings import FrameRule
from dynfocus.video import Clip

BROKEN = (DataError, VideoError, FeatureError)  # what is wrong with one row and stops no other


class Rows(Dataset):
    """Data sets one after the other; a row's number counts from the first one's first.

    Args:
        sets: the data sets.
        rule: how frames are taken from a video.
        cache: where sketches are; without one rows come with frames.
        lenient: whether a row that cannot be read becomes a blank one that says so, instead of an error.
    """

    def __init__(self, sets: list[Annotations], rule: FrameRule, cache: SketchCache | None, lenient: bool) -> None:
        self.sets, self.rule, self.cache, self.lenient = sets, rule, cache, lenient
        self.starts, self.lost = [0, *accumulate(map(len, sets))], 0

    def __len__(self) -> int:
        return self.starts[-1]

    def __getitem__(self, index: int) -> Example:
        part = bisect_right(self.starts, index) - 1
        place, row = index - self.starts[part], None
        try:
            row = self.sets[part][place]
            return replace(self.shown(row, self.sets[part]), row=replace(row, index=index), place=place)
        except BROKEN as error:
            if not self.lenient:
                raise
            skipped = noted(self.sets[part].source.name, place, row, error)
            return replace(self.shown(blank_row(index), self.sets[part]), place=place, skipped=skipped)

    def shown(self, row: Row, annotations: Annotations) -> Example:
        """A row with its sketch or frames."""
        return beside(row, self.seen(row, annotations))

    def seen(self, row: Row, annotations: Annotations) -> Sketched | Clip:
        """The sketch or frames of what a row shows, with their time stamps."""
        if self.cache is None:
            return read_or_blank(annotations.find(row), self.rule)
        shown = self.named(row, annotations)
        return self.cache.read(shown.media, shown.address)

    def named(self, row: Row, annotations: Annotations) -> Shown:
        """What a row shows; of what shards hold, no file is looked for."""
        address = annotations.address(row)
        stored = None if self.cache is None else self.cache.stored
        held = address is not None and stored is not None and stored.holds(address)
        return Shown(None if held else annotations.find(row), address)

    def media(self, share: tuple[int, int] = (0, 1)) -> Iterator[Shown]:
        """What the rows show that are a process's share, by what they show; those that do not say it are `lost`."""
        for annotations in self.sets:
            name = f"looking at {annotations.source.name}"
            for place in tqdm(range(len(annotations)), desc=name, unit="row", delay=3, leave=False):
                try:
                    row = annotations[place]
                    if dealt(annotations.address(row) or named(None), share):
                        yield self.named(row, annotations)
                except BROKEN:
                    self.lost += 1  # whoever reads the row says so


def beside(row: Row, seen: Sketched | Clip) -> Example:
    """A row with what it shows."""
    return Example(row, sketch=seen.sketch) if isinstance(seen, Sketched) else Example(row, frames=seen.frames)


def check_questions(rows: Rows, split: str, file: str) -> None:
    """Raises DataError if a row of a split that is asked and scored does not say what its question asks for."""
    mute = next((row.id for part in rows.sets for row in part if not row.questions), None)
    if mute is not None:
        raise DataError(
            f"row {mute!r} of {file}, which does not say what its question asks for",
            "`questions` in every row that is asked and scored, as the embedded world's rows have them",
            f"Leave {split} out of data.init_args.files, or add them.",
        )
