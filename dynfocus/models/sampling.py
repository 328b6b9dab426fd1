"""Sample answers so that each follows from its question and the seed alone, whatever is answered beside it."""

from collections.abc import Sequence
from hashlib import sha256

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

from dynfocus.settings import Sampling


class GumbelNoise(LogitsProcessor):
    """Add Gumbel noise to scores: the largest of them is then a draw from their softmax (the Gumbel-max trick).

    Each row draws from a generator of its own. A batch in another order, a run that goes on after a stop, and several
    processes give every question the same answer.

    Args:
        keys: what each row's generator is seeded by, beside ``seed``, such as the question's id.
        seed: of all rows.
    """

    def __init__(self, keys: Sequence[str], seed: int) -> None:
        digests = [sha256(f"{seed}/{key}".encode()).digest() for key in keys]
        self.generators = [torch.Generator().manual_seed(int.from_bytes(digest[:7], "big")) for digest in digests]

    def __call__(self, input_ids: Int[Tensor, "B S"], scores: Float[Tensor, "B V"]) -> Float[Tensor, "B V"]:
        draws = [torch.empty(scores.shape[-1]).exponential_(generator=one) for one in self.generators]
        return scores - torch.stack(draws).log().to(scores)


def make_processors(sampling: Sampling, keys: Sequence[str]) -> LogitsProcessorList:
    """Make what transformers' greedy `generate` needs to sample instead; nothing where the temperature is 0.

    Args:
        sampling: temperature, top-p and seed.
        keys: a name for each row of the batch, by which it draws.
    """
    if sampling.temperature == 0:
        return LogitsProcessorList()
    made = LogitsProcessorList([TemperatureLogitsWarper(float(sampling.temperature))])
    if sampling.top_p < 1:
        made.append(TopPLogitsWarper(sampling.top_p))
    made.append(GumbelNoise(keys, sampling.seed))
    return made
