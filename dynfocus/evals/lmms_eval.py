"""Exchange answers with lmms-eval, by the sample log that it writes with ``--log_samples``: one JSON object a question.

A line, in our own words::

    {"doc_id": 0, "target": "A", "filtered_resps": "A.", "doc_hash": "74...", "input": "Who starts?", "correct": 1.0}

``doc_id`` is the question's number in the benchmark. ``filtered_resps`` is the answer, or a list that holds it.
"""

import json
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from dynfocus.errors import DataError
from dynfocus.evals.protocol import Item, Judged
from dynfocus.records.atomic import write_text
from dynfocus.records.predictions import Prediction


def write_samples(path: Path, judged: Iterable[Judged], items: Sequence[Item]) -> None:
    """Write the judged answers of one arm as a sample log.

    Args:
        path: the file to write.
        judged: predictions and their verdicts.
        items: the questions of the benchmark, in its order.

    Raises:
        DataError: if an answer is to none of the questions.
    """
    numbers = {item.id: n for n, item in enumerate(items)}
    lines = {}
    for prediction, verdict in judged:
        if prediction.id not in numbers:
            raise DataError(
                f"an answer to {prediction.id!r}, which is no question of the benchmark",
                "the files and the split that the run was asked from",
                "Correct ROOT and --split.",
            )
        target = prediction.meta.get("letter", prediction.truth)
        fields = {"input": prediction.question, "target": target, "doc_hash": _hash(items[numbers[prediction.id]])}
        answers = {"resps": [[prediction.answer]], "filtered_resps": [prediction.answer]}
        lines[numbers[prediction.id]] = fields | answers | dict(verdict.scores)
    write_text(path, "".join(json.dumps({"doc_id": n, **lines[n]}) + "\n" for n in sorted(lines)))


def read_samples(path: Path, items: Sequence[Item], arm: str) -> list[Prediction]:
    """Read a sample log as predictions, of which nothing is known of frames and tokens.

    Args:
        path: the file.
        items: the questions of the benchmark, in its order.
        arm: what the predictions are called.

    Raises:
        DataError: naming the line that is no sample, or of a question that the benchmark does not have.
    """
    predictions = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            sample = json.loads(line)
            item = items[int(sample["doc_id"])]
            answer = _first_text(sample.get("filtered_resps", sample.get("resps")))
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise DataError(
                f"{path}, line {number} ({type(error).__name__}: {error})",
                f"a sample of lmms-eval whose doc_id is below {len(items)}",
                "Take the log of the same benchmark and split.",
            ) from error
        question = item.question
        facts = (question.text, answer, question.answer, question.group, (), None, 0, question.options, question.meta)
        predictions.append(Prediction(item.id, item.video or "", arm, *facts))
    return predictions


def _first_text(value: Any) -> str:
    """The answer: a text, or the first one within lists."""
    while isinstance(value, list):
        value = value[0]
    if not isinstance(value, str):
        raise TypeError(f"an answer that is {value!r}")
    return value


def _hash(item: Item) -> str:
    return sha256(json.dumps([item.id, item.video or "", item.question.text]).encode()).hexdigest()
