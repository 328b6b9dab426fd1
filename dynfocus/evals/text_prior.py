"""Answer questions from their text alone, as well as the training questions allow: what no video is needed for."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from dynfocus.evals.protocol import Benchmark
from dynfocus.evals.scores import make_columns
from dynfocus.records.predictions import TEXT_PRIOR, Prediction
from dynfocus.records.rows import Question


def answer_from_text(known: Iterable[Question], predictions: Iterable[Prediction]) -> list[Prediction]:
    """Answer each question as training questions with the same text are answered most often.

    A text that training lacks is answered as its group is most often, and with nothing where training has no such
    group. Of answers that are equally frequent the first in the alphabet is taken.

    Args:
        known: the questions that were trained on, with their answers.
        predictions: those of one arm; what is asked is taken from them.

    Returns:
        predictions of the arm `TEXT_PRIOR`, which kept nothing and cost no token.
    """
    by_text: dict[str, Counter[str]] = defaultdict(Counter)
    by_group: dict[str, Counter[str]] = defaultdict(Counter)
    for question in known:
        by_text[question.text][question.answer] += 1
        by_group[question.group][question.answer] += 1
    return [
        replace(
            one,
            arm=TEXT_PRIOR,
            answer=_most_frequent(by_text.get(one.question) or by_group.get(one.group) or Counter()),
            kept=(),
            hit=None,
            visual_tokens=0,
        )
        for one in predictions
    ]


def _most_frequent(answers: Counter[str]) -> str:
    return min(answers, key=lambda answer: (-answers[answer], answer), default="")


def score_text_prior(
    known: Iterable[Question], predictions: Sequence[Prediction], benchmark: Benchmark
) -> dict[str, Any]:
    """Score the answers of `answer_from_text`: for each column of the benchmark ``value``, ``interval`` and ``n``."""
    judged = benchmark.judge(answer_from_text(known, predictions))
    columns = make_columns(benchmark.list_values(judged), benchmark.columns)
    return {one.name: {"value": one.value, "interval": one.interval(), "n": one.n} for one in columns}
