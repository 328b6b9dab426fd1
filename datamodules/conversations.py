"""Define the LightningDataModule that turns conversation files into batches; every data set goes through it."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader, Dataset

from datamodules.accumulation import accumulate_to
from datamodules.encoders import check_sketch_settings, open_run_encoder, require_cache
from datamodules.examples import ExampleDataset, check_questions, check_recorded
from datamodules.loader import ResumableLoader
from datamodules.probe_videos import ProbeVideos, collect_probes
from datamodules.sampler import RankDataset, ResumableBatchSampler, Share
from datamodules.training_rows import first_trainable_example, most_expensive_batch, plan_epochs
from dynfocus.data.annotations.dataset import Annotations
from dynfocus.data.annotations.sources import Source
from dynfocus.data.doctor.examine import TrainingView
from dynfocus.data.sketches.cache import FillReport, SketchCache
from dynfocus.data.sketches.media import SketchItem
from dynfocus.data.sketches.shards import SketchShards
from dynfocus.data.sketches.write_shards import ShareReport, write_shards
from dynfocus.errors import ConfigError
from dynfocus.models.collate import Collator
from dynfocus.models.prompts import Turns
from dynfocus.settings import STAGES, ConnectorSettings, FrameRule, StageName, TemplateName
from dynfocus.types import Batch

Split = Literal["train", "val", "test"]


class ConversationDataModule(LightningDataModule):
    """Feeds conversations about images, videos and nothing at all to the model.

    Attributes:
        benchmark: how answers of its validation and test are judged and counted.

    Args:
        root: folder of the data; annotation files and media are named relative to it.
        encoders: folder of the vision encoder and the instruction tokenizer.
        language_model: folder of the language model's tokenizer.
        connector: the connector's settings.
        stage: which stage is trained: it says which prompt is used.
        files: the annotation file of each split, relative to ``root``: a JSON list or JSON lines of conversations. A
            split without file is skipped.
        frame_rule: how frames are taken from a video.
        batch_size: rows in a training batch of one process.
        global_batch: rows that an optimizer step learns from, over all processes: batches are accumulated to it.
            Without it, a step learns from one batch of every process, times ``trainer.accumulate_grad_batches``.
        eval_batch_size: rows in a validation or test batch of one process.
        group: arrange an optimizer step's rows into batches by what they show and by their tokens, so that its largest
            batch is as small as can be; `dynfocus doctor` has to count the tokens first.
        sketch_cache: folder where each video's sketch is kept; without one the encoder runs in every step.
        sketch_shards: folder or address of shards that ``dynfocus sketch --shard`` has written; what they hold is
            read from there.
        index: folder for indices of annotation files, and for the findings of `dynfocus doctor`.
        links: whether a link in a folder of media may lead out of it.
        template: how conversations become prompts after stage 1: Vicuna's way, or the language model's own.
        slots: ``first`` or ``every`` turn of a conversation shows the video.
        system_prompt: whether the conversation opens with the template's long sentence.
        num_workers: loader processes.
        seed: keys the order of rows.
        vision: folder of another vision encoder than that in ``encoders``.
        max_new_tokens: room that a question's prompt leaves for the answer.

    Raises:
        ConfigError: if sketches are to be kept where they depend on the question.
    """

    benchmark = "world"

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
        group: bool = False,
        sketch_cache: Path | None = None,
        sketch_shards: str | None = None,
        index: Path = Path("cache/index"),
        links: bool = False,
        template: TemplateName = "vicuna_v1",
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
        self.group, self.index, self.links, self.template = group, Path(index), links, template
        self.sketch_cache, self.sketch_shards = sketch_cache, sketch_shards
        self.slots, self.system_prompt = slots, system_prompt
        self.num_workers, self.seed, self.vision, self.max_new_tokens = num_workers, seed, vision, max_new_tokens
        least = {"batch_size": 1, "eval_batch_size": 1, "num_workers": 0}
        for name, number in least.items():
            if (value := getattr(self, name)) < number:
                raise ConfigError(f"data.init_args.{name} = {value}", f"at least {number}", "Raise it.")
        self.weights: dict[str, float] = {}
        self.data: dict[str, ExampleDataset] = {}
        self.sampler: ResumableBatchSampler | None = None
        check_sketch_settings(sketch_cache, sketch_shards, connector)

    @cached_property
    def cache(self) -> SketchCache | None:
        """The sketches on disk, where they are kept."""
        if self.sketch_cache is None:
            return None
        encoder = open_run_encoder(self.encoders, self.vision, self.trainer)
        device = None if self.trainer is None else self.trainer.strategy.root_device
        shards = None if self.sketch_shards is None else SketchShards(self.sketch_shards)
        return SketchCache(self.sketch_cache, encoder, self.connector, self.rule, device, shards=shards)

    def splits(self, stage: str) -> tuple[Split, ...]:
        """Return the splits that a run of ``fit``, ``validate``, ``test`` or ``predict`` reads."""
        by_stage: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",)}
        return tuple(split for split in by_stage.get(stage, ("test",)) if self.sources(split))

    @property
    def share(self) -> Share:
        """Which process this is, of how many."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def prepare_data(self) -> None:
        """Index the training files in one process of each machine; the others then find the indices."""
        if self.trainer is not None and self.trainer.state.fn == "fit":
            self.annotations("train")

    def setup(self, stage: str) -> None:
        verb, split = ("validate", "val") if stage == "validate" else ("predict", "test")
        if stage == verb and not self.splits(stage):
            raise ConfigError(
                f"`dynfocus {verb}` of data that name no file of the split {split}",
                f"annotated rows, as data.init_args.files: {{{split}: FILE}}",
                "Name them; `dynfocus answer` answers questions that nobody has annotated.",
            )
        if stage == "fit":
            accumulate_to(self.global_batch, self.trainer, self.batch_size)
        # A score over fewer rows would be that of another benchmark: only training may skip rows.
        self.data |= {split: self.dataset(split, skip_invalid=stage == "fit") for split in self.splits(stage)}
        if self.cache is not None:
            self.cache.fill(self.own_items(self.splits(stage)), share=self.share)
            if self.trainer is not None:
                self.trainer.strategy.barrier("sketches")
        if stage == "fit":
            self.sampler = self.make_sampler()

    def own_items(self, splits: Iterable[Split]) -> Iterator[SketchItem]:
        """Yield what this process sketches ahead of training; with shards that is the blank frame alone."""
        if self.sketch_shards is not None:
            rank_zero_info(
                f"sketches lie in {self.sketch_shards}; one that is missing there is computed when it is needed"
            )
            return iter([SketchItem(None)])  # for text-only rows
        return chain.from_iterable(self.data[split].media(self.share) for split in splits)

    def sketch(self, workers: int = 2) -> FillReport:
        """Fill the cache with what any split shows, ahead of training; raises ConfigError if no cache is set."""
        datasets = list(self.all_datasets())
        report = require_cache(self.cache).fill(chain.from_iterable(dataset.media() for dataset in datasets), workers)
        return replace(report, failed=report.failed + sum(dataset.unreadable for dataset in datasets))

    def share_out(self, out: str, share: Share, workers: int = 2) -> ShareReport:
        """Write a share of the sketches of what any split shows into shards; raises ConfigError if no cache is set."""
        items = chain.from_iterable(part.media() for part in self.all_datasets())
        addressed = ((one.address, one.media) for one in items if one.address is not None)
        return write_shards(addressed, require_cache(self.cache), out, share, workers)

    def all_datasets(self) -> Iterator[ExampleDataset]:
        """Yield the dataset of every split."""
        self.prepare_data()
        splits: tuple[Split, ...] = ("train", "val", "test")
        return (self.dataset(split, True) for split in splits if self.sources(split))

    def training_views(self) -> list[TrainingView]:
        """Return the training data sets as training reads them, for `dynfocus doctor`."""
        self.prepare_data()
        return self.make_views(self.annotations("train"))

    def make_views(self, sets: list[Annotations]) -> list[TrainingView]:
        collator = self.training_collator()
        return [TrainingView(part, collator, self.rule, self.cache) for part in sets]

    def sources(self, split: Split) -> list[Source]:
        """Return the data sets of a split; none where it has no file."""
        if split not in self.files:
            return []
        return [Source(split, self.files[split], "jsonl" if self.files[split].endswith(".jsonl") else "conversations")]

    def annotations(self, split: Split) -> list[Annotations]:
        return [Annotations(source, self.root, self.index, self.links) for source in self.sources(split)]

    def dataset(self, split: Split, skip_invalid: bool = False) -> ExampleDataset:
        dataset = ExampleDataset(self.annotations(split), self.rule, self.cache, skip_invalid)
        if split != "train":
            check_questions(dataset, split, self.files[split])
        return dataset

    def collator(self, prompt: str, answers: bool) -> Collator:
        """Make the collator of batches, with answers to learn from or with open questions."""
        return Collator.from_folders(
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

    def training_collator(self) -> Collator:
        """Make the collator of training batches; an invalid row becomes a blank one with the cause."""
        return replace(self.collator(STAGES[self.stage].written(self.template), answers=True), skip_invalid=True)

    def make_sampler(self) -> ResumableBatchSampler:
        """Make the sampler of this process's batches."""
        epoch_order, costs, kinds = plan_epochs(
            self.make_views(self.data["train"].sets), self.weights, self.seed, self.group
        )
        accumulate = 1 if self.trainer is None else self.trainer.accumulate_grad_batches
        return ResumableBatchSampler(
            epoch_order, self.batch_size, self.completed_steps, accumulate, self.share, costs, kinds
        )

    def train_dataloader(self) -> DataLoader:
        assert self.sampler is not None
        data, collator = self.data["train"], self.training_collator()
        rank_zero_info(first_trainable_example(data, self.sampler.epoch_order.rows(0), collator))
        return self._loader(data, collator, batch_sampler=self.sampler)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.sampler is None else {"rows": self.sampler.epoch_order.stamp}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises ConfigError if the run began with other rows than it would go on with."""
        if self.sampler is not None and state_dict["rows"] != self.sampler.epoch_order.stamp:
            raise ConfigError(
                "a run that began with other training rows than there are now, so that nobody knows which come next",
                "the files, weights and findings of `dynfocus doctor` that it began with",
                "Begin anew, in another trainer.default_root_dir, or hand the model over with model.init_from.",
            )

    @property
    def training_rows(self) -> int:
        """Rows of an epoch."""
        return 0 if self.sampler is None else len(self.sampler.epoch_order)

    def most_expensive_batch(self) -> Batch | None:
        """Make the most expensive batch of the next epoch; None where costs are not known."""
        return (
            None
            if self.sampler is None
            else most_expensive_batch(self.data["train"], self.sampler, self.training_collator())
        )

    def probes(self, split: Split, videos: int) -> ProbeVideos | None:
        """Collect so many videos of a split to watch during training; None where it has none that can be read."""
        prompt = STAGES[self.stage].written(self.template) if split == "train" else self.template
        return collect_probes(self.data[split], self.collator(prompt, answers=False), videos)

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        check_recorded(batch, self.trainer)
        return batch

    def completed_steps(self) -> int:
        """Return the optimizer steps that the run has taken, with those before an interruption."""
        return 0 if self.trainer is None else self.trainer.global_step

    def val_dataloader(self) -> DataLoader | list:
        return self._eval_loader("val") if self.stage != "stage1" and "val" in self.data else []

    def test_dataloader(self) -> DataLoader:
        return self._eval_loader("test")

    def predict_dataloader(self) -> DataLoader:
        return self._eval_loader("test")

    def _eval_loader(self, split: Split) -> DataLoader:
        data = RankDataset(self.data[split], self.share)
        collator = replace(self.collator(self.template, answers=False), skip_invalid=self.data[split].skip_invalid)
        return self._loader(data, collator, batch_size=self.eval_batch_size)

    def _loader(self, data: Dataset, collator: Collator, **options: Any) -> DataLoader:
        options |= {"collate_fn": collator, "num_workers": self.num_workers}
        # A generator of its own: else beginning an epoch or a validation would change the random numbers of training.
        options["generator"] = torch.Generator().manual_seed(self.seed)
        return ResumableLoader(dataset=data, **options)
