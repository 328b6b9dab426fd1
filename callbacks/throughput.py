"""Log how fast a run is, how long it waits for data, its memory, and how large its gradients are."""

import resource
import sys
import time
from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm

from callbacks.observer import Observer, gather_objects, is_due, log
from callbacks.probes import Probes
from dynfocus.types import Batch

GIB = 2**30


class Throughput(Observer):
    """Log the pace of training as ``pace/<name>``, over all processes.

    ``videos_per_second`` (rows with a video or image) and ``tokens_per_second`` (of prompts, visual ones among them);
    ``loader_wait_share``, the share of the time spent waiting for a batch; ``memory_gib``, the most that any process
    has used at once so far, of its GPU or, without one, of the machine; ``lr/<group>``; and
    ``gradient_norm/<module>`` of the mean loss, before it is clipped. A run's first batch, which takes longer, is left
    out, and so is the time of validations, checkpoints and looks at probes.
    """

    def __init__(self) -> None:
        self.last_end: float | None = None  # when the last batch ended, if only the loader has worked since
        self.is_warm = False
        self.start, self.wait, self.looked = 0.0, 0.0, 0.0
        self.reset()

    def reset(self) -> None:
        self.seconds, self.wait_seconds, self.videos = 0.0, 0.0, 0
        self.tokens: Tensor | int = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.last_end, self.is_warm, self.looked = None, False, count_looks(trainer)
        self.reset()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        self.start = time.perf_counter()
        self.wait = 0.0 if self.last_end is None else self.start - self.last_end

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        before, self.looked = self.looked, count_looks(trainer)
        if self.is_warm:
            self.seconds += time.perf_counter() - self.start + self.wait - (self.looked - before)
            self.wait_seconds += self.wait
            self.videos += sum(row is not None and row.media is not None for row in batch.records)
            self.tokens = self.tokens + batch.attention_mask.sum()
        self.is_warm = True
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self.last_end = time.perf_counter()

    # What else comes between two batches is not waiting.
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.last_end = None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.last_end = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.last_end = None

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if not is_due(trainer, trainer.global_step + 1):
            return
        rates = {f"pace/lr/{group['name']}": group["lr"] for group in optimizer.param_groups}
        norms = gradient_norms(trainer, pl_module)
        log(trainer, rates | {f"pace/gradient_norm/{name}": norm for name, norm in norms.items()}, before=0)

    def compute(self, phase: str, trainer: Trainer) -> dict[str, float]:
        if phase != "train":
            return {}
        own = (
            self.videos,
            int(self.tokens),
            self.seconds,
            self.wait_seconds,
            peak_memory_gib(trainer.strategy.root_device),
        )
        self.reset()
        videos, tokens, seconds, waits, memory = zip(*gather_objects(trainer, own), strict=True)
        numbers = {"pace/memory_gib": max(memory)}
        if total := sum(seconds):  # of all processes, which work side by side
            numbers["pace/videos_per_second"] = sum(videos) * len(seconds) / total
            numbers["pace/tokens_per_second"] = sum(tokens) * len(seconds) / total
            numbers["pace/loader_wait_share"] = sum(waits) / total
        return numbers


def count_looks(trainer: Trainer) -> float:
    """Count the seconds that probes were looked at between batches."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    return sum(one.seconds for one in callbacks if isinstance(one, Probes))


def peak_memory_gib(device: torch.device) -> float:
    """Return the most memory that this process has used at once, in GiB: of its GPU, else of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / GIB


def gradient_parts(model: Any) -> dict[str, nn.Module]:
    """Return the parts whose gradients are logged: the connector's, the language model, the instruction encoder."""
    parts = {"score_net" if name == "select" else name: part for name, part in model.connector.named_children()}
    return parts | {"language_model": model.language_model, "instruction": model.instruction}


def gradient_norms(trainer: Trainer, pl_module: Any) -> dict[str, float]:
    """Compute the L2 norm of each part's gradient of the mean loss, before clipping; frozen parts are left out.

    The gradients are still those of the sum of losses: the module makes them those of the mean right after this. Of
    sharded weights each process adds its shards. Every process has to call this.
    """
    squares: dict[str, Tensor] = {"targets": pl_module.learned[1]}
    for name, part in gradient_parts(pl_module.model).items():
        gradients = [weight.grad for weight in part.parameters() if weight.grad is not None]
        shards = [one.to_local() for one in gradients if isinstance(one, DTensor)]
        whole = [one for one in gradients if not isinstance(one, DTensor)]
        if gradients:
            squares[name] = (
                get_total_norm(shards).float() ** 2 + get_total_norm(whole).float() ** 2 / trainer.world_size
            )
    own = torch.stack(list(squares.values())).tolist()  # one wait for the device
    targets, *totals = (sum(all_) for all_ in zip(*gather_objects(trainer, own), strict=True))
    share = trainer.accumulate_grad_batches * trainer.world_size / max(targets, 1.0)
    return {name: share * total**0.5 for name, total in zip(list(squares)[1:], totals, strict=True)}
