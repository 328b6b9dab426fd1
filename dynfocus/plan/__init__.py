"""What a run needs, known before anything runs and without torch."""

from dynfocus.plan.cards import fitting
from dynfocus.plan.memory import Memory, memory
from dynfocus.plan.numbers import numbers
from dynfocus.plan.page import page
from dynfocus.plan.plan import Plan, planned
from dynfocus.plan.from_folders import read_towers
from dynfocus.plan.towers import TOWERS, Towers
from dynfocus.plan.training import Training, prompt_tokens

__all__ = [
    "TOWERS",
    "Memory",
    "Plan",
    "Towers",
    "Training",
    "fitting",
    "memory",
    "numbers",
    "page",
    "planned",
    "prompt_tokens",
    "read_towers",
]
