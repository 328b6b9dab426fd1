"""The most expensive batch, computed before the first step: it leaves no trace, or says what to lower."""

import resource
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import training_ranks
from lightning import Callback, Trainer
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch.distributed.tensor import DTensor
from training_ranks import NOISY, StepData, TrainingResult, learn, several

from callbacks.memory_check import MemoryCheck, advise, describe_batch, is_out_of_memory, make_optimizer_states
from dynfocus.errors import ConfigError, PromptError
from dynfocus.models.collate import Example
from dynfocus.settings import LoraSettings
from dynfocus.train.optim import optimizer_class
from dynfocus.types import Batch

DROPPING = LoraSettings(4, 8, 0.5)


def rows(counts: Sequence[int], start: int) -> list[Example]:
    return [tiny.example(start + n, c or 1, NOISY, media="v.mp4" if c else None) for n, c in enumerate(counts)]


STEPS = [rows(counts, 4 * n) for n, counts in enumerate(([9, 3, 0, 7], [6, 0, 8, 12], [4, 4, 2, 9]))]
DEAREST = rows([40, 20, 0], 50)


class DataWithDearestBatch(StepData):
    """Data that know which batch costs most."""

    def __init__(self, dearest: Batch | None, *options: Any) -> None:
        super().__init__(*options)
        self.dearest = dearest

    def most_expensive_batch(self) -> Batch | None:
        torch.rand(3)  # who reads rows may draw
        return self.dearest


class StateRecorder(Callback):
    """What a rehearsal could leave behind, before and after it, and which batches are computed."""

    def __init__(self) -> None:
        self.states: list[list[Any]] = []
        self.computed: list[tuple[int, int]] = []  # slots of a batch, or that its gradients are asked for

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0 and trainer.global_step == 0:
            self.states.append(state(trainer, pl_module))
        if len(self.states) == 1:
            pl_module.model.register_forward_hook(self.note)

    def note(self, net: Any, inputs: Any, out: Any) -> None:
        self.computed.append((len(out[1].mask), 0))
        out[0].register_hook(lambda gradient: self.computed.append((0, 1)))


def state(trainer: Trainer, module: Any) -> list[Any]:
    local = [w.to_local() if isinstance(w, DTensor) else w for w in module.parameters()]
    return [
        torch.get_rng_state(),
        torch.initial_seed(),
        [weight.grad for weight in module.parameters()],
        [weight.detach().clone() for weight in local],
        [buffer.clone() for buffer in module.buffers()],
        [part.training for part in module.modules()],
        sorted(vars(module)),
        module.learned.clone(),
        {name: float(value) for name, value in trainer.callback_metrics.items()},
        getattr(trainer.strategy.model, "require_forward_param_sync", None),
        len(trainer.optimizers[0].state),
    ]


def run(
    towers: Path, name: str, dearest: Sequence[Example] | None, **options: Any
) -> tuple[TrainingResult, StateRecorder]:
    """Train with a rehearsal, or without where no batch is given."""
    watching = StateRecorder()
    with pytest.MonkeyPatch.context() as patch:
        batch = tiny.processor(NOISY, answers=True)(list(dearest)) if dearest else None
        patch.setattr(training_ranks, "StepData", partial(DataWithDearestBatch, batch))
        callbacks = [watching, MemoryCheck(), watching] if dearest else []
        return learn(towers, name, STEPS, callbacks=callbacks, **options), watching


def bits(one: TrainingResult, other: TrainingResult) -> None:
    assert one.losses == other.losses
    assert one.norms == other.norms
    assert one.weights.keys() == other.weights.keys()
    assert all(torch.equal(weight, other.weights[name]) for name, weight in one.weights.items())


@pytest.mark.parametrize("name", ["one", "ddp", "sharded"])
@pytest.mark.parametrize(
    "options",
    [{"lora": DROPPING}, {"accumulate": 2, "activation_checkpointing": True}, {"precision": "bf16-mixed"}],
    ids=["dropout", "accumulation", "half precision"],
)
def test_the_run_after_it_is_bit_for_bit_the_run_without_it(towers: Path, name: str, options: dict[str, Any]) -> None:
    def plain(rank: int) -> TrainingResult:
        return run(towers, name, None, **options)[0]

    def rehearse(rank: int) -> TrainingResult:
        return check_states(*run(towers, name, DEAREST, **options), options)

    ran, expected = ([work(0)] if name == "one" else several(work) for work in (rehearse, plain))
    for one, other in zip(ran, expected, strict=True):
        bits(one, other)


def check_states(learned: TrainingResult, watching: StateRecorder, options: dict[str, Any]) -> TrainingResult:
    before, after = watching.states
    for one, other in zip(before, after, strict=True):
        alike(one, other)
    times = options.get("accumulate", 1)
    assert watching.computed[: 2 * times] == [(3, 0), (0, 1)] * times
    assert len(watching.computed) > 2 * times
    return learned


def alike(one: Any, other: Any) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, list) and one and isinstance(one[0], torch.Tensor):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    else:
        assert one == other


