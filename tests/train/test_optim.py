"""The learning rate over a run."""

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup

from dynfocus.train.optim import cosine_after_warmup


@pytest.mark.parametrize(("warmup", "steps"), [(0, 1), (0, 7), (3, 100), (5, 5), (1, 0)])
def test_the_learning_rate_is_that_of_transformers(warmup: int, steps: int) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], 1.0)
    theirs = get_cosine_schedule_with_warmup(optimizer, warmup, steps).lr_lambdas[0]
    assert [cosine_after_warmup(n, warmup, steps) for n in range(110)] == [theirs(n) for n in range(110)]
