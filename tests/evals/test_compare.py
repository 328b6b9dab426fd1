"""Two runs, or two arms of one, are compared on the questions that both answered."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from dynfocus.cli import main
from dynfocus.evals.benchmarks import BENCHMARKS, find_benchmark
from dynfocus.evals.compare import compare_arms, read_arm
from dynfocus.evals.summary import summarize_arms, write_results
from dynfocus.records.jsonl import read_jsonl, write_jsonl
from dynfocus.records.predictions import Prediction, Verdict

Capture = pytest.CaptureFixture[str]


def answer(id: int, arm: str, right: bool, **changes: Any) -> Prediction:
    """An answer to a color question, of which there are two about each video."""
    shown = (str(id), f"{id // 2}.mp4", arm, f"question {id}", "red" if right else "blue", "red", "color")
    return replace(Prediction(*shown, (), None, 85, (), {"word": "red"}), **changes)


def write_run(folder: Path, arms: dict[str, list[bool]], benchmark: str = "world", **facts: Any) -> Path:
    """A tested run whose arms answer color questions rightly or not."""
    group = {"group": "" if benchmark == "msvd-qa" else "color"}
    predictions = [answer(n, arm, right, **group) for arm, rights in arms.items() for n, right in enumerate(rights)]
    write_results(folder, predictions, find_benchmark(benchmark), {"split": "test", **facts})
    return folder


def write_verdicts(run: Path, judge: str, scores: dict[str, list[float | None]]) -> None:
    """What a judge says to the answers of a run with one arm: its scores, or that it failed."""
    predictions = list(read_jsonl(run / "predictions.jsonl", Prediction))
    judged = []
    for n, one in enumerate(predictions):
        own = {name: float(values[n]) for name, values in scores.items() if values[n] is not None}  # type: ignore[arg-type]
        judged.append((one, Verdict(one.id, one.arm, judge, own, "a reply", "m", None if own else "no reply")))
    metrics = json.loads((run / "metrics.json").read_text())
    metrics |= summarize_arms(judged, find_benchmark(metrics["benchmark"])) | {"judge": judge, "judge_model": "m"}
    write_jsonl(run / f"verdicts.{judge}.jsonl", [verdict for _, verdict in judged])
    (run / f"metrics.{judge}.json").write_text(json.dumps(metrics))


def rows_of(output: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in output.splitlines() if line[:1].strip() and "  " in line}


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
    # 8 questions that a alone has right, 2 that b alone has: p = 2 * (1 + 10 + 45) / 1024; detail and type/color, twice
    expected = stats.binomtest(8, 10).pvalue
    assert row[-4:-1] == ["20", f"{expected:.3g}", f"{4 * expected:.3g}"]
    assert same[-3:] == ["1", "1", "-"]  # they never differ: what twenty videos show of that, nobody knows
    error = np.std([1] * 4 + [0] * 5 + [-1]) / 10**0.5  # of the ten videos, each with its two questions
    assert float(row[-1]) == pytest.approx((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * error, rel=0.1)
    assert "p by Holm: adjusted for the 4 tests above" in output


def test_two_runs_share_some_questions(tmp_path: Path, capsys: Capture) -> None:
    one = write_run(tmp_path / "one", {"learned": [True] * 6}, frame_rule={"frames": 16, "fps": 1.0})
    two = write_run(tmp_path / "two", {"learned": [False] * 4}, frame_rule={"frames": 32, "fps": 1.0})
    assert main(["compare", str(one), str(two)]) == 0
    output = capsys.readouterr().out
    assert "4 questions that both answered" in output
    assert rows_of(output)["detail"] == ["1.000", "0.000", "+1.000", "[+1.000,", "+1.000]", "4", "0.125", "0.25", "-"]
    assert "they differ: a has frames 16 frames of 1 a second; b has frames 32 frames of 1 a second" in output


def test_a_question_is_known_by_its_text(tmp_path: Path, capsys: Capture) -> None:
    """Ids of most benchmarks are numbers of rows, which differ between the forms of their files."""
    one = write_run(tmp_path / "one", {"learned": [True] * 4})
    moved = [answer(n, "learned", False, question=f"question {n + (n > 1)}") for n in range(4)]
    write_results(tmp_path / "two", moved, find_benchmark("world"), {"split": "test"})
    assert main(["compare", str(one), str(tmp_path / "two")]) == 0
    assert "2 questions that both answered" in capsys.readouterr().out
    other = [replace(one, question="another") for one in moved]
    write_results(tmp_path / "three", other, find_benchmark("world"), {"split": "test"})
    assert main(["compare", str(one), str(tmp_path / "three")]) == 1
    assert "which share no question" in capsys.readouterr().err


def test_verdicts_of_a_judge_are_compared(tmp_path: Path, capsys: Capture) -> None:
    """Of five answers the judge failed on one in each run: three are left. Scores of 0 to 5 have no McNemar's test."""
    runs = [write_run(tmp_path / name, {"learned": [True] * 5}, "msvd-qa") for name in ("one", "two")]
    write_verdicts(runs[0], "openai-j", {"correct": [1, 1, 1, 0, None], "score": [4.5, 4, 5, 1, None]})
    write_verdicts(runs[1], "openai-j", {"correct": [None, 0, 0, 0, 1], "score": [None, 2, 1, 3, 5]})
    assert main(["compare", *map(str, runs), "--judge", "openai-j"]) == 0
    rows = rows_of(capsys.readouterr().out)
    # b has none of the two that only a has right: p = 2 * 1 / 4
    assert rows["Acc"][:3] == ["66.667", "0.000", "+66.667"]
    assert rows["Acc"][-4:] == ["3", "0.5", "0.5", "-"]
    assert rows["Score"][:3] == [f"{10 / 3:.3f}", "2.000", f"+{4 / 3:.3f}"]
    assert rows["Score"][-4:] == ["3", "-", "-", "-"]
    assert main(["compare", *map(str, runs)]) == 0
    assert rows_of(capsys.readouterr().out)["Acc"][:3] == ["100.000", "100.000", "+0.000"]
    assert main(["compare", *map(str, runs), "--judge", "local"]) == 1
    assert "no results of the judge 'local'" in capsys.readouterr().err


