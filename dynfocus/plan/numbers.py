"""List all that a plan knows, as plain numbers under stable names."""

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from dynfocus.budget import every_patch, largest_fit
from dynfocus.errors import ConfigError
from dynfocus.plan.cards import PEAKS, count_hours, list_fitting
from dynfocus.plan.plan import Plan

if TYPE_CHECKING:
    from dynfocus.plan.memory import Memory

LONGEST, LARGEST = 20_000, 10**8
ENDLESS = 10**7  # frames: who can have so many can have any number


def list_tokens(plan: Plan) -> dict[str, Any]:
    """What is known at once, without torch: tokens, whether they fit the context, and the KV cache."""
    cost, training, asked = plan.cost, plan.training, plan.asked
    cached = plan.prompt(asked) + plan.new - 1
    return {
        **asdict(cost),
        "encoder": plan.settings.encoder,
        "visual_tokens": cost.visual_tokens,
        "every_patch": every_patch(plan.frames),
        "prompt": {
            "slots": training.slots,
            "text": training.text,
            "answer": training.answer,
            "new": plan.new,
            "asked": plan.prompt(asked),
            "learned": plan.prompt(training),
        },
        "context": fit_context(plan),
        "kv_cache": {
            "bytes_a_token": plan.sizes.kv_bytes(1, asked.language_bytes),
            "bytes": plan.sizes.kv_bytes(cached, asked.language_bytes),
            "exported": plan.sizes.kv_bytes(cached, plan.exported.language_bytes),
        },
        "training": asdict(training),
        "notes": list(plan.notes),
    }


def list_numbers(plan: Plan) -> dict[str, Any]:
    """Everything, by stable names, for scripts; the printed page is made of the same.

    Exact are the tokens, the FLOPs of the products that the model's function asks for (not those that activation
    checkpointing repeats), the bytes of weights, gradients, optimizer states and of the KV cache; what else is in
    ``answering``, ``exported`` and ``memory`` is estimated. ``answering`` is of the model as the run leaves it,
    ``exported`` as ``dynfocus export --merge --dtype bfloat16`` writes it. ``fits`` are cards by the gigabytes they are
    sold with. ``hours`` are None where no rows are named.

    Raises:
        ConfigError: if the model cannot be run on a batch of this size.
    """
    tokens = plan.training.rows * plan.prompt(plan.training)
    if plan.frames > LONGEST or tokens > LARGEST:
        raise ConfigError(
            f"FLOPs and memory of {plan.frames} frames, in a batch of {tokens} tokens",
            f"at most {LONGEST} frames, and {LARGEST} tokens",
            "Plan with fewer; tokens alone are counted of any number.",
        )
    from dynfocus.plan.flops import count_answer_flops, count_step_flops  # import torch
    from dynfocus.plan.memory import estimate_answer, estimate_step
    from dynfocus.plan.towers import read_towers
    from dynfocus.plan.ways import list_ways

    video, towers = (plan.frames, plan.settings), read_towers(*plan.folders)
    learned = count_step_flops(*video, replace(plan.training, rows=1), towers)
    answered, total = count_answer_flops(*video, plan.asked, towers, plan.new), sum(learned.values())
    return list_tokens(plan) | {
        "flops": {
            "learned": learned | {"total": total},
            "answered": answered | {"total": sum(answered.values()) - answered["new_token"]},
            "global_batch": plan.global_batch,
            "step_rows": plan.step_rows,
            "step": plan.step_rows * total,
        },
        "hours": list_hours(plan, total),
        "answering": list_memory(estimate_answer(*video, plan.asked, plan.new, towers)),
        "exported": list_memory(estimate_answer(*video, plan.exported, plan.new, towers)),
        "memory": list_memory(estimate_step(*video, plan.training, towers)),
        "ways": list_ways(plan),
    }


def list_hours(plan: Plan, flops: int) -> dict[str, Any] | None:
    """The hours of the plan's rows at so many FLOPs a row, and what they are counted from."""
    if plan.epoch_rows is None:
        return None
    gpus = plan.training.gpus
    return {
        "hours": count_hours(plan.epoch_rows * flops, gpus, plan.card, plan.utilisation),
        "rows": plan.epoch_rows,
        "gpus": gpus,
        "card": plan.card,
        "utilisation": plan.utilisation,
        "peak_flops": PEAKS[plan.card],
    }


def list_memory(memory: "Memory") -> dict[str, Any]:
    """Bytes of everything held, the worst moment, its sum, and the cards that hold it, by their gigabytes."""
    return {
        "rows": {name: {"bytes": size, "moments": moments} for name, (size, moments) in memory.rows.items()},
        "worst": memory.worst,
        "total": memory.total,
        "fits": list_fitting(memory.total),
    }


def fit_context(plan: Plan) -> dict[str, Any]:
    """Whether the longer prompt fits the language model's context, and which T, L or K/L alone would.

    ``frames`` is the largest T that fits, 0 where not even one frame does, None where any number would; ``events`` and
    ``keep`` are the largest L and K/L for this T, None where none is small enough.
    """
    tokens, training = plan.sizes.context, plan.training
    room = max(0, tokens - training.text - max(training.answer, plan.new)) // training.slots
    most = largest_fit(ENDLESS, plan.settings, room).frames
    fit = largest_fit(plan.frames, plan.settings, room)
    return {
        "tokens": tokens,
        "needed": plan.needed,
        "fits": plan.needed <= tokens,
        "frames": None if most == ENDLESS else most or 0,
        "events": fit.events,
        "keep": fit.keep,
    }
