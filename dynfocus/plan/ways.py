"""Estimate the memory that each GPU needs in every way to train, and write it as a table from each way's own recipe."""

from pathlib import Path
from typing import Any

from dynfocus.errors import ConfigError
from dynfocus.plan.cards import GIB, list_fitting
from dynfocus.plan.memory import estimate_step
from dynfocus.plan.plan import GPUS, Plan, make_plan
from dynfocus.plan.towers import read_towers
from dynfocus.plan.training import Strategy, Train

WAYS: dict[tuple[Train, Strategy], tuple[str, ...]] = {  # and the configs of each recipe
    ("stage1", "ddp"): ("stage1",),
    ("stage2", "ddp"): ("stage2",),
    ("stage2", "fsdp"): ("stage2", "fsdp"),
    ("lora", "ddp"): ("stage2", "lora"),
    ("lora", "fsdp"): ("stage2", "fsdp", "lora"),
    ("qlora", "ddp"): ("stage2", "qlora"),
}


def list_ways(plan: Plan) -> list[dict[str, Any]]:
    """The usual ways on 1 to 64 GPUs; rows, tokens, optimizer and precision are those of ``plan``.

    ``size`` is the bytes that each GPU needs, None where the plan's other choices forbid this way; ``fits`` the cards
    that hold these, by their gigabytes.
    """
    return [_way(plan, train, strategy, gpus) for train, strategy in WAYS for gpus in GPUS]


def _way(plan: Plan, train: Train, strategy: Strategy, gpus: int) -> dict[str, Any]:
    way: dict[str, Any] = {"train": train, "strategy": strategy, "gpus": gpus}
    try:
        training = plan.on(gpus, train=train, strategy=strategy)
    except ConfigError:
        return way | {"size": None, "fits": ()}
    size = estimate_step(plan.frames, plan.settings, training, read_towers(*plan.folders)).total
    return way | {"size": size, "fits": list_fitting(size)}


def recipe_table(recipes: Path, frames: int, gpus: tuple[int, ...] = (1, 8, 16)) -> str:
    """A Markdown table of the GiB that each GPU needs in every way to train, each by the recipe of its own.

    In brackets stands the smallest card that holds it, in GB. ``recipes`` is the folder that holds them.

    Raises:
        ConfigError: if a recipe is absent or cannot be read.
    """
    rows = [("recipe", "rows a GPU", *(f"{count} GPU{'s' * (count > 1)}" for count in gpus)), ("---",) * 5]
    for (train, strategy), names in WAYS.items():
        plan = make_plan([recipes / f"{name}.yaml" for name in names], frames=frames)
        ways = [_way(plan, train, strategy, count) for count in gpus]
        cells = [f"{way['size'] / GIB:.1f} ({way['fits'][0] if way['fits'] else 'none'})" for way in ways]
        rows.append((f"`{train}`, {'FSDP2' if strategy == 'fsdp' else 'DDP'}", str(plan.training.rows), *cells))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
