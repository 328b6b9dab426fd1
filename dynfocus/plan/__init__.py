"""What a run needs, known before anything runs and without torch.

`configs`, `from_configs` and `from_folders` read what is given, and `plan` puts it together. From its sizes (`towers`)
and its way to train (`training`), `memory`, `activations`, `answer_memory`, `flops` and `connector_flops` count, once
for each way in `ways`. `numbers` tells all of it to scripts, `page` to people.
"""

from dynfocus.plan.cards import fitting
from dynfocus.plan.from_folders import read_towers
from dynfocus.plan.memory import Memory, memory
from dynfocus.plan.numbers import numbers
from dynfocus.plan.page import page
from dynfocus.plan.plan import Plan, planned
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
