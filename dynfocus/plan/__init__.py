"""What a run needs, known before anything runs and without torch."""

from dynfocus.plan.cards import fitting
from dynfocus.plan.memory import Memory, memory
from dynfocus.plan.table import memory_numbers, memory_table
from dynfocus.plan.towers import TOWERS, Towers, read_towers
from dynfocus.plan.training import Training

__all__ = [
    "TOWERS",
    "Memory",
    "Towers",
    "Training",
    "fitting",
    "memory",
    "memory_numbers",
    "memory_table",
    "read_towers",
]
