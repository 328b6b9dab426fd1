"""All that a plan says, as plain numbers (no torch)."""

from dataclasses import asdict, replace
from typing import Any

from dynfocus.budget import every_patch, largest_fit
from dynfocus.plan.answer_memory import answering_memory, kv_bytes
from dynfocus.plan.cards import fitting
from dynfocus.plan.flops import answer_flops, step_flops
from dynfocus.plan.memory import Memory, memory
from dynfocus.plan.plan import Plan
from dynfocus.plan.training import prompt_tokens
from dynfocus.plan.ways import ways

ENDLESS = 10**7  # frames: who can have so many can have any number


def numbers(plan: Plan) -> dict[str, Any]:
    """Everything, by stable names, for scripts; the printed page is made of the same.

    Exact are the tokens, the FLOPs of the products that the model's function asks for (not those that activation
    checkpointing repeats), the bytes of weights, gradients, optimizer states and of the KV cache; what else is in
    ``answering``, ``exported`` and ``memory`` is estimated. ``answering`` is of the model as the run leaves it,
    ``exported`` as ``dynfocus export --merge --dtype bfloat16`` writes it. ``fits`` are cards by the gigabytes they are
    sold with.
    """
    cost, training, asked = plan.cost, plan.training, plan.asked
    answering = answering_memory(plan.frames, plan.settings, asked, plan.new, plan.towers)
    exported = answering_memory(plan.frames, plan.settings, plan.exported, plan.new, plan.towers)
    token = kv_bytes(plan.towers.language, 1, asked.language)
    learned = step_flops(plan.frames, plan.settings, replace(training, rows=1), plan.towers)
    answered = answer_flops(plan.frames, plan.settings, asked, plan.towers, plan.new)
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
            "asked": prompt_tokens(plan.frames, plan.settings, asked),
            "learned": prompt_tokens(plan.frames, plan.settings, training),
        },
        "context": context(plan),
        "flops": {
            "learned": asdict(learned) | {"total": learned.total},
            "answered": asdict(answered) | {"total": answered.total},
            "global_batch": plan.global_batch,
            "step_rows": plan.step_rows,
            "step": plan.step_rows * learned.total,
        },
        "answering": memory_numbers(answering) | {"kv_bytes_a_token": token},
        "exported": memory_numbers(exported),
        "training": asdict(training),
        "memory": memory_numbers(memory(plan.frames, plan.settings, training, plan.towers)),
        "ways": [asdict(way) for way in ways(plan)],
        "notes": list(plan.notes),
    }


def memory_numbers(memory: Memory) -> dict[str, Any]:
    """Bytes of everything held, the worst moment, its sum, and the cards that hold it, by their gigabytes."""
    return {
        "rows": {row.name: {"bytes": row.size, "moments": row.moments} for row in memory.rows},
        "worst": memory.worst,
        "total": memory.total,
        "fits": fitting(memory.total),
    }


def context(plan: Plan) -> dict[str, Any]:
    """Whether the longer prompt fits the language model's context, and which T, L or K/L alone would.

    ``frames`` is the largest T that fits, 0 where not even one frame does, None where any number would; ``events`` and
    ``keep`` are the largest L and K/L for this T, None where none is small enough.
    """
    tokens, training = plan.towers.language.max_position_embeddings, plan.training
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
