"""Look at an answer while it is written, and end it early."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria

Watch = Callable[[str], bool]


class Watcher(StoppingCriteria):
    """Calls ``watch`` with the text of one answer after each of its tokens, and ends it where that returns true.

    Args:
        tokenizer: the language model's.
        watch: what is called.
        before: tokens that stand before the answer: the prompt's, where it is given as ids.
    """

    def __init__(self, tokenizer: Any, watch: Watch, before: int = 0) -> None:
        self.tokenizer, self.watch, self.before = tokenizer, watch, before

    def __call__(self, input_ids: Tensor, scores: Any, **further: Any) -> Tensor:
        """For each of the answers, whether it ends."""
        text = self.tokenizer.decode(input_ids[0, self.before :], skip_special_tokens=True).strip()
        return torch.full((len(input_ids),), self.watch(text), dtype=torch.bool, device=input_ids.device)
