"""Compare the verdicts of two judges on the same answers."""

from collections import Counter
from collections.abc import Hashable, Sequence
from math import nan
from pathlib import Path
from typing import NamedTuple

from dynfocus.errors import ConfigError
from dynfocus.records.jsonl import read_jsonl
from dynfocus.records.predictions import Verdict


class Agreement(NamedTuple):
    """How far two judges agree on one score.

    Attributes:
        score: its name.
        n: answers that both have scored.
        raw: the share of them to which both gave the same value.
        kappa: Cohen's kappa, without weights; NaN where both gave one same value to every answer.
    """

    score: str
    n: int
    raw: float
    kappa: float


def compute_kappa(a: Sequence[Hashable], b: Sequence[Hashable]) -> float:
    """Compute Cohen's kappa of two judges' values, in the same order; NaN where chance alone agrees always."""
    n = len(a)
    observed = sum(x == y for x, y in zip(a, b, strict=True)) / n
    counts, others = Counter(a), Counter(b)
    expected = sum(count * others[value] for value, count in counts.items()) / n**2
    return (observed - expected) / (1 - expected) if expected < 1 else nan


def compare_verdicts(a: Path, b: Path) -> tuple[list[Agreement], int]:
    """Compare two files of verdicts.

    Returns:
        the agreement on each score that both files have, except ``f1``, which nobody judges, and the number of answers
        that only one of them has scored.

    Raises:
        ConfigError: if a file is absent, or the two have no score of one answer in common.
        DataError: if a file holds no verdicts.
    """
    first, second = _read_scores(a), _read_scores(b)
    shared = [key for key in first if key in second]
    if not shared:
        raise ConfigError(
            f"{a} and {b}, with no score of the same answer",
            "verdicts of two judges on the same answers",
            "Judge one run twice.",
        )
    names = dict.fromkeys(score for _, _, score in shared)
    pairs = {name: [(first[key], second[key]) for key in shared if key[2] == name] for name in names}
    results = [
        Agreement(name, len(both), sum(x == y for x, y in both) / len(both), compute_kappa(*zip(*both, strict=True)))
        for name, both in pairs.items()
    ]
    answers = [{key[:2] for key in scores if key[2] in names} for scores in (first, second)]
    return results, len(answers[0] ^ answers[1])


def format_agreement(results: Sequence[Agreement], alone: int) -> str:
    """Format a table of agreements."""
    lines = [f"{'score':16}{'answers':>9}{'agreement':>11}{'kappa':>8}"]
    for score, n, raw, kappa in results:
        lines.append(f"{score:16}{n:9}{raw:11.3f}{'-' if kappa != kappa else f'{kappa:.3f}':>8}")
    return "\n".join([*lines, *([f"\n{alone} answers have a score of one judge alone"] if alone else [])])


def _read_scores(file: Path) -> dict[tuple[str, str, str], float]:
    if not file.is_file():
        raise ConfigError(
            f"{file}, which is no file", "a file of verdicts, such as verdicts.jsonl", "Correct its path."
        )
    verdicts = read_jsonl(file, Verdict)
    return {(one.arm, one.id, score): value for one in verdicts for score, value in one.scores.items() if score != "f1"}
