"""Conversation files as a LightningDataModule: the road every data set takes to a Batch."""

from collections.abc import Iterable, Iterator
from functools import cached_property
from os.path import normpath
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from datamodules.order import ResumableOrder, Share, Shared, accumulation
from dynfocus.errors import ConfigError, DataError
from dynfocus.nn.precision import half_precision
from dynfocus.processor import Example, Processor
from dynfocus.prompts import Turns
from dynfocus.readers.conversations import read_conversations
from dynfocus.records import Row
from dynfocus.settings import ConnectorSettings, FrameRule
from dynfocus.sketches.cache import Filled, SketchCache
from dynfocus.sketches.clips import read_or_blank
from dynfocus.sketches.encoders import EncoderFolder
from dynfocus.stages import STAGES, StageName

Split = Literal["train", "val", "test"]


class ConversationDataset(Dataset):
    """Rows of one annotation file with what they show."""

    def __init__(self, rows: list[Row], root: Path, rule: FrameRule, cache: SketchCache | None) -> None:
        self.rows, self.root, self.rule, self.cache = rows, root, rule, cache

    def __len__(self) -> int:
        return len(self.rows)

    def media(self, row: Row) -> Path | None:
        return None if row.media is None else self.root / row.media

    def __getitem__(self, index: int) -> Example:
        row = self.rows[index]
        if self.cache is not None:
            return Example(row, sketch=self.cache.read(self.media(row)).sketch)
        return Example(row, frames=read_or_blank(self.media(row), self.rule).frames)


