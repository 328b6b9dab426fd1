"""The memory of one GPU as a table for people and as plain numbers for scripts."""

from typing import Any

from dynfocus.plan.cards import CARDS, GIB, fitting
from dynfocus.plan.memory import Memory


def memory_table(memory: Memory) -> str:
    """A line for each thing held, in GiB; a star marks what is there at the worst moment and makes the total."""
    lines = [f"{'GiB on one GPU':44} {'size':>7}", "-" * 53]
    lines += [_line(row.name, row.size, memory.worst in row.moments) for row in memory.rows]
    cards = fitting(memory.total)
    fits = ", ".join(f"{card} GB" for card in cards) if cards else f"none up to {CARDS[-1]} GB"
    return "\n".join(
        [*lines, "-" * 53, _line(f"total, at its worst ({memory.worst})", memory.total, True), f"fits: {fits}"]
    )


def memory_numbers(memory: Memory) -> dict[str, Any]:
    """The same in bytes."""
    return {
        "rows": {row.name: {"bytes": row.size, "moments": row.moments} for row in memory.rows},
        "worst": memory.worst,
        "total": memory.total,
        "fits": fitting(memory.total),
    }


def _line(name: str, size: int, there: bool) -> str:
    return f"{name:44} {size / GIB:7.2f}{' *' if there else ''}"
