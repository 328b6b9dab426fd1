"""Conversation files as a LightningDataModule: the road every data set takes to a Batch."""

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from dynfocus.errors import ConfigError
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
HALF = {"bf16-true": torch.bfloat16, "16-true": torch.float16}


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


class ResumableOrder(Sampler[int]):
    """A random order of each epoch, keyed by (seed, epoch), that goes on where a resumed run had stopped.

    Args:
        size: rows of the data set.
        batch_size: rows in a batch; a last, smaller batch is left out.
        seed: keys the orders.
        learned: says how many batches the run has learned from so far, asked when an epoch begins.
    """

    def __init__(self, size: int, batch_size: int, seed: int, learned: Callable[[], int]) -> None:
        self.size, self.batch_size, self.seed, self.learned = size, batch_size, seed, learned

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        epoch, done = divmod(self.learned(), max(1, self.size // self.batch_size))
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        return iter(torch.randperm(self.size, generator=generator).tolist()[done * self.batch_size :])


class ResumableLoader(DataLoader):
    """A loader whose sampler knows where to go on; Lightning asks for these two to believe it.

    It keeps no count of its own: batches are fetched ahead, so only the trainer knows how many were learned from.
    """

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
        batch_size: rows in a training batch.
        eval_batch_size: rows in a validation or test batch.
        sketch_cache: folder where each video's sketch is kept; without one the encoder runs in every step.
        slots: ``first`` or ``every`` turn of a conversation shows the video.
        system_prompt: whether the conversation opens with the template's long sentence.
        num_workers: loader processes.
        seed: keys the order of rows.
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
        eval_batch_size: int = 64,
        sketch_cache: Path | None = None,
        slots: Turns = "every",
        system_prompt: bool = True,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.root, self.encoders, self.language_model = Path(root), Path(encoders), Path(language_model)
        self.connector, self.stage, self.files, self.rule = connector, stage, files or {}, frame_rule
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.sketch_cache, self.slots, self.system_prompt = sketch_cache, slots, system_prompt
        self.num_workers, self.seed = num_workers, seed
        self.data: dict[str, ConversationDataset] = {}

    @cached_property
    def cache(self) -> SketchCache | None:
        """The sketches on disk, where they are kept."""
        if self.sketch_cache is None:
            return None
        trained = getattr(self.trainer and self.trainer.lightning_module, "init_from", None)
        # A model that starts from a whole model's folder brings that one's vision encoder.
        folder = self.encoders if trained is None or not Path(trained).is_dir() else Path(trained)
        precision = None if self.trainer is None else HALF.get(str(self.trainer.precision))
        device = None if self.trainer is None else self.trainer.strategy.root_device
        return SketchCache(self.sketch_cache, EncoderFolder(folder, precision), self.connector, self.rule, device)

    def splits(self, stage: str) -> tuple[Split, ...]:
        """The splits that a run of ``fit``, ``validate``, ``test`` or ``predict`` reads."""
        wanted: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",)}
        return tuple(split for split in wanted.get(stage, ("test",)) if split in self.files)

    def setup(self, stage: str) -> None:
        self.data |= {split: self.dataset(split) for split in self.splits(stage)}
        if self.cache is None:
            return
        media = self.media(self.data[split] for split in self.splits(stage))
        if self.trainer is None or self.trainer.world_size == 1:
            self.cache.fill(media)
            return
        self.cache.fill(media, share=(self.trainer.global_rank, self.trainer.world_size))
        self.trainer.strategy.barrier("sketches")

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
        )

    def train_dataloader(self) -> DataLoader:
        data = self.data["train"]
        order = ResumableOrder(len(data), self.batch_size, self.seed, self.learned)
        processor = self.processor(STAGES[self.stage].prompt, answers=True)
        return self._loader(data, self.batch_size, processor, sampler=order, drop_last=True)

    def learned(self) -> int:
        """Batches the run has learned from, those before it was interrupted among them."""
        return 0 if self.trainer is None else self.trainer.global_step * self.trainer.accumulate_grad_batches

    def val_dataloader(self) -> DataLoader | list:
        return self._asking("val") if self.stage != "stage1" and "val" in self.data else []

    def test_dataloader(self) -> DataLoader:
        return self._asking("test")

    def predict_dataloader(self) -> DataLoader:
        return self._asking("test")

    def _asking(self, split: Split) -> DataLoader:
        return self._loader(self.data[split], self.eval_batch_size, self.processor("vicuna_v1", False))

    def _loader(self, data: Dataset, batch_size: int, processor: Processor, **options: Any) -> DataLoader:
        options |= {"batch_size": batch_size, "collate_fn": processor, "num_workers": self.num_workers}
        return ResumableLoader(dataset=data, **options)