class ResumableLoader(DataLoader):
    """A loader whose sampler knows where to go on; Lightning asks for these two to believe it.

    It keeps no count of its own: batches are fetched ahead, so only the trainer knows how many were learned from.
    """

    def __iter__(self) -> Any:
        # Lightning asks for iterators before it knows where the run goes on, and workers would fetch at once.
        yield from super().__iter__()

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class ConversationDataModule(LightningDataModule):
    """Feeds conversations about images, videos and nothing at all to the model.

    Args:
        root: folder of the data set; its rows name media relative to it.
        encoders: folder of the vision encoder and the instruction tokenizer.
        language_model: folder of the language model's tokenizer.
        connector: the connector's settings.
        stage: which stage is trained: it says which prompt is used.
        files: the annotation file of each split, relative to ``root``; a split without file is skipped.
        frame_rule: how frames are taken from a video.
        batch_size: rows in a training batch of one process.
        global_batch: rows that an optimizer step learns from, over all processes: batches are accumulated to it.
            Without it, a step learns from one batch of every process, times ``trainer.accumulate_grad_batches``.
        eval_batch_size: rows in a validation or test batch of one process.
        sketch_cache: folder where each video's sketch is kept; without one the encoder runs in every step.
        slots: ``first`` or ``every`` turn of a conversation shows the video.
        system_prompt: whether the conversation opens with the template's long sentence.
        num_workers: loader processes.
        seed: keys the order of rows.
        vision: folder of another vision encoder than that in ``encoders``.
        max_new_tokens: room that a question's prompt leaves for the answer.

    Raises:
        ConfigError: if sketches are to be kept where they hang on the question.
    """

    def __init__(
        self,
        root: Path,
        encoders: Path,
        language_model: Path,
        connector: ConnectorSettings = ConnectorSettings(),  # noqa: B008 (frozen)
        stage: StageName = "stage2",
        files: dict[str, str] | None = None,
        frame_rule: FrameRule = FrameRule(),  # noqa: B008 (frozen)
        batch_size: int = 32,
        global_batch: int | None = None,
        eval_batch_size: int = 64,
        sketch_cache: Path | None = None,
        slots: Turns = "every",
        system_prompt: bool = True,
        num_workers: int = 0,
        seed: int = 0,
        vision: Path | None = None,
        max_new_tokens: int = 16,
    ) -> None:
        super().__init__()
        self.root, self.encoders, self.language_model = Path(root), Path(encoders), Path(language_model)
        self.connector, self.stage, self.files, self.rule = connector, stage, files or {}, frame_rule
        self.batch_size, self.global_batch, self.eval_batch_size = batch_size, global_batch, eval_batch_size
        self.sketch_cache, self.slots, self.system_prompt = sketch_cache, slots, system_prompt
        self.num_workers, self.seed, self.vision, self.max_new_tokens = num_workers, seed, vision, max_new_tokens
        self.data: dict[str, ConversationDataset] = {}
        if sketch_cache is not None and connector.instruction_mode == "frame":
            raise ConfigError(
                "a sketch cache with connector.instruction_mode = frame",
                "no cache: in that mode the question is read beside every frame, so a video is encoded for each anew",
                "Set data.init_args.sketch_cache to null.",
            )

    @cached_property
    def cache(self) -> SketchCache | None:
        """The sketches on disk, where they are kept."""
        if self.sketch_cache is None:
            return None
        folder, own = self.vision or self.encoders, False
        # A model that starts from a whole model's folder brings that one's vision encoder. Its path may lead through
        # the run's own folder, which is not there yet.
        building = getattr(self.trainer and self.trainer.lightning_module, "building", None)
        trained = getattr(building, "init_from", None)
        for path in (trained, normpath(trained)) if trained else ():
            folder, own = (Path(path), True) if Path(path).is_dir() else (folder, own)
        given = "32-true" if self.trainer is None else str(self.trainer.precision)
        precision = None if own and not given.endswith("true") else half_precision(given)  # None: as the folder says
        device = None if self.trainer is None else self.trainer.strategy.root_device
        return SketchCache(self.sketch_cache, EncoderFolder(folder, precision), self.connector, self.rule, device)

    def splits(self, stage: str) -> tuple[Split, ...]:
        """The splits that a run of ``fit``, ``validate``, ``test`` or ``predict`` reads."""
        wanted: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",)}
        return tuple(split for split in wanted.get(stage, ("test",)) if split in self.files)

    @property
    def share(self) -> Share:
        """Which process this is, of how many."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def setup(self, stage: str) -> None:
        if stage == "fit":
            self.accumulate()
        self.data |= {split: self.dataset(split) for split in self.splits(stage)}
        if self.cache is None:
            return
        media = self.media(self.data[split] for split in self.splits(stage))
        self.cache.fill(media, share=self.share)
        if self.trainer is not None:
            self.trainer.strategy.barrier("sketches")

    def accumulate(self) -> None:
        """Let the trainer accumulate batches up to the global batch, where one is asked for.

        Raises:
            ConfigError: if it does not come out even, or the trainer was told another number.
        """
        if self.trainer is None or self.global_batch is None:
            return
        batches = accumulation(self.global_batch, self.batch_size, self.trainer.world_size)
        if (told := self.trainer.accumulate_grad_batches) not in (1, batches):
            raise ConfigError(
                f"trainer.accumulate_grad_batches = {told} beside global_batch = {self.global_batch}, which takes "
                f"{batches}",
                "one of the two",
                "Leave trainer.accumulate_grad_batches out, or set data.init_args.global_batch to null.",
            )
        self.trainer.accumulate_grad_batches = batches

    def sketch(self) -> Filled:
        """Fill the cache with what any split shows, ahead of training.

        Raises:
            ConfigError: if no cache is set.
        """
        if self.cache is None:
            raise ConfigError(
                "a config whose data.init_args.sketch_cache is not set",
                "a folder for the sketches",
                "Set it in the config, or add --data.init_args.sketch_cache FOLDER.",
            )
        self.prepare_data()
        return self.cache.fill(
            self.media(self.dataset(split) for split in ("train", "val", "test") if split in self.files)
        )

    def dataset(self, split: Split) -> ConversationDataset:
        rows = read_conversations(self.root / self.files[split])
        if split != "train" and (mute := [row.id for row in rows if not row.questions]):
            raise DataError(
                f"row {mute[0]!r} of {self.files[split]}, which does not say what its question asks for",
                "`questions` in every row that is asked and scored, as the embedded world's rows have them",
                f"Leave {split} out of data.init_args.files, or add them.",
            )
        return ConversationDataset(rows, self.root, self.rule, self.cache)

    @staticmethod
    def media(datasets: Iterable[ConversationDataset]) -> Iterator[Path | None]:
        """What the rows show, in their order."""
        return (data.media(row) for data in datasets for row in data.rows)

    def processor(self, prompt: str, answers: bool) -> Processor:
        """What makes batches, with answers to learn from or open questions."""
        return Processor.from_folders(
            self.encoders,
            self.language_model,
            self.connector,
            prompt=prompt,
            system_prompt=self.system_prompt,
            slots=self.slots,
            answers=answers,
            seed=self.seed,
            new_tokens=self.max_new_tokens,
        )

    def train_dataloader(self) -> DataLoader:
        data = self.data["train"]
        accumulate = 1 if self.trainer is None else self.trainer.accumulate_grad_batches
        order = ResumableOrder(len(data), self.batch_size, self.seed, self.learned, accumulate, self.share)
        processor = self.processor(STAGES[self.stage].prompt, answers=True)
        return self._loader(data, self.batch_size, processor, sampler=order)

    def learned(self) -> int:
        """Optimizer steps the run has taken, those before it was interrupted among them."""
        return 0 if self.trainer is None else self.trainer.global_step

    def val_dataloader(self) -> DataLoader | list:
        return self._asking("val") if self.stage != "stage1" and "val" in self.data else []

    def test_dataloader(self) -> DataLoader:
        return self._asking("test")

    def predict_dataloader(self) -> DataLoader:
        return self._asking("test")

    def _asking(self, split: Split) -> DataLoader:
        data = Shared(self.data[split], self.share)
        return self._loader(data, self.eval_batch_size, self.processor("vicuna_v1", answers=False))

    def _loader(self, data: Dataset, batch_size: int, processor: Processor, **options: Any) -> DataLoader:
        options |= {"batch_size": batch_size, "collate_fn": processor, "num_workers": self.num_workers}
        # A generator of its own, or beginning an epoch or a validation would move the one that training draws from.
        options["generator"] = torch.Generator().manual_seed(self.seed)
        return ResumableLoader(dataset=data, **options)
