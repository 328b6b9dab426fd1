"""Every way to train on every number of GPUs: the memory that each GPU needs (no torch)."""

from dataclasses import dataclass
from typing import Literal

from dynfocus.errors import ConfigError
from dynfocus.plan.cards import fitting
from dynfocus.plan.memory import memory
from dynfocus.plan.plan import GPUS, Plan
from dynfocus.plan.training import Train

WAYS: tuple[tuple[Train, Literal["ddp", "fsdp"]], ...] = (
    *(("stage1", "ddp"), ("stage2", "ddp"), ("stage2", "fsdp")),
    *(("lora", "ddp"), ("lora", "fsdp"), ("qlora", "ddp")),
)


@dataclass(frozen=True)
class Way:
    """One way to train on so many GPUs.

    Attributes:
        train: what is trained, as in `Training`.
        strategy: ``ddp`` or ``fsdp``.
        gpus: how many.
        size: bytes that each needs; None where the plan's other choices forbid this way.
        fits: the cards that hold these, by their gigabytes.
    """

    train: Train
    strategy: Literal["ddp", "fsdp"]
    gpus: int
    size: int | None
    fits: tuple[int, ...]


def ways(plan: Plan) -> list[Way]:
    """The usual ways on 1 to 64 GPUs; rows, tokens, optimizer and precision are those of ``plan``."""
    found = []
    for train, strategy in WAYS:
        for gpus in GPUS:
            try:
                how = plan.on(gpus, train=train, strategy=strategy)
            except ConfigError:
                found.append(Way(train, strategy, gpus, None, ()))
                continue
            size = memory(plan.frames, plan.settings, how, plan.towers).total
            found.append(Way(train, strategy, gpus, size, fitting(size)))
    return found
