"""Make choices, and judge answers by rules, without a model: choices, open answers, yes and no."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dynfocus.evals.answers import LETTERS, match_answer, normalize_answer, parse_choice
from dynfocus.records.predictions import Prediction
from dynfocus.records.rows import Question

LETTER_ALONE = "Answer with the letter of the right option alone."
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


def make_choice(
    text: str, options: Sequence[str], letter: str | None, group: str = "", meta: Mapping[str, Any] | None = None
) -> Question:
    """Make a multiple-choice question of the right letter; where that has no option, no answer to it is right."""
    right = dict(zip(LETTERS, options, strict=False)).get(letter or "")
    meta = {**(meta or {}), "letter": None if right is None else letter}
    return Question(text, right or "", tuple(options), group, meta=meta)


def find_letter(options: Sequence[str], answer: str) -> str | None:
    """Find the letter of the option whose text is the answer, the last of several; None where none is."""
    letters = [letter for letter, option in zip(LETTERS, options, strict=False) if option == answer]
    return letters[-1] if letters else None


def strip_letters(options: Sequence[str]) -> list[str]:
    """Take their letters from options such as ``A. a cup`` or ``(A) a cup``."""
    pairs = zip(LETTERS, options, strict=False)
    return [re.sub(rf"^(?:\({letter}\)|{letter}[.):])\s*", "", option.strip()) for letter, option in pairs]


def format_options(options: Sequence[str], form: str = "({}) {}") -> str:
    """Write options with their letters, one a line."""
    return "\n".join(form.format(letter, option) for letter, option in zip(LETTERS, options, strict=False))
