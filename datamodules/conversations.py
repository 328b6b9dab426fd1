"""Conversation files as a LightningDataModule: the road every data set takes to a Batch."""

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
from datamodules.checked import dearest_lesson, first_lesson, known
from datamodules.encoders import check_places, run_encoder
from datamodules.loader import ResumableLoader
from datamodules.order import ResumableBatches, Share, Shared
from datamodules.probing import Probed, probing
from datamodules.rows import Rows, check_questions
from dynfocus.data.annotations.dataset import Annotations
from dynfocus.data.annotations.sources import Source
from dynfocus.data.doctor.examine import Reading
from dynfocus.data.sketches.cache import Filled, SketchCache
from dynfocus.data.sketches.media import Shown
from dynfocus.data.sketches.shards import SketchShards
from dynfocus.data.sketches.write_shards import Written, write_shards
from dynfocus.errors import ConfigError, DataError
from dynfocus.models.collate import Collator
from dynfocus.models.prompts import Turns
from dynfocus.settings import STAGES, ConnectorSettings, FrameRule, StageName, TemplateName
from dynfocus.types import Batch

Split = Literal["train", "val", "test"]


class ConversationDataModule(LightningDataModule):
    """Feeds conversations about images, videos and nothing at all to the model.

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
        group: share an optimizer step's rows out by what they show and by their tokens, so that its largest batch is
            as small as can be; `dynfocus doctor` has to have counted them.
        sketch_cache: folder where each video's sketch is kept; without one the encoder runs in every step.
        sketch_shards: folder or address of shards that ``dynfocus sketch --shard`` has written; what they hold is
            read from there.
        index: folder for indices of annotation files, and for what `dynfocus doctor` found.
        links: whether a link in a folder of media may lead out of it.
        template: how conversations become prompts after stage 1: Vicuna's way, or the language model's own.
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
        self.weights: dict[str, float] = {}
        self.data: dict[str, Rows] = {}
        self.order: ResumableBatches | None = None
        check_places(sketch_cache, sketch_shards, connector)

    @cached_property
    def cache(self) -> SketchCache | None:
        """The sketches on disk, where they are kept."""
        if self.sketch_cache is None:
            return None
        encoder = run_encoder(self.encoders, self.vision, self.trainer)
        device = None if self.trainer is None else self.trainer.strategy.root_device
        shards = None if self.sketch_shards is None else SketchShards(self.sketch_shards)
        return SketchCache(self.sketch_cache, encoder, self.connector, self.rule, device, shards=shards)

    def splits(self, stage: str) -> tuple[Split, ...]:
        """The splits that a run of ``fit``, ``validate``, ``test`` or ``predict`` reads."""
        wanted: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",)}
        return tuple(split for split in wanted.get(stage, ("test",)) if self.sources(split))

    @property
    def share(self) -> Share:
        """Which process this is, of how many."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def prepare_data(self) -> None:
        """Make the indices of what is trained on, in one process of each machine; the others find them."""
        if self.trainer is not None and self.trainer.state.fn == "fit":
            self.annotations("train")

    def setup(self, stage: str) -> None:
        if stage == "fit":
            accumulate_to(self.global_batch, self.trainer, self.batch_size)
        # A score over fewer rows than the file has would be another benchmark's: only training lets rows go.
        self.data |= {split: self.dataset(split, lenient=stage == "fit") for split in self.splits(stage)}
        if self.cache is not None:
            self.cache.fill(self.shown(self.splits(stage)), share=self.share)
            if self.trainer is not None:
                self.trainer.strategy.barrier("sketches")
        if stage == "fit":
            self.order = self.ordered()

    def shown(self, splits: Iterable[Split]) -> Iterator[Shown]:
        """This process's share of what is sketched before it is asked for; what lies in shards is looked up there."""
        if self.sketch_shards is not None:
            rank_zero_info(
                f"sketches lie in {self.sketch_shards}; one that is missing there is computed when it is met"
            )
            return iter([Shown(None)])  # for text-only rows
        return chain.from_iterable(self.data[split].media(self.share) for split in splits)

    def sketch(self, workers: int = 2) -> Filled:
        """Fill the cache with what any split shows, ahead of training; raises ConfigError if no cache is set."""
        parts = list(self.everything())
        filled = self.encoding.fill(chain.from_iterable(part.media() for part in parts), workers)
        return replace(filled, failed=filled.failed + sum(part.lost for part in parts))

    def share_out(self, out: str, share: Share, workers: int = 2) -> Written:
        """Write a share of the sketches of what any split shows into shards; raises ConfigError if no cache is set."""
        shown = chain.from_iterable(part.media() for part in self.everything())
        addressed = ((one.address, one.media) for one in shown if one.address is not None)
        return write_shards(addressed, self.encoding, out, share, workers)

    @property
    def encoding(self) -> SketchCache:
        if self.cache is None:
            raise ConfigError(
                "a config whose data.init_args.sketch_cache is not set",
                "a folder for the sketches",
                "Set it in the config, or add --data.init_args.sketch_cache FOLDER.",
            )
        return self.cache

    def everything(self) -> Iterator[Rows]:
        """The rows of every split."""
        self.prepare_data()
        splits: tuple[Split, ...] = ("train", "val", "test")
        return (self.dataset(split, True) for split in splits if self.sources(split))

    def readings(self) -> list[Reading]:
        """The training data sets and how they are read, for `dynfocus doctor`."""
        self.prepare_data()
        return self.read_by(self.annotations("train"))

    def read_by(self, sets: list[Annotations]) -> list[Reading]:
        processor = self.teaching()
        return [Reading(part, processor, self.rule, self.cache) for part in sets]

    def sources(self, split: Split) -> list[Source]:
        """The data sets of a split; none where it has no file."""
        if split not in self.files:
            return []
        return [Source(split, self.files[split], "jsonl" if self.files[split].endswith(".jsonl") else "conversations")]

    def annotations(self, split: Split) -> list[Annotations]:
        return [Annotations(source, self.root, self.index, self.links) for source in self.sources(split)]

    def dataset(self, split: Split, lenient: bool = False) -> Rows:
        rows = Rows(self.annotations(split), self.rule, self.cache, lenient)
        if split != "train":
            check_questions(rows, split, self.files[split])
        return rows

    def processor(self, prompt: str, answers: bool) -> Collator:
        """What makes batches, with answers to learn from or open questions."""
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

    def teaching(self) -> Collator:
        """What makes batches to learn from; a row that does not fit gives a blank one that says so."""
        return replace(self.processor(STAGES[self.stage].written(self.template), answers=True), lenient=True)

    def ordered(self) -> ResumableBatches:
        """The batches of this process, from what is known of the rows."""
        mix, costs, kinds = known(self.read_by(self.data["train"].sets), self.weights, self.seed, self.group)
        accumulate = 1 if self.trainer is None else self.trainer.accumulate_grad_batches
        return ResumableBatches(mix, self.batch_size, self.learned, accumulate, self.share, costs, kinds)

    def train_dataloader(self) -> DataLoader:
        assert self.order is not None
        data, processor = self.data["train"], self.teaching()
        rank_zero_info(first_lesson(data, self.order.mix.rows(0), processor))
        return self._loader(data, processor, batch_sampler=self.order)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.order is None else {"rows": self.order.mix.stamp}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises ConfigError if the run began with other rows than it would go on with."""
        if self.order is not None and state_dict["rows"] != self.order.mix.stamp:
            raise ConfigError(
                "a run that began with other training rows than there are now, so that nobody knows which come next",
                "the files, weights and findings of `dynfocus doctor` that it began with",
                "Begin anew, in another trainer.default_root_dir, or hand the model over with model.init_from.",
            )

    @property
    def training_rows(self) -> int:
        """Rows of an epoch."""
        return 0 if self.order is None else len(self.order.mix)

    def most_expensive_batch(self) -> Batch | None:
        """The dearest batch of the epoch that is next; None where it is not known what rows cost."""
        return None if self.order is None else dearest_lesson(self.data["train"], self.order, self.teaching())

    def probes(self, split: Split, videos: int) -> Probed | None:
        """So many videos of a split, to be looked at again and again; None where it shows none that can be read."""
        prompt = STAGES[self.stage].written(self.template) if split == "train" else self.template
        return probing(self.data[split], self.processor(prompt, answers=False), videos)

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Raises DataError if a row was skipped and nothing would tell."""
        callbacks = self.trainer.callbacks if self.trainer is not None else []  # type: ignore[attr-defined]
        if batch.skipped and not any(getattr(one, "records_skipped", False) for one in callbacks):
            one = batch.skipped[0]
            raise DataError(
                f"row {one.index} of {one.source}, which cannot be learned from: {one.cause}",
                "rows that can be read, or callbacks.quarantine.Quarantine to note those that cannot",
                "Mend or delete the row, or add that callback to trainer.callbacks.",
            )
        return batch

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
        processor = replace(self.processor(self.template, answers=False), lenient=self.data[split].lenient)
        return self._loader(data, processor, batch_size=self.eval_batch_size)

    def _loader(self, data: Dataset, processor: Collator, **options: Any) -> DataLoader:
        options |= {"collate_fn": processor, "num_workers": self.num_workers}
        # A generator of its own, or beginning an epoch or a validation would move the one that training draws from.
        options["generator"] = torch.Generator().manual_seed(self.seed)
        return ResumableLoader(dataset=data, **options)
