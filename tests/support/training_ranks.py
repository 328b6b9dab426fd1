"""Runs of the real module and Trainer on given rows, in one process or in two real ones that share a step's rows."""

import pickle
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tiny
import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy, Strategy
from spawn_ranks import together
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, Sampler

from datamodules.loader import ResumableLoader
from dynfocus.models.collate import Example
from dynfocus.settings import ConnectorSettings
from dynfocus.train.fit import EXPECTED
from dynfocus.train.fsdp import FSDP2Strategy, gather_weights
from dynfocus.train.module import DynFocusModule

SECONDS = 20  # that processes wait for each other, so that a hang is a failure
NOISY = replace(tiny.SETTINGS, sigma=0.5)
Rows = Sequence[Sequence[Example]]  # of each optimizer step


def several(work: Callable[[int], Any], processes: int = 2, seconds: float = 90) -> list[Any]:
    """What ``work(rank)`` returns in every process."""
    with TemporaryDirectory() as folder:

        def save_result(rank: int) -> None:
            (Path(folder) / str(rank)).write_bytes(pickle.dumps(work(rank)))

        together(save_result, processes, seconds)
        return [pickle.loads((Path(folder) / str(rank)).read_bytes()) for rank in range(processes)]


def strategy(name: str) -> Strategy | str:
    if name == "one":
        return "auto"
    wait = timedelta(seconds=SECONDS)
    return DDPStrategy(timeout=wait) if name == "ddp" else FSDP2Strategy(minutes=SECONDS / 60)


class StepData(LightningDataModule):
    """The rows of every step, shared out as `datamodules.sampler.ResumableBatchSampler` does it."""

    def __init__(self, steps: Rows, settings: ConnectorSettings, accumulate: int, val_rows: Sequence[Example]) -> None:
        super().__init__()
        self.steps, self.settings, self.accumulate, self.val_rows = steps, settings, accumulate, val_rows

    def own(self) -> list[list[Example]]:
        assert self.trainer is not None
        rank, processes = self.trainer.global_rank, self.trainer.world_size
        parts = []
        for rows in self.steps:
            size = len(rows) // (self.accumulate * processes)
            for n in range(self.accumulate):
                start = (n * processes + rank) * size
                parts.append(list(rows[start : start + size]))
        return parts

    def train_dataloader(self) -> DataLoader:
        collator = tiny.processor(self.settings, answers=True)
        batches: Any = [collator(rows) for rows in self.own()]
        return ResumableLoader(batches, batch_size=None, sampler=ResumingSampler(self, len(batches)))

    def val_dataloader(self) -> DataLoader | list:
        assert self.trainer is not None
        rank, processes = self.trainer.global_rank, self.trainer.world_size
        rows = [self.val_rows[n % len(self.val_rows)] for n in range(-(-len(self.val_rows) // processes) * processes)]
        rows = [replace(row, is_padding=n >= len(self.val_rows)) for n, row in enumerate(rows)]
        collator = tiny.processor(self.settings)
        batches: Any = [collator([row]) for row in rows[rank::processes]]
        return DataLoader(batches, batch_size=None) if batches else []


class ResumingSampler(Sampler[int]):
    """The places of batches, from the step on that is next when an epoch begins."""

    def __init__(self, data: StepData, batches: int) -> None:
        self.data, self.batches = data, batches

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[int]:
        assert self.data.trainer is not None
        done = self.data.trainer.global_step * self.data.accumulate
        yield from [*range(done, self.batches), *range(done)]


class Watch(Callback):
    """The loss and the gradient's norm of each optimizer step; Adam would hide a gradient of another size."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.norms: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, n: int
    ) -> None:
        if (n + 1) % trainer.accumulate_grad_batches == 0:
            self.losses.append(float(trainer.callback_metrics["train/loss"]))
            norms = [weight.grad.norm() for weight in pl_module.parameters() if weight.grad is not None]
            whole = [norm.full_tensor() if isinstance(norm, DTensor) else norm for norm in norms]
            self.norms.append(float(torch.stack(whole).norm()))


@dataclass
class TrainingResult:
    """What a run leaves: losses and gradient norms of its steps, weights (of the first process) and metrics."""

    losses: list[float]
    norms: list[float]
    weights: dict[str, torch.Tensor]
    metrics: dict[str, float] = field(default_factory=dict)


def learn(
    towers: Path,
    name: str,
    steps: Rows,
    settings: ConnectorSettings = NOISY,
    accumulate: int = 1,
    precision: Any = "32-true",
    clip: float | None = None,
    val_rows: Sequence[Example] = (),
    seed: int = 0,
    folder: Path | None = None,
    resume: Path | None = None,
    callbacks: Sequence[Callback] = (),
    **model: Any,
) -> TrainingResult:
    """Train on ``steps``, alone (``one``), or as one of two processes (``ddp``, ``sharded``)."""
    for message in EXPECTED:
        warnings.filterwarnings("ignore", message)
    torch.manual_seed(seed)
    watch = Watch()
    options = {"lr": 3e-4, "warmup": 0.0} | model
    module = DynFocusModule(towers / "encoders", towers / "language", settings, max_new_tokens=3, **options)
    trainer = Trainer(
        accelerator="cpu",
        devices=1 if name == "one" else 2,
        strategy=strategy(name),
        precision=precision,
        max_epochs=1,
        accumulate_grad_batches=accumulate,
        gradient_clip_val=clip,
        callbacks=[watch, *callbacks],
        logger=False,
        default_root_dir=folder,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        **dict.fromkeys(("enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False),
    )
    trainer.fit(module, StepData(steps, settings, accumulate, val_rows), ckpt_path=resume, weights_only=True)
    assert module.model is not None
    state = gather_weights(module.model) if name == "sharded" else module.model.state_dict()
    metrics = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("val/")}
    return TrainingResult(
        watch.losses, watch.norms, {key: value.detach().cpu().clone() for key, value in state.items()}, metrics
    )


def both(towers: Path, name: str, steps: Rows, **options: Any) -> TrainingResult:
    """The same in two processes."""
    return several(lambda rank: learn(towers, name, steps, **options))[0]


def same(actual: TrainingResult, expected: TrainingResult, digits: float = 1e-5) -> None:
    """Losses, weights and gradients agree to about 5 digits, the last of these summed in another order to 4."""
    assert len(actual.losses) == len(expected.losses) > 0
    torch.testing.assert_close(torch.tensor(actual.losses), torch.tensor(expected.losses), rtol=digits, atol=digits)
    torch.testing.assert_close(torch.tensor(actual.norms), torch.tensor(expected.norms), rtol=10 * digits, atol=digits)
    alike(actual.weights, expected.weights, digits)


def alike(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], digits: float = 1e-5) -> None:
    """By the distance of whole tensors: Adam's first steps give a gradient that cancels out any sign."""
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        if name.endswith("key.bias"):
            continue  # no softmax hears of it: its gradient is rounding, which Adam makes as large as any
        apart = (actual[name].float() - tensor.float()).norm()
        assert apart <= digits * max(1.0, float(tensor.float().norm())), (name, apart)
