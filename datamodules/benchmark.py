"""Define the LightningDataModule of published benchmarks: their questions, asked as the benchmark asks them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, SupportsIndex, overload

from lightning.pytorch.utilities import rank_zero_info

from datamodules.conversations import ConversationDataModule, Split
from datamodules.examples import ExampleDataset, as_example
from dynfocus.data.annotations.sources import Source
from dynfocus.errors import MissingFileError
from dynfocus.evals.benchmarks import find_benchmark, find_split
from dynfocus.evals.files import BenchmarkFiles, name_missing
from dynfocus.evals.protocol import Benchmark, Item, shuffle_options
from dynfocus.models.collate import Example
from dynfocus.records.predictions import UNTRAINED, read_answers
from dynfocus.records.rows import FrameFiles, Question, Row, Turn, VideoSegment


class BenchmarkRows(Sequence[Row]):
    """The questions of a benchmark as rows, and the files of their videos.

    Args:
        name: the benchmark's.
        files: where the videos are looked for.
        items: the questions that are to be asked.
        numbers: of each in the benchmark, as they are where nothing is left out.
    """

    def __init__(
        self, name: str, files: BenchmarkFiles, items: Sequence[Item], numbers: Sequence[int] | None = None
    ) -> None:
        self.source, self.files, self.items = SimpleNamespace(name=name), files, items
        self.numbers = range(len(items)) if numbers is None else numbers
        self.paths = files.find_paths((item.video, item.exact, item.fps) for item in items)

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[n] for n in range(*index.indices(len(self)))]
        item = self.items[index]
        turn = Turn(item.question.text, item.question.answer)
        media = None if item.video is None else self.paths[item.video] or item.video
        return Row(item.id, int(index), media, (turn,), (item.question,), item.span, self.source.name)

    @property
    def shows(self) -> Sequence[int]:
        """No numbers: to read a row costs nothing here."""
        return [0] * len(self)

    @property
    def missing(self) -> list[str]:
        """The published names of videos without a file."""
        return sorted(video for video, path in self.paths.items() if path is None)

    def find(self, row: Row) -> Path | VideoSegment | FrameFiles | None:
        """Find the file that a row is about, or the segment of it; raises MissingFileError if there is none."""
        if row.media is None:
            return None
        media = self.files.make_media(row.media, self.items[row.index].fps, row.span)
        if not isinstance(media, FrameFiles) and not (self.files.root / row.media).is_file():
            raise MissingFileError(f"no video {row.media} below {self.files.root}", "the video", "Get it.")
        return media

    def address(self, row: Row) -> str | None:
        """Return the video's path below the folder, with ``#start-end`` where the row is about a segment."""
        return row.media if row.media is None or row.span is None else f"{row.media}#{row.span[0]}-{row.span[1]}"

    def ask(self, row: Row) -> Question:
        """Return the question of a row as a prompt needs it: with the video's subtitles."""
        question, subtitles = row.questions[0], self.items[row.index].subtitles
        return replace(question, meta={**question.meta, "subtitles": subtitles}) if subtitles else question


class BenchmarkDataset(ExampleDataset):
    """Examples whose turn is the benchmark's prompt, for which it may read the seconds of the frames."""

    benchmark: Benchmark

    def __getitem__(self, index: int) -> Example:
        """What is drawn for a question follows from its number in the benchmark, whatever is left to ask."""
        example = super().__getitem__(index)
        return replace(example, row=replace(example.row, index=self.sets[0].numbers[index]))

    def make_example(self, row: Row, annotations: Any) -> Example:
        media = self.read_media(row, annotations)
        asked = self.benchmark.prompt(annotations.ask(row), media.seconds.tolist())
        return as_example(replace(row, turns=(replace(row.turns[0], question=asked),)), media)


class BenchmarkDataModule(ConversationDataModule):
    """The questions of a published benchmark, for a test.

    Args:
        root: folder of the benchmark's annotation files and videos, in any layout.
        benchmark: its name.
        split: which of its splits; the benchmark's own default if none is named.
        allow_missing: leave out questions about videos that are not there, instead of an error that names them.
        rows: ask only the first so many questions.
        shuffle: put the options of each question into another order, the same every time.
        run: folder of an evaluation; questions that it has answered already are not asked again.
        arms: what every question has to be answered under.
        segments: whether frames are read as the questions' segments count them; if not, no hit rate can be computed.
        kwargs: as in `ConversationDataModule`.

    Raises:
        ConfigError: for an unknown benchmark or split.
    """

    def __init__(
        self,
        root: Path,
        benchmark: str,
        split: str | None = None,
        allow_missing: bool = False,
        rows: int | None = None,
        shuffle: bool = False,
        run: Path | None = None,
        arms: tuple[str, ...] = ("learned",),
        segments: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, **kwargs)
        self.benchmark = benchmark
        self.protocol, self.allow_missing = find_benchmark(benchmark), allow_missing
        self.split = find_split(benchmark, split)
        self.limit, self.shuffle, self.run, self.arms, self.segments = rows, shuffle, run, arms, segments
        self.ids: list[str] = []
        self.facts: dict[str, Any] = {}

    def prepare_data(self) -> None:
        """Nothing is indexed: a benchmark's files are read whole."""

    def splits(self, stage: str) -> tuple[Split, ...]:
        return ("test",)

    def sources(self, split: Split) -> list[Source]:
        return []

    def dataset(self, split: Split, skip_invalid: bool = False) -> ExampleDataset:
        dataset = BenchmarkDataset([self.read_rows()], self.rule, self.cache, skip_invalid)
        dataset.benchmark = self.protocol
        return dataset

    def read_rows(self) -> BenchmarkRows:
        """Read the questions that are to be asked; raises DataError if videos are missing and may not be."""
        files = BenchmarkFiles(self.root)
        items = self.protocol.read_items(files, self.split)[: self.limit]
        items = [shuffle_options(item) for item in items] if self.shuffle else items
        items = items if self.segments else [one._replace(question=replace(one.question, segments=())) for one in items]
        rows = BenchmarkRows(self.benchmark, files, items)
        if rows.missing:
            told = name_missing(self.benchmark, files, rows.missing, len(rows.paths), self.allow_missing)
            rank_zero_info(f"{told}; their questions are left out")
        there = [item for item in rows.items if item.video is None or rows.paths[item.video] is not None]
        self.ids = [item.id for item in there]
        self.facts = {
            "videos_missing": len(rows.missing),
            "missing": rows.missing,
            "questions_left_out": len(rows.items) - len(there),
        }
        answered = {} if self.run is None else read_answers(self.run)
        numbers = {item.id: number for number, item in enumerate(rows.items)}
        left = [
            item
            for item in there
            if any(not answered.keys() & {(arm, item.id), (arm + UNTRAINED, item.id)} for arm in self.arms)
        ]
        if len(left) < len(there):
            rank_zero_info(f"{len(there) - len(left)} of {len(there)} questions are answered already")
        return BenchmarkRows(self.benchmark, files, left, [numbers[item.id] for item in left])
