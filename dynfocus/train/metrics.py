"""Accumulate a benchmark's columns over batches and processes, with torchmetrics."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from dynfocus.errors import DataError
from dynfocus.evals.protocol import Benchmark, Mean
from dynfocus.records.predictions import Prediction

HIT, TOKENS = "hit_rate", "visual_tokens"


class AnswerScore(Metric):
    """A benchmark's columns, the hit rate and the visual tokens of all predictions, over all processes.

    Args:
        benchmark: says how answers are judged, and which columns there are.

    Raises:
        DataError: in `update`, if a question's group is none of the benchmark's.

    >>> from dynfocus.evals.benchmarks import BENCHMARKS
    >>> score = AnswerScore(BENCHMARKS["world"])
    >>> meta = {"word": "red"}
    >>> score.update([Prediction("0", "v", "learned", "q", "star red", "star red", "color", (3,), 1.0, 85, (), meta)])
    >>> {name: value.item() for name, value in score.compute().items()}
    {'detail': 1.0, 'type/color': 1.0, 'hit_rate': 1.0, 'visual_tokens': 85.0}
    """

    full_state_update = False

    def __init__(self, benchmark: Benchmark) -> None:
        super().__init__()
        self.benchmark = benchmark
        self.rows = {key: row for row, key in enumerate((*benchmark.keys, HIT, TOKENS))}
        # A row for each key of the benchmark's values; columns: sum and number.
        self.add_state("sums", torch.zeros(len(self.rows), 2, dtype=torch.float64), dist_reduce_fx="sum")
        self.sums: Tensor

    def update(self, predictions: Sequence[Prediction]) -> None:
        for one in self.benchmark.list_values(self.benchmark.judge(predictions)):
            if one.key not in self.rows:
                known = ", ".join(self.benchmark.keys)
                raise DataError(
                    f"a question of the group {one.key!r}",
                    f"one of {known}, of {self.benchmark.name}",
                    "Correct the row.",
                )
            self._add(one.key, one.value)
        for prediction in predictions:
            self._add(TOKENS, prediction.visual_tokens)
            if prediction.hit is not None:
                self._add(HIT, prediction.hit)

    def compute(self) -> dict[str, Tensor]:
        """Compute every column of which all parts have values, and the means of what was shown."""
        values = {}
        for name, mean in {**self.benchmark.columns, **{name: Mean(((name,),)) for name in (HIT, TOKENS)}}.items():
            sums = torch.stack([self.sums[[self.rows[key] for key in part]].sum(0) for part in mean.parts])
            if bool((sums[:, 1] > 0).all()):
                values[name] = (mean.scale * (sums[:, 0] / sums[:, 1]).mean()).float()
        return values

    def _add(self, key: str, value: float) -> None:
        self.sums[self.rows[key]] += torch.tensor([value, 1.0], dtype=self.sums.dtype, device=self.sums.device)
