"""What a run needs, known before anything runs.

Tokens, context and KV cache are known at once, without torch: `plan` puts a plan together, from options, from what
`sizes` reads in config.json, and from what `configs` reads in a run's configs. FLOPs and memory come from the model
itself, built by `towers` and run on tensors without numbers by `dry_run`: `flops` and `memory` count there, `ways` for
every way to train. `numbers` lists all of it for scripts, `page` writes it for people.
"""

from dynfocus.plan.numbers import list_numbers, list_tokens
from dynfocus.plan.page import write_page
from dynfocus.plan.plan import Plan, make_plan
from dynfocus.plan.training import Training, count_prompt_tokens

__all__ = ["Plan", "Training", "count_prompt_tokens", "list_numbers", "list_tokens", "make_plan", "write_page"]
