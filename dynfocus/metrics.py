"""torchmetrics shells over the pure functions of evals."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from dynfocus.evals.score import BALANCED
from dynfocus.records import Prediction

KINDS = ("detail", "correspondence", "temporal")


class AnswerScore(Metric):
    """Accuracy by kind, hit rate and visual tokens of all predictions, over all processes.

    >>> score = AnswerScore()
    >>> score.update([Prediction("0", "v", "learned", "q", "a", "a", "detail", "color", 1.0, (3,), 1.0, 85)])
    >>> {name: value.item() for name, value in score.compute().items()}
    {'balanced': 1.0, 'accuracy': 1.0, 'visual_tokens': 85.0, 'detail': 1.0, 'hit_rate': 1.0}
    """

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        # Rows: each kind, then the hit rate, then the visual tokens; columns: sum and number.
        self.add_state("sums", torch.zeros(len(KINDS) + 2, 2, dtype=torch.float64), dist_reduce_fx="sum")
        self.sums: Tensor

    def update(self, predictions: Sequence[Prediction]) -> None:
        for p in predictions:
            self._add(KINDS.index(p.kind), p.correct)
            self._add(len(KINDS) + 1, p.visual_tokens)
            if p.hit is not None:
                self._add(len(KINDS), p.hit)

    def compute(self) -> dict[str, Tensor]:
        total, number = self.sums.float().unbind(1)
        mean = total / number
        by_kind = {kind: mean[n] for n, kind in enumerate(KINDS) if number[n]}
        balanced = [by_kind[kind] for kind in BALANCED if kind in by_kind]
        asked = slice(0, len(KINDS))
        out = {
            "balanced": torch.stack(balanced).mean() if balanced else total.new_tensor(torch.nan),
            "accuracy": total[asked].sum() / number[asked].sum(),
            "visual_tokens": mean[-1],
            **by_kind,
        }
        return out | ({"hit_rate": mean[-2]} if number[-2] else {})

    def _add(self, row: int, value: float) -> None:
        self.sums[row] += torch.tensor([value, 1.0], dtype=self.sums.dtype, device=self.sums.device)
