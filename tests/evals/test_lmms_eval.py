"""Answers go to lmms-eval's sample log and come back."""

import json
from pathlib import Path

import pytest

from dynfocus.cli import main
from dynfocus.evals.benchmarks import find_benchmark, read_items
from dynfocus.evals.benchmarks.mlvu import TASKS
from dynfocus.evals.summary import write_results
from dynfocus.records.jsonl import read_jsonl
from dynfocus.records.predictions import Prediction, Verdict

Capture = pytest.CaptureFixture[str]
OPTIONS = ["a cup", "a pen", "a book", "a plate"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """MLVU with one row in each file."""
    folder = tmp_path / "mlvu" / "json"
    folder.mkdir(parents=True)
    for task, name in TASKS.items():
        row = {"video": f"{task}.mp4", "question": f"what falls in {task}", "answer": "a pen", "question_type": task}
        row |= {} if task in ("VS", "SSC") else {"candidates": OPTIONS}
        (folder / f"{name}.json").write_text(json.dumps([row]))
    return tmp_path / "mlvu"


def write_run(folder: Path, root: Path, answers: list[str]) -> Path:
    predictions = []
    for item, answer in zip(read_items("mlvu", root), answers, strict=False):
        one = item.question
        facts = (one.text, answer, one.answer, one.group, (0, 2), None, 80, one.options, one.meta)
        predictions.append(Prediction(item.id, item.video, "learned", *facts))
    write_results(folder, predictions, find_benchmark("mlvu"), {})
    return folder


def test_answers_come_back_as_they_went(root: Path, tmp_path: Path, capsys: Capture) -> None:
    answers = ["(B)", "A", "a pen falls", "b", "It is the plate.", "", "text", "The answer is B"]
    run = write_run(tmp_path / "run", root, answers)
    log = tmp_path / "samples.jsonl"
    assert main(["write-samples", str(run), str(root), "--out", str(log)]) == 0
    assert f"8 samples are in {log}" in capsys.readouterr().out
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["doc_id"] for line in lines] == list(range(8))
    assert [line["filtered_resps"] for line in lines] == [[answer] for answer in answers]
    assert (lines[0]["target"], lines[2]["target"], lines[0]["correct"]) == ("B", "a pen", 1.0)
    assert main(["read-samples", str(log), "mlvu", str(root), "--out", str(tmp_path / "back")]) == 0
    before, after = (list(read_jsonl(folder / "verdicts.jsonl", Verdict)) for folder in (run, tmp_path / "back"))
    assert [(one.id, one.scores, one.parsed) for one in after] == [(one.id, one.scores, one.parsed) for one in before]
    assert "lmms-eval" in capsys.readouterr().out


@pytest.mark.parametrize("answer", ['"B"', '["B"]', '[["B", "A"]]'])
def test_other_shapes_of_answers(root: Path, tmp_path: Path, answer: str) -> None:
    log = tmp_path / "samples.jsonl"
    log.write_text(f'{{"doc_id": 3, "filtered_resps": {answer}, "target": "B"}}\n')
    assert main(["read-samples", str(log), "mlvu", str(root), "--out", str(tmp_path / "back")]) == 0
    (one,) = read_jsonl(tmp_path / "back" / "verdicts.jsonl", Verdict)
    assert (one.id, one.scores, one.parsed) == ("NQA_0", {"correct": 1.0}, "B")


@pytest.mark.parametrize("line", ["{", "5", "{}", '{"doc_id": 9, "resps": "B"}', '{"doc_id": 0, "resps": [5]}'])
def test_a_wrong_line_is_named(root: Path, tmp_path: Path, line: str, capsys: Capture) -> None:
    log = tmp_path / "samples.jsonl"
    log.write_text(f'{{"doc_id": 3, "resps": "B"}}\n{line}\n')
    assert main(["read-samples", str(log), "mlvu", str(root), "--out", str(tmp_path / "back")]) == 1
    assert f"{log}, line 2 (" in capsys.readouterr().err
    assert not (tmp_path / "back").exists()
