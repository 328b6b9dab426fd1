"""Exchange answers with lmms-eval, by the sample log that it writes with ``--log_samples``: one JSON object a question.

A line, in our own words::

    {"doc_id": 0, "target": "A", "filtered_resps": "A.", "doc_hash": "74...", "input": "Who starts?", "correct": 1.0}

``doc_id`` is the question's number in the benchmark, and ``input`` the prompt. ``filtered_resps`` is the answer, or a
list that holds it.
"""

import json
import re
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
        DataError: if an answer is to none of the questions, or to one with other words or options.
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
        item = items[numbers[prediction.id]]
        if (prediction.question, prediction.options) != (item.question.text, item.question.options):
            raise DataError(
                f"an answer to {prediction.id!r}, whose question or order of options differs from the benchmark's",
                "a run that asked the questions as the files have them, without --shuffle",
                "Correct ROOT and --split, or evaluate again without --shuffle.",
            )
        target = prediction.meta.get("letter", prediction.truth)
        fields = {"input": prediction.question, "target": target, "doc_hash": _hash(item)}
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
        DataError: if the log cannot be read; naming the line that is no sample, is about a question that the benchmark
            does not have or that has an answer already, or whose ``input`` is about another question.
    """
    answers: dict[int, str] = {}
    for number, line in enumerate(_read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            sample = json.loads(line)
            doc = _read_doc(sample["doc_id"], len(items))
            answer = _first_text(sample.get("filtered_resps", sample.get("resps")))
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise DataError(
                f"{path}, line {number} ({type(error).__name__}: {error})",
                f"a sample of lmms-eval whose doc_id is below {len(items)}",
                "Take the log of the same benchmark and split.",
            ) from error
        text = items[doc].question.text
        if doc in answers or not _is_asked(text, sample.get("input")):
            problem = (
                "a second answer to doc_id" if doc in answers else "an input that does not ask the question of doc_id"
            )
            raise DataError(
                f"{path}, line {number}, with {problem} {doc}, which is {text[:100]!r} in the benchmark's files",
                "one answer to each question, numbered in the order of these files",
                "Take the log of the same benchmark and split, made from the same revision of its files.",
            )
        answers[doc] = answer
    return [_make_prediction(items[doc], answer, arm) for doc, answer in answers.items()]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} ({error})", "a sample log of lmms-eval", "Correct the path.") from error


def _read_doc(value: Any, count: int) -> int:
    if not 0 <= (doc := int(value)) < count:
        raise IndexError(f"doc_id {doc}")
    return doc


def _is_asked(text: str, prompt: Any) -> bool:
    """Whether a prompt holds the words of a question's first line, in any case and punctuation; without one it may."""
    if not prompt:
        return True
    words, asked = (
        " ".join(re.findall(r"\w+", part.casefold()))
        for part in (text.strip().split("\n")[0], prompt if isinstance(prompt, str) else repr(prompt))
    )
    return f" {words} " in f" {asked} "


def _make_prediction(item: Item, answer: str, arm: str) -> Prediction:
    question = item.question
    facts = (question.text, answer, question.answer, question.group, (), None, 0, question.options, question.meta)
    return Prediction(item.id, item.video or "", arm, *facts)


def _first_text(value: Any) -> str:
    """The answer: a text, or the first one within lists."""
    while isinstance(value, list):
        value = value[0]
    if not isinstance(value, str):
        raise TypeError(f"an answer that is {value!r}")
    return value


def _hash(item: Item) -> str:
    return sha256(json.dumps([item.id, item.video or "", item.question.text]).encode()).hexdigest()
