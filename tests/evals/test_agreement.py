"""How far two judges agree: against tables by hand, and on files of verdicts through the command line."""

import math
from pathlib import Path

import pytest

from dynfocus.cli import main
from dynfocus.evals.agreement import compare_verdicts, compute_kappa
from dynfocus.records.jsonl import write_jsonl
from dynfocus.records.predictions import Verdict


def fill(table: list[list[int]]) -> tuple[list[int], list[int]]:
    """The values of two judges of a table of counts, whose rows are the first one's."""
    pairs = [(i, j) for i, row in enumerate(table) for j, count in enumerate(row) for _ in range(count)]
    return [a for a, _ in pairs], [b for _, b in pairs]


@pytest.mark.parametrize(
    ("table", "kappa"),
    [
        # Of 50: 35 agree (.7); by chance 25/50 * 30/50 + 25/50 * 20/50 = .5; (.7 - .5) / .5.
        ([[20, 5], [10, 15]], 0.4),
        # Of 10: 7 agree; by chance .5 * .4 + .3 * .3 + .2 * .3 = .35; .35 / .65.
        ([[3, 1, 1], [1, 2, 0], [0, 0, 2]], 0.35 / 0.65),
        ([[5, 0], [0, 5]], 1.0),
        ([[0, 5], [5, 0]], -1.0),
        ([[2, 2], [2, 2]], 0.0),
    ],
)
def test_kappa_by_hand(table: list[list[int]], kappa: float) -> None:
    assert compute_kappa(*fill(table)) == pytest.approx(kappa)


def test_kappa_of_one_value_is_no_number() -> None:
    assert math.isnan(compute_kappa([1, 1], [1, 1]))


def verdict(id: str, correct: float | None, judge: str, score: float = 3.0) -> Verdict:
    scores = {} if correct is None else {"correct": correct, "score": score, "f1": 0.5}
    return Verdict(id, "learned", judge, scores, failure="no reply" if correct is None else None)


def test_files_of_verdicts_are_compared_answer_by_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    write_jsonl(a, [verdict(str(n), float(n < 3), "x") for n in range(5)] + [verdict("9", None, "x")])
    write_jsonl(b, [verdict(str(n), float(n < 2), "y") for n in (5, 4, 3, 2, 1, 0)] + [verdict("9", 1.0, "y")])
    results, alone = compare_verdicts(a, b)
    assert [(one.score, one.n, one.raw) for one in results] == [("correct", 5, 0.8), ("score", 5, 1.0)]
    assert results[0].kappa == pytest.approx((0.8 - (0.6 * 0.4 + 0.4 * 0.6)) / (1 - 0.48))
    assert alone == 2
    assert main(["judge", "--agreement", str(a), str(b)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        *("score             answers  agreement   kappa", "correct                 5      0.800   0.615"),
        *("score                   5      1.000       -", "", "2 answers have a score of one judge alone"),
    ]


def test_what_cannot_be_compared_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b, c = (tmp_path / f"{name}.jsonl" for name in "abc")
    write_jsonl(a, [verdict("0", 1.0, "x")])
    write_jsonl(b, [verdict("1", 1.0, "x")])
    c.write_text('{"id": "0"}\n')
    for files, message in [
        ((a, b), "no score of the same answer"),
        ((a, c), "c.jsonl, line 1"),
        ((a, tmp_path / "d.jsonl"), "d.jsonl, which is no file"),
        ((a,), "two files of verdicts"),
    ]:
        assert main(["judge", "--agreement", *map(str, files)]) in (1, 2)
        assert message in capsys.readouterr().err
