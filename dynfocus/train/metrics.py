"""Accumulate the scores of `dynfocus.evals` over batches and processes, with torchmetrics."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from dynfocus.evals.accuracy import BALANCED
from dynfocus.records.predictions import Prediction
from dynfocus.records.rows import KINDS

TYPES = tuple(KINDS)
HIT, TOKENS = len(TYPES), len(TYPES) + 1


class AnswerScore(Metric):
    """Accuracy by kind and type, hit rate and visual tokens of all predictions, over all processes.

    >>> score = AnswerScore()
    >>> score.update([Prediction("0", "v", "learned", "q", "a", "a", "detail", "color", 1.0, (3,), 1.0, 85)])
    >>> {name: value.item() for name, value in score.compute().items()}
    {'balanced': 1.0, 'accuracy': 1.0, 'visual_tokens': 85.0, 'hit_rate': 1.0, 'detail': 1.0, 'type/color': 1.0}
    """

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        # Rows: each type, then the hit rate, then the visual tokens; columns: sum and number.
        self.add_state("sums", torch.zeros(len(TYPES) + 2, 2, dtype=torch.float64), dist_reduce_fx="sum")
        self.sums: Tensor

    def update(self, predictions: Sequence[Prediction]) -> None:
        for p in predictions:
            self._add(TYPES.index(p.type), p.correct)
            self._add(TOKENS, p.visual_tokens)
            if p.hit is not None:
                self._add(HIT, p.hit)

    def compute(self) -> dict[str, Tensor]:
        kinds = {kind: [n for n, type in enumerate(TYPES) if KINDS[type] == kind] for kind in KINDS.values()}
        groups = {"hit_rate": [HIT], **kinds, **{f"type/{type}": [n] for n, type in enumerate(TYPES)}}
        means = {name: self._mean(rows) for name, rows in groups.items() if self.sums[rows, 1].sum() > 0}
        balanced = [means[kind] for kind in BALANCED if kind in means]
        return {
            "balanced": torch.stack(balanced).mean() if balanced else self._mean([]),
            "accuracy": self._mean(list(range(len(TYPES)))),
            "visual_tokens": self._mean([TOKENS]),
            **means,
        }

    def _add(self, row: int, value: float) -> None:
        self.sums[row] += torch.tensor([value, 1.0], dtype=self.sums.dtype, device=self.sums.device)

    def _mean(self, rows: list[int]) -> Tensor:
        total, number = self.sums[rows].sum(0)
        return (total / number).float()