def test_the_interval_is_that_of_paired_clusters(tmp_path: Path) -> None:
    """Against a bootstrap that is written out here, over the ten videos of 20 questions."""
    import numpy as np

    rights = np.random.default_rng(3).random((2, 20)) < [[0.8], [0.5]]
    run = write_run(tmp_path / "run", {"a": rights[0].tolist(), "b": rights[1].tolist()})
    (detail,) = [one for one in compare_arms(read_arm(run, "a"), read_arm(run, "b")) if one.name == "detail"]
    videos = (rights[0].astype(float) - rights[1]).reshape(10, 2).mean(1)
    order = np.array(sorted(range(10), key=lambda n: f"{n}.mp4"))
    drawn = np.random.default_rng(0).integers(0, 10, (1000, 10))
    expected = np.percentile(videos[order][drawn].mean(1), (2.5, 97.5))
    assert detail.interval == pytest.approx(tuple(expected))
    # scipy draws other samples of the same videos: the same interval but for chance
    other = stats.bootstrap((videos,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1))
    assert detail.interval == pytest.approx(tuple(other.confidence_interval), abs=0.06)


@pytest.mark.parametrize(
    ("facts", "error"),
    [
        ({"protocol": "upstream"}, "protocol dynfocus and"),
        ({"split": "val"}, "split test and"),
        ({"benchmark": "mlvu"}, "benchmark world and"),
    ],
)
def test_what_is_counted_otherwise_is_refused(
    tmp_path: Path, capsys: Capture, facts: dict[str, str], error: str
) -> None:
    one = write_run(tmp_path / "one", {"learned": [True] * 6})
    two = write_run(tmp_path / "two", {"learned": [True] * 6}, **facts)
    assert main(["compare", str(one), str(two)]) == 1
    message = capsys.readouterr().err
    assert error in message
    assert f"Needed: two runs of one {next(iter(facts))}" in message


def test_what_cannot_be_compared_is_refused(tmp_path: Path, capsys: Capture) -> None:
    one = write_run(tmp_path / "one", {"learned": [True] * 6})
    assert main(["compare", str(one)]) == 2
    assert "Needed: several runs and at most one arm" in capsys.readouterr().err
    assert main(["compare", str(one), str(one), "--arms", "random"]) == 1
    assert "no arm 'random'" in capsys.readouterr().err
    assert main(["compare", str(tmp_path), str(one)]) == 1
    assert "metrics.json. Needed: a tested run" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name != "scienceqa"])
def test_values_name_their_questions(name: str) -> None:
    """Two sets of answers are paired by key and question: no two values of one benchmark share both."""
    benchmark = BENCHMARKS[name]
    groups = {"msvd-qa": "", "msrvtt-qa": "", "activitynet-qa": "color", "videohallucer": "Temporal"}
    groups |= dict.fromkeys(("longvideobench", "longvideobench-no-subtitles"), "S2E")
    group = groups.get(name, benchmark.keys[0].partition("/")[0])
    meta = {"letter": "A", "word": "red", "number": 0, "half": "basic", "duration_group": "15"}
    meta |= {"domain": "Knowledge", "task_type": "OCR Problems"}
    predictions = [
        Prediction(f"{n}_x", "v", "learned", "q", "A", "yes", group, (), None, 85, ("yes", "no"), meta | {"number": n})
        for n in range(3)
    ]
    scores = {"correct": 1.0, "score": 1.0, "f1": 1.0, "completeness": 1.0, "reliability": 1.0}
    judged = [(one, Verdict(one.id, one.arm, "j", scores)) for one in predictions]
    values = benchmark.list_values(judged)
    assert values
    assert all(one.id for one in values)
    assert len({(one.key, one.id) for one in values}) == len(values)


def test_a_run_without_answers_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    write_results(run, [], find_benchmark("world"), {})
    assert main(["compare", str(run), str(run)]) == 1
    assert f"{run}, which holds no answer" in capsys.readouterr().err
    (run / "predictions.jsonl").unlink()
    assert main(["judge", str(run)]) == 1
    assert f"no file {run / 'predictions.jsonl'}" in capsys.readouterr().err
