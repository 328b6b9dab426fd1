"""Two runs, or two arms of one, are compared on the questions that both answered."""

import json
from pathlib import Path

import pytest

from dynfocus.cli import main
from dynfocus.evals.benchmarks.world import WORLD
from dynfocus.evals.summary import summarize
from dynfocus.records.jsonl import write_jsonl
from dynfocus.records.predictions import Prediction

Capture = pytest.CaptureFixture[str]


def write_run(folder: Path, arms: dict[str, list[bool]], benchmark: str = "world") -> Path:
    """A tested run whose arms answer color questions rightly or not, two of each video."""
    folder.mkdir()
    predictions = [
        Prediction(
            str(n),
            f"{n // 2}.mp4",
            arm,
            "q",
            "red" if right else "blue",
            "red",
            "color",
            (),
            None,
            85,
            (),
            {"word": "red"},
        )
        for arm, rights in arms.items()
        for n, right in enumerate(rights)
    ]
    write_jsonl(folder / "predictions.jsonl", predictions)
    write_jsonl(folder / "verdicts.jsonl", [verdict for _, verdict in WORLD.judge(predictions)])
    by_arm = {arm: summarize([one for one in predictions if one.arm == arm], WORLD) for arm in arms}
    metrics = {"benchmark": benchmark, "arms": by_arm}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def test_arms_of_one_run(tmp_path: Path, capsys: Capture) -> None:
    good, bad = [True] * 18 + [False] * 2, [False] * 8 + [True] * 12
    run = write_run(tmp_path / "run", {"learned": good, "uniform": bad, "same": good})
    assert main(["compare", str(run), "--arms", "learned", "uniform", "same"]) == 0
    output = capsys.readouterr().out
    lines = output.splitlines()
    assert lines[:3] == [f"a: {run} (learned)", f"b: {run} (uniform)", "20 questions that both answered"]
    (row, same) = [line.split() for line in lines if line.startswith("detail")]
    assert row[1:4] == ["0.900", "0.600", "+0.300"]
    assert same[1:4] == ["0.900", "0.900", "+0.000"]
    # 8 questions that a alone has right, 2 that b alone has: p = 2 * (1 + 10 + 45) / 1024, times 2 comparisons
    assert "p = 0.219 (of 2 comparisons, adjusted by Holm)" in output
    assert "p = 1 (of 2 comparisons, adjusted by Holm)" in output


def test_two_runs_share_some_questions(tmp_path: Path, capsys: Capture) -> None:
    one = write_run(tmp_path / "one", {"learned": [True] * 6})
    two = write_run(tmp_path / "two", {"learned": [False] * 4})
    assert main(["compare", str(one), str(two)]) == 0
    output = capsys.readouterr().out
    assert "4 questions that both answered" in output
    assert "+1.000  [+1.000, +1.000]  4" in output
    assert "p = 0.125\n" in output


def test_what_cannot_be_compared_is_refused(tmp_path: Path, capsys: Capture) -> None:
    one = write_run(tmp_path / "one", {"learned": [True] * 6})
    two = write_run(tmp_path / "two", {"learned": [True] * 6}, benchmark="mlvu")
    none = write_run(tmp_path / "none", {"learned": []})
    assert main(["compare", str(one), str(two)]) == 1
    assert "of world and" in capsys.readouterr().err
    assert main(["compare", str(one), str(none)]) == 1
    assert "which share 0 questions" in capsys.readouterr().err
    assert main(["compare", str(one)]) == 2
    assert "Needed: several runs and at most one arm" in capsys.readouterr().err
    assert main(["compare", str(one), str(two), "--arms", "random"]) == 1
    assert "no arm 'random'" in capsys.readouterr().err
    assert main(["compare", str(tmp_path), str(one)]) == 1
    assert "metrics.json. Needed: a tested run" in capsys.readouterr().err
