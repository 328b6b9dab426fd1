"""`dynfocus answer`: the words of `ask` for a whole file, one encoding a video, after a stop too; rows that fail."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
import tiny_hosts
from ask_runs import write_model
from make_videos import write_video
from tiny_sketches import count_calls

from dynfocus.cli import main
from dynfocus.inspection.answerer import Answerer
from dynfocus.records.rows import Row, Turn, VideoSegment

Capture = pytest.CaptureFixture[str]
FIRST, SECOND = tiny.QUESTIONS[:2]
COLUMNS = ("id", "video", "question", "start", "end")
ROWS = [
    {"id": "a", "video": "v0.mp4", "question": FIRST},
    {"id": "b", "video": "v1.mp4", "question": SECOND},
    {"id": "c", "video": "v0.mp4", "question": SECOND},
    {"id": "d", "video": "v1.mp4", "question": FIRST, "start": 1, "end": 2.25},
    {"id": "e", "video": "v2.mp4", "question": FIRST},
    {"id": "f", "video": "v1.mp4", "question": FIRST},
    {"id": "g", "video": "v1.mp4", "question": SECOND, "start": 1, "end": 2.25},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tiny.SETTINGS, tmp_path_factory.mktemp("run") / "model")


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    for number in range(3):
        write_video(tmp_path / f"v{number}.mp4", 30 + number)
    return write_rows(tmp_path / "questions.jsonl", ROWS)


def write_rows(file: Path, rows: list[dict]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def words(questions: Path, out: Path, model: Path, *more: object, option: str = "--model") -> list[str]:
    return ["answer", "--questions", str(questions), "--out", str(out), option, str(model), *map(str, more)]


def read(out: Path) -> list[dict]:
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_a_file_is_answered_as_ask_would_and_each_video_is_read_once(
    questions: Path, model: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "answers.jsonl"
    with count_calls() as calls:
        assert main(words(questions, out, model, "--batch-size", 3)) == 0
    assert calls["reader"] == 4  # three videos, and a part of one
    printed = capsys.readouterr()
    assert "questions: 7 answered, 0 were there, 0 left out" in printed.out
    assert "answering: 7 of 7 questions" in printed.err
    lines, answerer = read(out), Answerer(model)
    assert [line["id"] for line in lines] == [row["id"] for row in ROWS]
    for row, line in zip(ROWS, lines, strict=True):
        path = tmp_path / str(row["video"])
        media = VideoSegment(path, 1.0, 2.25) if "start" in row else path
        alone = answerer.answer(Row("", 0, str(path), (Turn(str(row["question"]), None),)), media)
        assert {name: line[name] for name in row} == row
        assert (line["answer"], line["cut"]) == (alone.answer, alone.cut)
        assert line["visual_tokens"] == alone.selection.visual_tokens
        assert line["frames"] == len(alone.selection.seconds)
        assert line["kept_seconds"] == [round(alone.selection.seconds[n], 3) for n in alone.selection.kept]
        if "start" in row:
            assert all(1 <= second < 2.25 for second in line["kept_seconds"])
    assert len({line["answer"] for line in lines}) > 1
    table = tmp_path / "questions.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(ROWS)
    assert main(words(table, tmp_path / "again.jsonl", model, "--batch-size", 1)) == 0
    assert read(tmp_path / "again.jsonl") == lines


def test_a_stopped_run_goes_on_and_mixes_nothing(questions: Path, model: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "answers.jsonl"
    assert main(words(questions, out, model)) == 0
    whole = out.read_text()
    kept = whole.splitlines(keepends=True)
    out.write_text("".join(kept[:4]) + kept[4][:30])  # as a killed process leaves it
    with count_calls() as calls:
        assert main(words(questions, out, model)) == 0
    assert out.read_text() == whole
    assert calls["reader"] == 3  # v2.mp4, v1.mp4 and its part
    assert "3 answered, 4 were there" in capsys.readouterr().out
    assert main(words(questions, out, model, "--max-new-tokens", 3)) == 1
    assert "max_new_tokens 16, not 3" in capsys.readouterr().err
    for change in ({"question": SECOND}, {"video": "v1.mp4"}, {"end": 2.0}):
        write_rows(questions, [ROWS[0] | change, *ROWS[1:]])
        assert main(words(questions, out, model)) == 1
        assert f"whose line of 'a' has the {next(iter(change))}" in capsys.readouterr().err
    assert out.read_text() == whole
    out.unlink()
    assert main(words(write_rows(questions, ROWS[:1]), out, model, "--max-new-tokens", 3)) == 0


def test_rows_that_cannot_be_answered_are_named_and_the_others_answered(
    questions: Path, model: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "answers.jsonl"
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    bad = [
        {"id": "no file", "video": "none.mp4", "question": FIRST},
        {"id": "broken", "video": "broken.mp4", "question": FIRST},
        {"id": "beyond", "video": "v0.mp4", "question": FIRST, "start": 90},
        {"id": "long", "video": "v0.mp4", "question": "what " * 600},
        {"id": "mute", "video": "v0.mp4"},
        {"id": "backwards", "video": "v0.mp4", "question": FIRST, "start": 2, "end": 1},
        {"id": "no number", "video": "v0.mp4", "question": FIRST, "start": "soon"},
        {"id": "a", "video": "v0.mp4", "question": FIRST},
        {"id": "no video", "question": FIRST},
    ]
    lines = [json.dumps(row) for row in [*ROWS[:3], *bad]]
    questions.write_text("\n".join([*lines, '{"video": "v0.mp4', "3", ""]))
    assert main(words(questions, out, model)) == 1
    assert [line["id"] for line in read(out)] == ["a", "b", "c"]
    printed = capsys.readouterr()
    assert "questions: 3 answered, 0 were there, 11 left out" in printed.out
    for told in (
        "'no file': there is no file",
        "'broken': ",
        "'beyond': ",
        "'long': ",
        "'mute': it has no question",
        "line 9: end 1 is not after start 2",
        "line 10: start must be a number of seconds, not 'soon'",
        "line 11: two questions of the id 'a'",
        "line 12: no video",
        "line 13: ",
        "line 14: no object",
    ):
        assert told in printed.out
    assert "11 rows were left out" in printed.err
    write_rows(questions, ROWS)
    assert main(words(questions, out, model)) == 0
    assert [line["id"] for line in read(out)] == [row["id"] for row in ROWS]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("film,words\na,b\n", "names the columns film, words"),
        ('video,"question\na,b\n', "whose first line names no columns"),
        ("", "of an empty file"),
        ("video,question\n", "without a question"),
    ],
)
def test_a_table_of_something_else_is_refused(
    text: str, told: str, model: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "q.csv").write_text(text)
    assert main(words(tmp_path / "q.csv", tmp_path / "out.jsonl", model)) == 1
    assert told in capsys.readouterr().err


def test_select_reads_the_same_tables_and_refuses_parts(questions: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "q.csv").write_text("video,id\nv0.mp4,x\n")
    out = tmp_path / "frames.jsonl"
    assert main(["select", "--questions", str(tmp_path / "q.csv"), "--keep", "2", "--out", str(out)]) == 0
    assert [line["id"] for line in read(out)] == ["x"]
    assert main(["select", "--questions", str(questions), "--keep", "2", "--out", str(tmp_path / "more.jsonl")]) == 1
    assert "question 'd' has a start or an end" in capsys.readouterr().err


def test_command_lines_that_cannot_be_meant(questions: Path, model: Path, tmp_path: Path, capsys: Capture) -> None:
    for out, more, told in (
        (questions, (), "which is there already"),
        (tmp_path, (), "which is there already"),
        (tmp_path / "out", ("--batch-size", 0), "--batch-size 0"),
        (tmp_path / "out", ("--keep", 3), "--keep without --host"),
        (tmp_path / "out", ("--host", model), "--model with --host"),
        (tmp_path / "out", ("--host", model, "--batch-size", 2), "--batch-size with --host"),
    ):
        assert main(words(questions, out, model, *more)) == 2
        assert told in capsys.readouterr().err


def test_a_host_answers_a_file(questions: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    host, out = tiny_hosts.save("smolvlm", tmp_path / "host"), tmp_path / "answers.jsonl"
    more = ("--keep", 2, "--frames", 4, "--max-new-tokens", 2)
    assert main(words(write_rows(questions, ROWS[2:5]), out, host, *more, option="--host")) == 0
    assert [line["id"] for line in read(out)] == ["c", "d", "e"]
    assert [len(line["kept_seconds"]) for line in read(out)] == [2, 2, 2]
    assert main(words(questions, out, host, *more, "--rods", 1, option="--host")) == 1


@pytest.mark.slow
def test_a_killed_run_goes_on(model: Path, tmp_path: Path) -> None:
    """Killed without warning at several moments, what is there in the end equals an undisturbed run's."""
    rows = [{"id": str(n), "video": f"v{n % 12}.mp4", "question": tiny.QUESTIONS[n % 3]} for n in range(36)]
    for number in range(12):
        write_video(tmp_path / f"v{number}.mp4", 30 + number)
    questions, out = write_rows(tmp_path / "questions.jsonl", rows), tmp_path / "answers.jsonl"
    assert main(words(questions, tmp_path / "whole.jsonl", model, "--batch-size", 4)) == 0
    command = words(questions, out, model, "--batch-size", 4)
    for least in (4, 16, 28):
        process = subprocess.Popen([sys.executable, "-m", "dynfocus", *command], stderr=subprocess.DEVNULL)
        while process.poll() is None and not (out.exists() and out.read_text().count("\n") >= least):
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert least <= out.read_text().count("\n") <= len(rows)
    assert main(command) == 0
    assert out.read_text() == (tmp_path / "whole.jsonl").read_text()
