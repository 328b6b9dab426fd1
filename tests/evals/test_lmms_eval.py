"""Answers go to lmms-eval's sample log and come back."""

import json
from dataclasses import replace
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


@pytest.mark.parametrize(
    "line",
    ["{", "5", "{}", '{"doc_id": 9, "resps": "B"}', '{"doc_id": 0, "resps": [5]}', '{"doc_id": -1, "resps": "B"}'],
)
def test_a_wrong_line_is_named(root: Path, tmp_path: Path, line: str, capsys: Capture) -> None:
    log = tmp_path / "samples.jsonl"
    log.write_text(f'{{"doc_id": 3, "resps": "B"}}\n{line}\n')
    assert main(["read-samples", str(log), "mlvu", str(root), "--out", str(tmp_path / "back")]) == 1
    assert f"{log}, line 2 (" in capsys.readouterr().err
    assert not (tmp_path / "back").exists()


def read_back(root: Path, log: Path) -> int:
    return main(["read-samples", str(log), "mlvu", str(root), "--out", str(log.with_name("back"))])


def test_a_log_in_another_order_is_refused(root: Path, tmp_path: Path, capsys: Capture) -> None:
    """lmms-eval may read another revision of the files: the prompts say which question a number means there."""
    asked = [item.question.text for item in read_items("mlvu", root)]
    log = tmp_path / "samples.jsonl"

    def write(inputs: list) -> None:
        rows = [{"doc_id": n, "input": one, "filtered_resps": ["B"]} for n, one in enumerate(inputs)]
        log.write_text("".join(json.dumps(row) + "\n" for row in rows))

    write([f"<|im_start|>Look. {text.capitalize()}?\nA. a cup" for text in asked])
    assert read_back(root, log) == 0
    write([[{"role": "user", "content": text}] for text in asked])
    assert read_back(root, log) == 0
    capsys.readouterr()
    write([asked[0], asked[2], asked[1]])
    assert read_back(root, log) == 1
    assert f"{log}, line 2, with an input that does not ask the question of doc_id 1" in capsys.readouterr().err
    log.write_text(2 * '{"doc_id": 3, "resps": "B"}\n')
    assert read_back(root, log) == 1
    assert "line 2, with a second answer to doc_id 3" in capsys.readouterr().err


def test_a_log_of_any_characters(root: Path, tmp_path: Path, capsys: Capture) -> None:
    """lmms-eval writes characters as they are, those that Python takes for ends of lines too."""
    log = tmp_path / "samples.jsonl"
    answer = "(B)\u2028| <b>\x85"
    log.write_text(json.dumps({"doc_id": 3, "resps": answer}, ensure_ascii=False) + "\n\n", encoding="utf-8")
    assert read_back(root, log) == 0
    assert json.loads((tmp_path / "back" / "predictions.jsonl").read_text())["answer"] == answer
    log.write_bytes(b"\xff\n")
    assert read_back(root, log) == 1
    assert read_back(root, tmp_path / "none.jsonl") == 1
    assert "a sample log of lmms-eval" in capsys.readouterr().err


def test_shuffled_options_are_not_written(root: Path, tmp_path: Path, capsys: Capture) -> None:
    """The letters of the answers would mean other options there."""
    items = read_items("mlvu", root)
    one = write_run(tmp_path / "run", root, ["A"])
    (answer,) = read_jsonl(one / "predictions.jsonl", Prediction)
    write_results(one, [replace(answer, options=items[0].question.options[::-1])], find_benchmark("mlvu"), {})
    assert main(["write-samples", str(one), str(root), "--out", str(tmp_path / "log")]) == 1
    assert "without --shuffle" in capsys.readouterr().err
    assert not (tmp_path / "log").exists()
