"""Read choices as the published code of benchmarks reads them, with its defects: numbers of papers depend on them."""

import re
from collections.abc import Sequence
from hashlib import sha256

from dynfocus.evals.answers import LETTERS
from dynfocus.evals.rules import Scores
from dynfocus.records.predictions import Prediction

OPENINGS = ("The best answer is", "The correct answer is", "The answer is", "The answer")
OPTION_OPENINGS = ("The best option is", "The correct option is")
SHORT_OPENINGS = ("Best answer:", "Best option:")
# Video-MME's list lacks two commas, so that four openings have become two that no answer has: of "Best option: C" the
# B is read.
VIDEOMME_OPENINGS = (
    *(*OPENINGS, "".join(OPTION_OPENINGS), "".join(SHORT_OPENINGS)),
    *("Answer:", "Option:", "The correct answer", "The correct option"),
)
# lmms-eval's list for LongVideoBench lacks "Answer:", of which the A is read.
LONGVIDEOBENCH_OPENINGS = (*OPENINGS, *OPTION_OPENINGS, *SHORT_OPENINGS)


def compare_letter(prediction: Prediction, letter: str | None) -> Scores:
    """Compare a letter with the right one; one that no question of its kind can have counts as not read."""
    right = prediction.meta["letter"]
    parsed = letter if letter and letter in LETTERS else None
    return {"correct": float(letter is not None and letter == right)}, parsed


def find_capital(answer: str, openings: Sequence[str], letters: str) -> str | None:
    """Find the first of some capital letters, also within a word, once every opening is taken out of the answer."""
    for opening in openings:
        answer = answer.replace(opening, "")
    match = re.search(f"[{letters}]", answer)
    return match[0] if match else None


def check_videomme(prediction: Prediction) -> Scores:
    """Read the first capital A to D: Video-MME's code."""
    return compare_letter(prediction, find_capital(prediction.answer.strip(), VIDEOMME_OPENINGS, "ABCD"))


def check_longvideobench(prediction: Prediction) -> Scores:
    """Read the first capital A to E, and draw a letter where there is none: lmms-eval's code, by its authors' rule.

    Departs: the draw follows from the question's id, so that it is the same every time.
    """
    letter = find_capital(prediction.answer.strip(), LONGVIDEOBENCH_OPENINGS, "ABCDE")
    drawn = LETTERS[int(sha256(prediction.id.encode()).hexdigest(), 16) % len(prediction.options)]
    scores, _ = compare_letter(prediction, letter or drawn)
    return scores, letter


def check_mlvu(prediction: Prediction) -> Scores:
    """Read the character before the first closing bracket, or the whole answer where there is none: MLVU's code."""
    before, bracket, _ = prediction.answer.partition(")")
    return compare_letter(prediction, before[-1:] if bracket else prediction.answer)


def check_lvbench(prediction: Prediction) -> Scores:
    """Read the first character, or the first one in brackets: LVBench's code."""
    before = prediction.answer.strip().partition(")")[0]
    text = before.split("(")[1] if "(" in before else before
    return compare_letter(prediction, text.strip()[:1] or None)


def check_mvbench(prediction: Prediction) -> Scores:
    """Look for the first word in the right letter in brackets, and the other way round: MVBench's code.

    Its prompt begins the answer with a bracket, so that an empty answer is a bracket alone, which is in every letter in
    brackets: it counts as right.
    """
    answer = prediction.answer.strip()
    begun = answer if answer.startswith("(") else f"({answer}"
    word = begun.partition("\n")[0].lower().split(" ")[0]
    right = f"({(prediction.meta['letter'] or '').lower()})"
    correct = prediction.meta["letter"] is not None and (word.replace(".", "") in right or right in word)
    return {"correct": float(correct)}, word.strip("().").upper() or None


def check_videohallucer(prediction: Prediction) -> Scores:
    """Look for the right one of the words yes and no, whatever else the answer holds: VideoHallucer's code."""
    words = set(re.findall(r"\b(?:yes|no)\b", prediction.answer.lower()))
    return {"correct": float(prediction.truth.lower() in words)}, " and ".join(sorted(words)) or None
