"""Which rows a step learns from, however many processes and batches share it, and which rows each process is asked."""

import math
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning import LightningModule, Trainer
from tiny_world import arguments

from datamodules.accumulation import count_accumulated
from datamodules.conversations import ConversationDataModule
from datamodules.epoch_order import EpochOrder
from datamodules.sampler import RankDataset, ResumableBatchSampler
from dynfocus.errors import CheckpointError, ConfigError
from dynfocus.models.collate import Example
from dynfocus.records.rows import Row, Turn
from dynfocus.settings import ConnectorSettings, FrameRule
from dynfocus.train.fit import EXPECTED, Experiment, run


def batches_of(size: int, batch: int, seed: int = 0, **options: Any) -> ResumableBatchSampler:
    options = {"completed_steps": lambda: 0} | options
    return ResumableBatchSampler(EpochOrder({"rows": size}, seed=seed), batch, **options)


def epochs(order: ResumableBatchSampler, count: int) -> list[list[int]]:
    """The batches of ``count`` epochs of a run that has learned from nothing."""
    batches = []
    for epoch in range(count):
        order.completed_steps = lambda done=epoch * order.steps: done
        batches += list(order)
    return batches


def steps(size: int, batch: int, accumulate: int, processes: int, count: int = 2, seed: int = 0) -> list[set[int]]:
    """The rows of every optimizer step of two epochs, over all processes."""
    shares = []
    for rank in range(processes):
        order = batches_of(size, batch, seed, accumulate=accumulate, share=(rank, processes))
        mine = epochs(order, count)
        assert len(mine) == count * len(order)
        assert {len(rows) for rows in mine} == {batch}
        shares.append([list(chain(*mine[start : start + accumulate])) for start in range(0, len(mine), accumulate)])
    together = [[row for share in step for row in share] for step in zip(*shares, strict=True)]
    assert all(len(rows) == len(set(rows)) == batch * accumulate * processes for rows in together)
    return [set(rows) for rows in together]