@pytest.mark.parametrize("name", ["adamw", "adamw8bit"])
def test_the_room_held_is_that_of_the_states(towers: Path, name: Any) -> None:
    """With weights on both sides of what bitsandbytes holds in 8 bits."""
    weights = [torch.nn.Parameter(torch.randn(shape)) for shape in ((64, 100), (300,), (5000,))]
    optimizer = optimizer_class(name, torch.device("cpu"), "32-true")(weights, lr=0.1)

    def size(tensors: Sequence[torch.Tensor]) -> list[int]:
        return sorted(one.numel() * one.element_size() for one in tensors if one.numel() > 1)

    sizes = size(make_optimizer_states(optimizer))
    assert not optimizer.state
    torch.stack([weight.square().sum() for weight in weights]).sum().backward()
    optimizer.step()
    made = [v for kept in optimizer.state.values() for key, v in kept.items() if "qmap" not in key]
    assert sizes == size([value for value in made if isinstance(value, torch.Tensor)])
    assert make_optimizer_states(optimizer) == []


def repeat_rows(batch: Batch, times: int) -> Batch:
    """A batch of so many times as many rows."""
    names = ("input_ids", "attention_mask", "labels", "question_ids", "question_mask")
    many = {name: getattr(batch, name).repeat_interleave(times, 0) for name in names}
    slots = len(batch.slot_row) * times
    return replace(batch, **many, slot_video=torch.zeros(slots, dtype=torch.long), slot_row=torch.arange(slots))


def learn_in_little_memory(towers: Path, rehearsing: bool) -> str:
    """What a run says for whose dearest batch there is no room, but well for all that it happens to meet."""
    dearest = repeat_rows(tiny.processor(NOISY, answers=True)(rows([200], 50)), 3000)
    losses: list[int] = []

    class Count(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            losses.append(1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_ranks, "StepData", partial(DataWithDearestBatch, dearest))
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**29, -1))
        try:
            learn(towers, "one", STEPS, callbacks=[Count(), *([MemoryCheck()] if rehearsing else [])])
        except ConfigError as error:
            assert not losses
            return str(error)
    assert len(losses) == len(STEPS)
    return ""


def test_want_of_memory_is_known_before_the_first_step(towers: Path) -> None:
    [message], [nothing] = (
        several(lambda rank, rehearsing=rehearsing: learn_in_little_memory(towers, rehearsing), 1)
        for rehearsing in (True, False)
    )
    assert nothing == ""
    assert "the most expensive batch of the epoch (3000 rows, the longest of" in message
    assert "the longest video of 200 frames), for which there is not enough memory" in message
    assert "allocate" in message
    for setting in (
        *("data.init_args.batch_size", "data.init_args.group to true", "model.frame_rule.frames"),
        *("model.connector.events, keep or kept_tokens", "model.activation_checkpointing to true"),
        *("model.optimizer to adamw8bit", "lightning_configs/lora.yaml or lightning_configs/qlora.yaml."),
    ):
        assert setting in message
    assert "fsdp" not in message


@pytest.mark.parametrize(
    ("strategy", "options", "group", "advised", "silent"),
    [
        (training_ranks.strategy("ddp"), {}, True, ["fsdp.yaml", "qlora.yaml"], ["init_args.group"]),
        (training_ranks.strategy("sharded"), {}, True, ["lora.yaml."], ["qlora", "fsdp", "adamw8bit"]),
        (None, {"stage": "stage1"}, False, ["init_args.group to true"], ["lora"]),
        (None, {"activation_checkpointing": True, "optimizer": "adamw8bit"}, True, ["lora.yaml"], ["Set "]),
        (
            training_ranks.strategy("ddp"),
            {"lora": {}, "quantize": "nf4"},
            True,
            [],
            ["lightning_configs/fsdp", "/qlora"],
        ),
    ],
)
def test_only_what_would_help_is_advised(
    strategy: Any, options: dict[str, Any], group: bool, advised: list[str], silent: list[str]
) -> None:
    message = advise(strategy or SingleDeviceStrategy("cpu"), options, group)
    assert all(name in message for name in advised)
    assert not any(name in message for name in silent)


def test_other_errors_stay_what_they_are(towers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    batch = tiny.processor(NOISY, answers=True)(DEAREST)
    monkeypatch.setattr(
        training_ranks, "StepData", partial(DataWithDearestBatch, replace(batch, slot_row=batch.slot_row * 0 - 1))
    )
    with pytest.raises(PromptError, match="with room for"):
        learn(towers, "one", STEPS, callbacks=[MemoryCheck()])


def test_a_batch_is_described_in_what_can_be_lowered() -> None:
    batch = tiny.processor(NOISY)(rows([5, 31, 0], 0))
    assert (
        describe_batch(batch)
        == f"3 rows, the longest of {batch.input_ids.shape[1]} tokens, the longest video of 31 frames"
    )
    pixels = replace(batch, sketch=None, frames=tuple(tiny.frames(count) for count in (2, 9, 1)))
    assert describe_batch(pixels).endswith("the longest video of 9 frames")


def test_without_costs_one_line_says_that_nothing_is_rehearsed(towers: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        learned = learn(towers, "one", STEPS, callbacks=[MemoryCheck()])
    assert caplog.text.count("memory is not checked before the first step") == 1
    bits(learned, learn(towers, "one", STEPS))
    caplog.clear()
    with caplog.at_level("INFO"):
        run(towers, "one", DEAREST)
    assert caplog.text.count("memory suffices for the most expensive batch: 3 rows") == 1
