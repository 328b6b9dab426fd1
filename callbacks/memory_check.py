"""The most expensive batch is computed before the first step: a run without room for it ends at once, and says so."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy, SingleDeviceStrategy, Strategy
from lightning.pytorch.utilities import rank_zero_info

from callbacks.observer import devices
from dynfocus.errors import ConfigError
from dynfocus.types import Batch

FULL = ("DefaultCPUAllocator", "can't allocate memory", "out of memory", "ALLOC_FAILED")


class MemoryCheck(Callback):
    """Before a run's first step, compute the gradients of the batch that will cost most, and throw them away.

    The data module is asked for it by ``most_expensive_batch() -> Batch | None``, the same batch in every process.
    Gradients that accumulate and the optimizer's states, which come only later, are counted in. The run after it
    is bit for bit the one without it.

    Raises:
        ConfigError: in a run, where memory does not suffice; it says what the batch was and what makes it smaller.
    """

    def __init__(self) -> None:
        self.over = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.over = False

    # Not before: only then does the module say which of its parts train, and only now are checkpoints read.
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.over:
            return
        self.over = True
        ask = getattr(trainer.datamodule, "most_expensive_batch", None)  # type: ignore[attr-defined]
        with unchanged(trainer, pl_module):
            dearest = None if ask is None else ask()
            if dearest is None:
                rank_zero_info(
                    "no rehearsal: what each row costs is not known, so neither is which batch costs most; "
                    "`dynfocus doctor` with the same configs finds out"
                )
                return
            try:
                rehearse(trainer, dearest)
            except (RuntimeError, MemoryError) as error:
                if not full(error):
                    raise
                raise too_large(trainer, pl_module, dearest, error) from error
        rank_zero_info(f"rehearsed the most expensive batch: {described(dearest)}")


def rehearse(trainer: Trainer, batch: Batch) -> None:
    """Forward and backward, as in a step's last batch: beside the gradients of those before and AdamW's states."""
    strategy = trainer.strategy
    batch = strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))
    held = [states(optimizer) for optimizer in trainer.optimizers]
    for _ in range(min(2, trainer.accumulate_grad_batches)):
        # Replicas need not hear of gradients that nobody keeps; shards are summed as they will be.
        with getattr(strategy, "block_backward_sync", nullcontext)():
            loss: Any = strategy.training_step(batch, 0)
            loss.backward()
    del held


def states(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """Tensors as large as the states that AdamW will make of weights it holds none of yet."""
    told = getattr(optimizer, "args", None)  # of bitsandbytes' optimizers alone
    eight = getattr(told, "optim_bits", 32) == 8
    made = []
    for weight in (one for group in optimizer.param_groups for one in group["params"]):
        if weight in optimizer.state:
            continue
        if eight and weight.numel() >= told.min_8bit_size:  # type: ignore[union-attr]
            scales = [weight.new_empty(-(-weight.numel() // 256), dtype=torch.float32) for _ in range(2)]
            made += [*scales, *(torch.empty_like(weight, dtype=torch.uint8) for _ in range(2))]
        else:
            made += [torch.empty_like(weight, dtype=torch.float32 if eight else None) for _ in range(2)]
    return [one.detach() for one in made]


@contextmanager
def unchanged(trainer: Trainer, module: LightningModule) -> Iterator[None]:
    """After the block all is as before it: generators, gradients, buffers, what the module counts, what is logged."""
    wrapper: Any = trainer.strategy.model
    synced = getattr(wrapper, "require_forward_param_sync", None)  # of DDP: false after what is not synchronised
    gradients = [(weight, weight.grad) for weight in module.parameters()]
    buffers = [
        (owner, name, buffer, buffer.clone())
        for owner in module.modules()
        for name, buffer in owner._buffers.items()
        if buffer is not None
    ]
    attributes = dict(vars(module))
    with torch.random.fork_rng(devices(module)):
        for weight, _ in gradients:
            weight.grad = None
        vars(module)["log"] = lambda *args, **options: None
        try:
            yield
        finally:
            vars(module).clear()
            vars(module).update(attributes)
            for weight, gradient in gradients:
                weight.grad = gradient
            for owner, name, buffer, value in buffers:
                owner._buffers[name] = buffer
                if not torch.equal(buffer, value):
                    buffer.copy_(value)
            if synced is not None:
                wrapper.require_forward_param_sync = synced


def full(error: BaseException) -> bool:
    """Whether an error says that a device, or the machine, has no memory left."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(said in str(error) for said in FULL)


def described(batch: Batch) -> str:
    """What a batch is, in numbers that a user can lower."""
    rows, tokens = batch.input_ids.shape
    lengths = [len(video) for video in batch.frames]
    lengths += [] if batch.sketch is None else batch.sketch.frames.tolist()
    return f"{rows} rows, the longest of {tokens} tokens, the longest video of {max(lengths, default=0)} frames"


def too_large(trainer: Trainer, module: LightningModule, batch: Batch, error: BaseException) -> ConfigError:
    """What does not fit, and what makes it smaller."""
    said = str(error).strip().splitlines() or [type(error).__name__]
    grouped = getattr(trainer.datamodule, "group", False)  # type: ignore[attr-defined]
    return ConfigError(
        f"the most expensive batch of the epoch ({described(batch)}), for which memory does not suffice: {said[0]}",
        "room for its forward and backward pass beside the weights, gradients and the optimizer's states",
        advice(trainer.strategy, module.hparams, grouped),
    )


def advice(strategy: Strategy, told: Mapping[str, Any], grouped: bool) -> str:
    """Each setting that a run with the module's settings ``told`` does not yet use, and that takes less memory."""
    sharded, alone = (isinstance(strategy, kind) for kind in (ModelParallelStrategy, SingleDeviceStrategy))
    learns_language = told.get("stage") != "stage1"
    settings = {
        "data.init_args.group to true": not grouped,
        "model.activation_checkpointing to true": not told.get("activation_checkpointing"),
        "model.optimizer to adamw8bit": told.get("optimizer") != "adamw8bit" and not sharded,
    }
    configs = {
        "lightning_configs/lora.yaml": learns_language and not told.get("lora"),
        "lightning_configs/qlora.yaml": learns_language and not told.get("quantize") and not sharded,
        "lightning_configs/fsdp.yaml": not sharded and not alone and not told.get("quantize"),
    }
    able = [[name for name, helps in names.items() if helps] for names in (settings, configs)]
    said = ["Lower data.init_args.batch_size, model.frame_rule.frames, model.connector.events, keep or kept_tokens"]
    said += [f"{verb} {' or '.join(names)}" for verb, names in zip(("Set", "Add"), able, strict=True) if names]
    return ". ".join(said) + "."