@settings(max_examples=40)
@given(batch=st.integers(1, 5), half=st.integers(1, 3), extra=st.integers(0, 40), seed=st.integers(0, 3))
def test_a_step_learns_from_the_same_rows_whoever_computes_them(batch: int, half: int, extra: int, seed: int) -> None:
    size = 2 * batch * half + extra
    one = steps(size, 2 * batch * half, 1, 1, seed=seed)
    assert len(one) == 2 * (size // (2 * batch * half))
    assert one == steps(size, batch * half, 1, 2, seed=seed)
    assert one == steps(size, batch * half, 2, 1, seed=seed)
    assert one == steps(size, batch, half, 2, seed=seed)
    assert one == steps(size, batch, 1, 2 * half, seed=seed)


@settings(max_examples=40)
@given(size=st.integers(1, 60), batch=st.integers(1, 5), accumulate=st.integers(1, 3), processes=st.integers(1, 4))
def test_an_epoch_repeats_nothing_and_leaves_out_less_than_a_step(
    size: int, batch: int, accumulate: int, processes: int
) -> None:
    together = batch * accumulate * processes
    if size < together:
        with pytest.raises(ConfigError, match=f"{size} training rows for steps of {together}"):
            batches_of(size, batch, accumulate=accumulate, share=(0, processes))
        return
    rows = [row for step in steps(size, batch, accumulate, processes, count=1) for row in step]
    assert len(rows) == len(set(rows)) == size - size % together
    assert set(rows) <= set(range(size))


@settings(max_examples=40)
@given(size=st.integers(12, 60), done=st.integers(0, 12), accumulate=st.integers(1, 3), rank=st.integers(0, 1))
def test_a_resumed_run_goes_on_at_any_step(size: int, done: int, accumulate: int, rank: int) -> None:
    whole = batches_of(size, 2, 5, accumulate=accumulate, share=(rank, 2))
    again = batches_of(size, 2, 5, accumulate=accumulate, share=(rank, 2), completed_steps=lambda: done)
    uninterrupted = epochs(whole, done // whole.steps + 2)
    assert list(again) == uninterrupted[done * accumulate :][: len(whole)]


def test_every_epoch_has_an_order_of_its_own() -> None:
    rows = list(chain(*epochs(batches_of(50, 5), 2)))
    assert sorted(rows[:50]) == sorted(rows[50:]) == list(range(50))
    assert rows[:50] != rows[50:]
    assert rows[:50] != list(chain(*epochs(batches_of(50, 5, seed=1), 1)))


@pytest.mark.parametrize(
    ("global_batch", "batch_size", "batches"),
    [
        (256, 16, (16, 4, 2, 1)),
        (128, 8, (16, 4, 2, 1)),
        (128, 4, (32, 8, 4, 2)),
    ],
)
def test_the_papers_batches_on_1_4_8_and_16_gpus(global_batch: int, batch_size: int, batches: tuple[int, ...]) -> None:
    assert tuple(count_accumulated(global_batch, batch_size, gpus) for gpus in (1, 4, 8, 16)) == batches


@pytest.mark.parametrize(
    ("sizes", "advice"),
    [
        ((128, 48, 1), "Set data.init_args.batch_size to one of 1, 2, 4, 8, 16, 32, 64, 128."),
        ((128, 32, 16), "batch_size to one of 1, 2, 4, 8."),
        ((128, 8, 3), "a multiple of 3, such as 120, or run on a number of processes that divides 128: 1, 2, 4, 8"),
        ((4, 1, 8), "a multiple of 8, such as 8"),
        ((0, 1, 1), "a multiple of 1, such as 1"),
        ((8, 0, 2), "batch_size to one of 1, 2, 4."),
    ],
)
def test_a_batch_that_does_not_come_out_even_is_refused_with_what_would(
    sizes: tuple[int, int, int], advice: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        count_accumulated(*sizes)
    assert advice in str(refused.value)
    assert f"global_batch = {sizes[0]} with batch_size = {sizes[1]} and {sizes[2]} at a time" in str(refused.value)


@settings(max_examples=40)
@given(total=st.integers(1, 300), batch=st.integers(1, 20), processes=st.integers(1, 9))
def test_accumulation_multiplies_back_or_names_what_works(total: int, batch: int, processes: int) -> None:
    try:
        assert count_accumulated(total, batch, processes) * batch * processes == total
    except ConfigError as refused:
        numbers = [int(word.strip(".,:")) for word in refused.do.split() if word.strip(".,:").isdigit()]
        if "batch_size to" in refused.do:
            assert numbers
            assert all(count_accumulated(total, number, processes) for number in numbers)
        else:
            assert count_accumulated(numbers[1], batch, processes)
            assert all(total % number == 0 for number in numbers[3:])


pytestmark = [pytest.mark.filterwarnings(f"ignore:{message}") for message in EXPECTED]


class Rows(torch.utils.data.Dataset):
    """Examples that are told apart by their row's number."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Example:
        return Example(Row(str(index), index, None, (Turn("what", "that"),)))


@settings(max_examples=40)
@given(size=st.integers(0, 40), processes=st.integers(1, 5))
def test_every_row_is_asked_once_and_by_equally_many(size: int, processes: int) -> None:
    shares = [RankDataset(Rows(size), (rank, processes)) for rank in range(processes)]
    assert {len(share) for share in shares} == {math.ceil(size / processes)}
    examples_of_ranks = [[share[n] for n in range(len(share))] for share in shares]
    in_order = [example for turn in zip(*examples_of_ranks, strict=True) for example in turn]
    assert [example.row.index for example in in_order if not example.is_padding] == list(range(size))
    assert sum(example.is_padding for example in in_order) == -size % processes


def test_frames_are_read_anew_for_every_question_in_frame_mode(place: Path) -> None:
    towers = (place / "towers" / "encoders", place / "towers" / "language")
    frame = ConnectorSettings(instruction_mode="frame")
    with pytest.raises(ConfigError, match=r"Set data.init_args.sketch_cache to null"):
        ConversationDataModule(place / "data", *towers, frame, sketch_cache=place / "none")
    data = ConversationDataModule(place / "data", *towers, frame, files={"test": "test.json"}, slots="first")
    data.setup("test")
    assert data.data["test"][0].frames is not None
    assert data.data["test"][0].sketch is None
    assert data.test_dataloader().collate_fn.new_tokens == 16


def test_another_vision_encoder_is_the_one_that_sketches(place: Path, tmp_path: Path) -> None:
    towers = (place / "towers" / "encoders", place / "towers" / "language")
    plain = ConversationDataModule(place / "data", *towers, sketch_cache=tmp_path)
    other = ConversationDataModule(place / "data", *towers, sketch_cache=tmp_path, vision=place / "towers" / "language")
    assert plain.cache is not None
    assert plain.cache.source.folder == towers[0]
    with pytest.raises(CheckpointError, match="a vision encoder"):
        _ = other.cache


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "16-mixed", "16-true", "32-true"])
def test_sketches_are_made_in_the_precision_that_the_frozen_encoder_computes_in(
    place: Path, tmp_path: Path, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = {"bf16": torch.bfloat16, "16": torch.float16, "32": torch.float32}[precision.split("-")[0]]
    data = data_of(place, sketch_cache=tmp_path)
    monkeypatch.setattr(Trainer, "precision", precision)  # which a trainer on a CPU would not take
    data.trainer = trainer_of(tmp_path)
    assert data.cache is not None
    assert data.cache.source.dtype == kind


class StepRecorder(LightningModule):
    """Learns nothing, but notes the rows of every batch and step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.steps: list[tuple[int, list[int]]] = []
        self.estimated = 0

    def configure_optimizers(self) -> Any:
        self.estimated = int(self.trainer.estimated_stepping_batches)
        return torch.optim.SGD([self.weight], 0.1)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.steps.append((self.global_step, [record.index for record in batch.records]))
        return self.weight.sum()


class IdleExperiment(Experiment):
    """All that ``fit`` builds, which then does not run."""

    def fit(self, **options: Any) -> None:
        pass


def data_of(place: Path, **options: Any) -> ConversationDataModule:
    folders = (place / "data", place / "towers" / "encoders", place / "towers" / "language")
    files = {"train": "stage2.json"}
    few = {"connector": replace(tiny.SETTINGS, kept_tokens=2), "frame_rule": FrameRule(size=24)}
    options |= {**few, "slots": "first"}
    return ConversationDataModule(*folders, files=files, system_prompt=False, **options)


def trainer_of(folder: Path, **options: Any) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    off = {
        "enable_checkpointing": False,
        "num_sanity_val_steps": 0,
        "limit_val_batches": 0,
        "accelerator": "cpu",
        "use_distributed_sampler": False,
    }
    return Trainer(default_root_dir=folder, **quiet, **off, **options)


def test_the_trainer_accumulates_to_the_global_batch_and_knows_its_steps(place: Path, tmp_path: Path) -> None:
    size = len(data_of(place).dataset("train"))
    module, data = StepRecorder(), data_of(place, batch_size=4, global_batch=12)
    trainer = trainer_of(tmp_path, max_epochs=2)
    trainer.fit(module, datamodule=data)
    assert trainer.accumulate_grad_batches == 3
    assert trainer.num_training_batches == 3 * (size // 12)
    assert module.estimated == trainer.global_step == 2 * (size // 12)
    one = StepRecorder()
    trainer_of(tmp_path, max_epochs=2).fit(one, datamodule=data_of(place, batch_size=12))
    rows_of_steps: dict[int, set[int]] = {}
    for step, rows in module.steps:
        rows_of_steps.setdefault(step, set()).update(rows)
    assert rows_of_steps == {step: set(rows) for step, rows in one.steps}


def test_two_answers_to_how_much_is_accumulated_are_refused(place: Path, tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, max_epochs=1, accumulate_grad_batches=2)
    with pytest.raises(ConfigError, match=r"Leave trainer\.accumulate_grad_batches out"):
        trainer.fit(StepRecorder(), datamodule=data_of(place, batch_size=4, global_batch=12))
    trainer = trainer_of(tmp_path, max_epochs=1, accumulate_grad_batches=3)
    trainer.fit(StepRecorder(), datamodule=data_of(place, batch_size=4, global_batch=12))
    assert trainer.accumulate_grad_batches == 3


def test_data_smaller_than_a_step_are_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least the rows of one optimizer step"):
        trainer_of(tmp_path, max_epochs=1).fit(StepRecorder(), datamodule=data_of(place, batch_size=5000))


def test_lightning_never_shares_rows_out_a_second_time(place: Path, tmp_path: Path) -> None:
    built = run(
        arguments(place, "fit", "stage1", tmp_path / "run", "--trainer.use_distributed_sampler", "true"), IdleExperiment
    )
    assert built.trainer._accelerator_connector.use_distributed_sampler is False
