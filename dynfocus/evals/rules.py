"""Judge answers by rules, without a model: choices, open answers, yes and no."""

import re
from collections import Counter
from collections.abc import Sequence

from dynfocus.evals.answers import LETTERS, match_answer, normalize_answer, parse_choice
from dynfocus.records.predictions import Prediction

Scores = tuple[dict[str, float], str | None]


def check_choice(prediction: Prediction) -> Scores:
    """Compare the letter that the answer chooses with ``meta["letter"]``: texts of options may repeat."""
    letter = parse_choice(prediction.answer, prediction.options)
    return {"correct": float(letter is not None and letter == prediction.meta["letter"])}, letter


def check_open(prediction: Prediction) -> Scores:
    """Compare the normal forms of the answer and the true one; ``f1`` counts the words that they share."""
    words = normalize_answer(prediction.answer)
    correct = float(match_answer(prediction.answer, prediction.truth))
    return {"correct": correct, "f1": compute_f1(prediction.answer, prediction.truth)}, words or None


def check_yes_no(prediction: Prediction) -> Scores:
    """Look for the true one of the words yes and no, as a word; an answer with both, or none of them, is not read."""
    words = set(re.findall(r"\b(?:yes|no)\b", prediction.answer.casefold()))
    parsed = words.pop() if len(words) == 1 else None
    return {"correct": float(parsed == prediction.truth.casefold())}, parsed


def compute_f1(answer: str, truth: str) -> float:
    """Compute the harmonic mean of precision and recall of the answer's normalized words."""
    words, expected = Counter(normalize_answer(answer).split()), Counter(normalize_answer(truth).split())
    shared = (words & expected).total()
    return 2 * shared / (words.total() + expected.total()) if shared else 0.0


def format_options(options: Sequence[str], form: str = "({}) {}") -> str:
    """Write options with their letters, one a line."""
    return "\n".join(form.format(letter, option) for letter, option in zip(LETTERS, options, strict=False))
