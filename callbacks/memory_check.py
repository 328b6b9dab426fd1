"""Compute the most expensive batch before the first step, so that a run without enough memory ends at once."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy, SingleDeviceStrategy, Strategy
from lightning.pytorch.utilities import rank_zero_info

from callbacks.observer import rng_devices
from dynfocus.errors import ConfigError
from dynfocus.types import Batch

OUT_OF_MEMORY = ("DefaultCPUAllocator", "can't allocate memory", "out of memory", "ALLOC_FAILED")


class MemoryCheck(Callback):
    """Before a run's first step, compute the gradients of the batch that will cost most, and discard them.

    The data module's ``most_expensive_batch() -> Batch | None`` makes it, the same batch in every process. Memory for
    accumulated gradients and the optimizer's states, which come only later, is taken as well. The run that follows is
    bit for bit the one without it.

    Raises:
        ConfigError: in a run, where memory does not suffice; it says what the batch was and what makes it smaller.
    """

    def __init__(self) -> None:
        self.is_done = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.is_done = False

    # Not earlier: only now are checkpoints read, and is it set which parts of the module train.
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.is_done:
            return
        self.is_done = True
        make_batch = getattr(trainer.datamodule, "most_expensive_batch", None)  # type: ignore[attr-defined]
        with restore_after(trainer, pl_module):
            largest = None if make_batch is None else make_batch()
            if largest is None:
                rank_zero_info(
                    "memory is not checked before the first step, as nobody has counted yet what each row costs: "
                    "`dynfocus doctor` with the same configs does"
                )
                return
            try:
                rehearse(trainer, largest)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                raise too_large_error(trainer, pl_module, largest, error) from error
        rank_zero_info(f"memory suffices for the most expensive batch: {describe_batch(largest)}")


def rehearse(trainer: Trainer, batch: Batch) -> None:
    """Run forward and backward as in a step's last batch, with gradients of earlier batches and AdamW's states."""
    strategy = trainer.strategy
    batch = strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))
    optimizer_states = [make_optimizer_states(optimizer) for optimizer in trainer.optimizers]
    for _ in range(min(2, trainer.accumulate_grad_batches)):
        # Without the sum over replicas, as these gradients are discarded; shards are summed as in a real step.
        with getattr(strategy, "block_backward_sync", nullcontext)():
            loss: Any = strategy.training_step(batch, 0)
            loss.backward()
    del optimizer_states


def make_optimizer_states(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """Make tensors as large as the states that AdamW will make for weights that have none yet."""
    options = getattr(optimizer, "args", None)  # of bitsandbytes' optimizers alone
    is_8_bit = getattr(options, "optim_bits", 32) == 8
    tensors = []
    for weight in (one for group in optimizer.param_groups for one in group["params"]):
        if weight in optimizer.state:
            continue
        if is_8_bit and weight.numel() >= options.min_8bit_size:  # type: ignore[union-attr]
            scales = [weight.new_empty(-(-weight.numel() // 256), dtype=torch.float32) for _ in range(2)]
            tensors += [*scales, *(torch.empty_like(weight, dtype=torch.uint8) for _ in range(2))]
        else:
            tensors += [torch.empty_like(weight, dtype=torch.float32 if is_8_bit else None) for _ in range(2)]
    return [one.detach() for one in tensors]


@contextmanager
def restore_after(trainer: Trainer, module: LightningModule) -> Iterator[None]:
    """Restore after the block what was before it: generators, gradients, buffers, the module's attributes, logs."""
    wrapper: Any = trainer.strategy.model
    needs_sync = getattr(wrapper, "require_forward_param_sync", None)  # of DDP: false after what is not synchronised
    gradients = [(weight, weight.grad) for weight in module.parameters()]
    buffers = [
        (owner, name, buffer, buffer.clone())
        for owner in module.modules()
        for name, buffer in owner._buffers.items()
        if buffer is not None
    ]
    attributes = dict(vars(module))
    with torch.random.fork_rng(rng_devices(module)):
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
            if needs_sync is not None:
                wrapper.require_forward_param_sync = needs_sync


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that a device, or the machine, has no memory left."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in str(error) for text in OUT_OF_MEMORY)


def describe_batch(batch: Batch) -> str:
    """Describe a batch in numbers that a user can lower."""
    rows, tokens = batch.input_ids.shape
    lengths = [len(video) for video in batch.frames]
    lengths += [] if batch.sketch is None else batch.sketch.frames.tolist()
    return f"{rows} rows, the longest of {tokens} tokens, the longest video of {max(lengths, default=0)} frames"


def too_large_error(trainer: Trainer, module: LightningModule, batch: Batch, error: BaseException) -> ConfigError:
    """Make the error of a batch that does not fit, with settings that make it smaller."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    is_grouped = getattr(trainer.datamodule, "group", False)  # type: ignore[attr-defined]
    return ConfigError(
        f"the most expensive batch of the epoch ({describe_batch(batch)}), for which there is not enough memory: "
        f"{lines[0]}",
        "room for its forward and backward pass beside the weights, gradients and the optimizer's states",
        advise(trainer.strategy, module.hparams, is_grouped),
    )


def advise(strategy: Strategy, hparams: Mapping[str, Any], is_grouped: bool) -> str:
    """List the settings that need less memory and that a run with the module's ``hparams`` does not use yet."""
    is_sharded, is_single = (isinstance(strategy, kind) for kind in (ModelParallelStrategy, SingleDeviceStrategy))
    learns_language = hparams.get("stage") != "stage1"
    settings = {
        "data.init_args.group to true": not is_grouped,
        "model.activation_checkpointing to true": not hparams.get("activation_checkpointing"),
        "model.optimizer to adamw8bit": hparams.get("optimizer") != "adamw8bit" and not is_sharded,
    }
    configs = {
        "lightning_configs/lora.yaml": learns_language and not hparams.get("lora"),
        "lightning_configs/qlora.yaml": learns_language and not hparams.get("quantize") and not is_sharded,
        "lightning_configs/fsdp.yaml": not is_sharded and not is_single and not hparams.get("quantize"),
    }
    useful = [[name for name, helps in names.items() if helps] for names in (settings, configs)]
    sentences = [
        "Lower data.init_args.batch_size, model.frame_rule.frames, model.connector.events, keep or kept_tokens"
    ]
    sentences += [f"{verb} {' or '.join(names)}" for verb, names in zip(("Set", "Add"), useful, strict=True) if names]
    return ". ".join(sentences) + "."
