"""Many questions: one reading a video, going on after a stop, scores that are cut later, and videos that are broken."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from ask_runs import clip, parse_json
from make_videos import write_video

from dynfocus.bridge.batch import choose_many
from dynfocus.bridge.choose import FrameChooser
from dynfocus.bridge.features import PixelFeatures
from dynfocus.bridge.rows import Chosen, read_questions
from dynfocus.cli import main
from dynfocus.errors import ConfigError, DataError
from dynfocus.method.selectors import SELECTORS
from dynfocus.records.jsonl import read_jsonl

Capture = pytest.CaptureFixture[str]


def write_questions(folder: Path, videos: int = 3, each: int = 2) -> Path:
    for number in range(videos):
        write_video(folder / f"v{number}.mp4", 20 + number)
    rows = [{"id": f"q{n}", "video": f"v{n % videos}.mp4", "question": f"what is {n}"} for n in range(videos * each)]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "questions.jsonl"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of all videos that are decoded."""
    names: list[str] = []
    sketch = FrameChooser.sketch

    def call(self: FrameChooser, path: Path) -> object:
        names.append(Path(path).name)
        return sketch(self, path)

    monkeypatch.setattr(FrameChooser, "sketch", call)
    return names


def run(*words: object) -> int:
    return main(["select", *map(str, words)])


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_video_is_read_once_for_all_its_questions(tmp_path: Path, read: list[str], capsys: Capture) -> None:
    questions, out = write_questions(tmp_path), tmp_path / "frames.jsonl"
    assert run("--questions", questions, "--selector", "random", "--keep", 3, "--out", out) == 0
    assert read == ["v0.mp4", "v1.mp4", "v2.mp4"]
    rows = [*read_jsonl(out, Chosen)]
    assert {row.id for row in rows} == {f"q{n}" for n in range(6)}
    for row in rows:
        assert len(row.frames) == len(row.seconds) == len(row.scores or ()) == 3
        assert row.seconds == pytest.approx([frame / 10 for frame in row.frames], abs=2e-3)
    printed = capsys.readouterr()
    assert "questions: 6 done, 0 were there, 0 left out" in printed.out
    assert "mean colors" in printed.out
    assert "6/6" in printed.err  # the bar, with the time left


def test_what_is_done_is_not_asked_again(tmp_path: Path, read: list[str], capsys: Capture) -> None:
    questions, out = write_questions(tmp_path), tmp_path / "frames.jsonl"
    command = ("--questions", questions, "--selector", "random", "--keep", 3, "--out", out)
    assert run(*command) == 0
    whole = out.read_text()
    kept = whole.splitlines(keepends=True)
    out.write_text("".join(kept[:3]) + kept[3][:40])  # as a killed process leaves it
    read.clear()
    assert run(*command) == 0
    assert out.read_text() == whole
    assert read == ["v1.mp4", "v2.mp4"]
    read.clear()
    assert run(*command) == 0
    assert (out.read_text(), read) == (whole, [])
    assert "questions: 0 done, 6 were there" in capsys.readouterr().out


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    questions, out = write_questions(tmp_path, videos=12, each=1), tmp_path / "frames.jsonl"
    words = ["select", "--questions", str(questions), "--keep", "2", "--out", str(out)]
    process = subprocess.Popen([sys.executable, "-m", "dynfocus", *words], stderr=subprocess.DEVNULL)
    while process.poll() is None and not (out.exists() and out.read_text().count("\n") >= 2):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = out.read_text().count("\n")
    assert main(words) == 0
    assert [row["id"] for row in lines(out)] == [f"q{n}" for n in range(12)]
    assert before >= 2


def test_lines_of_other_settings_are_not_mixed(tmp_path: Path, capsys: Capture) -> None:
    questions, out = write_questions(tmp_path, 1), tmp_path / "frames.jsonl"
    assert run("--questions", questions, "--keep", 3, "--out", out) == 0
    for more in (("--keep", 4), ("--keep", 3, "--fps", 5), ("--keep", 3, "--selector", "random")):
        assert run("--questions", questions, "--out", out, *more) == 1
        assert "in one file" in capsys.readouterr().err


def test_scores_are_stored_once_and_cut_at_any_number(tmp_path: Path, read: list[str]) -> None:
    questions, scores = write_questions(tmp_path), tmp_path / "scores.jsonl"
    command = ("--questions", questions, "--selector", "random", "--fps", 10)
    assert run(*command, "--scores", scores) == 0
    assert run(*command, "--scores", scores) == 0
    assert read == ["v0.mp4", "v1.mp4", "v2.mp4"]
    assert [len(row["scores"]) for row in lines(scores)] == [20, 20, 21, 21, 22, 22]
    for keep in (1, 6, 30):
        cut, asked = tmp_path / f"cut{keep}.jsonl", tmp_path / f"asked{keep}.jsonl"
        assert run("--from-scores", scores, "--keep", keep, "--out", cut) == 0
        assert run(*command, "--keep", keep, "--out", asked) == 0
        assert lines(cut) == [{**row, "scores": pytest.approx(row["scores"])} for row in lines(asked)]


def test_broken_videos_are_named_and_stop_no_other(tmp_path: Path, capsys: Capture) -> None:
    questions, out = write_questions(tmp_path), tmp_path / "frames.jsonl"
    (tmp_path / "v1.mp4").write_bytes(b"nothing")
    command = ("--questions", questions, "--keep", 2, "--out", out)
    assert run(*command) == 1
    printed = capsys.readouterr()
    assert "4 done, 0 were there, 2 left out" in printed.out
    assert "1 videos, of 2 questions, were left out" in printed.err
    assert "v1.mp4 cannot be read" in printed.err
    assert [row["id"] for row in lines(out)] == ["q0", "q3", "q2", "q5"]
    write_video(tmp_path / "v1.mp4", 20)
    assert run(*command) == 0
    assert [row["id"] for row in lines(out)] == ["q0", "q3", "q2", "q5", "q1", "q4"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "without a question"),
        ("nonsense\n", "line 1"),
        ('{"video": 3}\n', "video must be text"),
        ('{"question": "a"}\n', "video"),
        ('{"video": "a", "id": [1]}\n', "id must be text"),
        ('{"video": "a", "id": true}\n', "id must be text"),
        ('\n\n{"video": "a"}\n\nnonsense\n', "line 5"),
        ("[" * 100_000, "at byte 1"),
        ('{"video": "a", "id": "x"}\n\n{"video": "b", "id": "x"}\n', "two questions of the id 'x'"),
    ],
)
def test_questions_that_are_none_are_refused(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text(text)
    with pytest.raises(DataError, match=told):
        read_questions(tmp_path / "q.jsonl")


def test_questions_may_begin_with_a_mark_and_hold_any_sign(tmp_path: Path) -> None:
    """As other programs save them: a byte order mark, lines that end with CRLF, signs that end a line for Python."""
    text = '\ufeff{"video": "a.mp4", "question": "one\u2028two\x85"}\r\n\r\n{"video": "b.mp4", "id": "x"}\r\n'
    (tmp_path / "q.jsonl").write_bytes(text.encode())
    assert [(row.id, row.question) for row in read_questions(tmp_path / "q.jsonl")] == [
        ("0", "one\u2028two\x85"),
        ("x", None),
    ]
    (tmp_path / "q.jsonl").write_bytes('{"video": "é.mp4"}'.encode("latin-1"))
    with pytest.raises(DataError, match="no text in UTF-8"):
        read_questions(tmp_path / "q.jsonl")


def test_a_file_of_other_questions_is_not_gone_on_with(tmp_path: Path, read: list[str], capsys: Capture) -> None:
    questions, out, scores = write_questions(tmp_path), tmp_path / "frames.jsonl", tmp_path / "scores.jsonl"
    command = ("--questions", questions, "--selector", "random", "--keep", 3)
    assert run(*command, "--out", out) == run(*command, "--scores", scores) == 0
    read.clear()
    whole = questions.read_text()
    for old, new in (("what is 4", "who is 4"), ("v1.mp4", "v0.mp4")):
        questions.write_text(whole.replace(old, new))
        for option, file in (("--out", out), ("--scores", scores)):
            assert run(*command, option, file) == 1
            assert "is of the question" in capsys.readouterr().err
    assert read == []


@pytest.mark.parametrize("scores", ['"abc"', "[NaN, 1]", "null", "[[1], [2]]", "[1]", "[1e999, 1]"])
def test_scores_that_are_none_are_refused(scores: str, tmp_path: Path, capsys: Capture) -> None:
    row = {"id": "a", "video": "a.mp4", "question": None, "selector": "random", "features": "f", "frames": [0, 5]}
    row |= {"seconds": [0, 0.5], "scores": None, "fps": 10, "total": 9, "duration": 1}
    (tmp_path / "scores.jsonl").write_text(json.dumps(row).replace('"scores": null', f'"scores": {scores}') + "\n")
    assert run("--from-scores", tmp_path / "scores.jsonl", "--keep", 1, "--out", tmp_path / "out.jsonl") == 1
    assert "scores.jsonl, line 1" in capsys.readouterr().err
    (tmp_path / "scores.jsonl").write_bytes(b"\xff\xfe\n")
    assert run("--from-scores", tmp_path / "scores.jsonl", "--keep", 1, "--out", tmp_path / "out.jsonl") == 1
    assert "which is no text" in capsys.readouterr().err


def test_a_folder_is_never_written_over(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "videos").mkdir()
    questions = write_questions(tmp_path / "videos", 1)
    for words in (
        (clip("bikes"), "--out"),
        ("--questions", questions, "--out"),
        ("--questions", questions, "--selector", "random", "--scores"),
    ):
        assert run(*words, tmp_path / "videos") == 2
        assert "which is a folder" in capsys.readouterr().err
    assert (tmp_path / "videos" / "v0.mp4").is_file()
    assert run("--questions", questions, "--out", tmp_path / "a", "--scores", tmp_path / "a") == 2


def test_rows_without_an_id_have_their_number(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"video": "a.mp4"}\n{"video": "b.mp4", "question": "what"}\n')
    rows = read_questions(tmp_path / "q.jsonl", tmp_path / "media")
    assert [(row.id, row.question, row.path.parent.name) for row in rows] == [
        ("0", None, "media"),
        ("1", "what", "media"),
    ]


def test_one_video_as_json_and_as_text(tmp_path: Path, capsys: Capture) -> None:
    assert run(clip("bikes"), "what is red", "--selector", "random", "--keep", 3, "--json") == 0
    row = parse_json(capsys.readouterr().out)
    assert len(row["frames"]) == len(row["seconds"]) == len(row["scores"]) == 3
    assert (row["question"], row["total"], len(row["candidates"])) == ("what is red", 250, 20)
    of_all = dict(zip(row["candidates"], row["candidate_scores"], strict=True))
    assert [of_all[frame] for frame in row["frames"]] == row["scores"]
    assert set(row["scores"]) == set(sorted(of_all.values())[-3:])
    assert run(clip("bikes"), "--budget", 1100, "--frame-tokens", 196, "--out", tmp_path / "f.jsonl") == 0
    text = capsys.readouterr().out
    assert "features:    mean colors of 8 x 8 cells (no encoder); candidates at 2 fps, at most 512" in text
    assert "kept frames: 5 of 20 candidates\n" in text
    assert len(lines(tmp_path / "f.jsonl")[0]["frames"]) == 5
    assert run(clip("bikes"), "--keep", 50) == 0
    assert (
        "kept frames: 20 of 20 candidates (of the 50 asked for: there are no more candidates)"
        in capsys.readouterr().out
    )


def test_the_list_says_what_each_selector_reads(capsys: Capture) -> None:
    assert run("--list") == 0
    printed = capsys.readouterr().out.splitlines()
    assert any(line.startswith("uniform ") and " reads nothing " in line for line in printed)
    assert any(line.startswith("dpe ") and " reads network " in line for line in printed)
    assert len(printed) == len(SELECTORS)


FOR_VIDEOS = (  # options that have no effect where no video is looked at
    *(("--fps", "3"), ("--frames", "9"), ("--model", "m"), ("--encoder", "e"), ("--device", "cpu"), ("--json",)),
    *(("--scores", "s"), ("--root", "r")),
)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "nothing to choose frames of"),
        (("a.mp4", "--questions", "q.jsonl"), "a video and --questions"),
        (("--questions", "q.jsonl"), "without --out"),
        (("--from-index", "a.json", "--out", "b"), "--from-index"),
        (("--questions", "q.jsonl", "--out", "o", "--form", "aks"), "--from-index frames.jsonl"),
        (("a.mp4", "--keep", "0"), "keep = 0"),
        (("a.mp4", "--budget", "9"), "a budget of 9 tokens"),
        (("--from-scores", "none.jsonl", "--out", "o"), "there is no file none.jsonl"),
        (("--questions", "none.jsonl", "--out", "o"), "there is no file none.jsonl"),
        (("--list", "--keep", "3"), "--keep with --list"),
        (("a.mp4", "--root", "r", "--from-form", "aks"), "--root and --from-form with a video"),
        (("a.mp4", "--form", "aks"), "--form without --out"),
        (("a.mp4", "--frame-tokens", "9"), "--frame-tokens without --budget"),
        (("a.mp4", "--device", "cpu"), "--device without --model or --encoder or --host"),
        (("--questions", "q.jsonl", "--out", "o", "--json"), "--json with --questions"),
        (("--questions", "q.jsonl", "--out", "o", "--from-form", "aks"), "--from-form with --questions"),
        (("a.mp4", "--selector", "{mmr"), "JSON with class_path"),
        (("a.mp4", "--selector", '{"class_path": "dpp", "init_args": {"wight": 0}}'), "wight"),
        *(
            (("--from-scores", "s.jsonl", "--out", "o", option, *value), f"{option} with --from-scores")
            for option, *value in FOR_VIDEOS
        ),
        *(
            (
                ("--from-index", "a", "--questions", "q.jsonl", "--out", "o", option, *value),
                f"{option} with --from-index",
            )
            for option, *value in (*FOR_VIDEOS[:-1], ("--keep", "3"), ("--selector", "random"), ("--budget", "900"))
        ),
    ],
)
def test_command_lines_that_say_too_little_or_too_much(words: tuple[str, ...], told: str, capsys: Capture) -> None:
    assert run(*words) in (1, 2)
    assert told in capsys.readouterr().err


def test_a_missing_question_is_refused_before_any_video_is_read(tmp_path: Path, read: list[str]) -> None:
    (tmp_path / "q.jsonl").write_text('{"id": "a", "video": "none.mp4"}\n')
    chooser = FrameChooser("random", PixelFeatures())
    chooser.reads = replace(chooser.reads, question=True)
    with pytest.raises(ConfigError, match="on question 'a' without a question"):
        choose_many(read_questions(tmp_path / "q.jsonl"), chooser, 2, tmp_path / "out.jsonl", None)
    assert read == []
