"""`dynfocus doctor --file`: the format of an unknown file, why, and rows of it as the model will read them."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from make_videos import write_video

from dynfocus.cli import main
from dynfocus.data.annotations.formats import FORMATS

DATA = Path(__file__).parent
TALK = [{"from": "human", "value": "<video>\nWho waves?"}, {"from": "gpt", "value": "The baker."}]
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "<video>Who waves?"},
    {"role": "assistant", "content": "The baker."},
    {"role": "user", "content": "To whom?"},
    {"role": "assistant", "content": "A child."},
]
FILES: dict[str, tuple[str, Any]] = {
    "conversations": ("rows.json", [{"video": "a.mp4", "conversations": TALK}]),
    "query_response": ("rows.jsonl", [{"query": "<video>Who waves?", "response": "The baker.", "videos": ["a.mp4"]}]),
    "videochat2": ("rows.json", [{"video": "a.mp4", "QA": [{"q": "Who waves?", "a": "The baker."}]}]),
    "videochatgpt": ("rows.json", [{"q": "Who waves?", "a": "The baker.", "video_id": "a"}]),
    "clevrer": (
        "train.json",
        [{"video_filename": "a.mp4", "questions": [{"question": "Who waves?", "answer": "The baker."}]}],
    ),
    "sharegpt4video": ("rows.jsonl", [{"video_path": "a.mp4", "captions": [{"idx": "-1", "content": "The baker."}]}]),
    "webvid": ("rows.csv", "videoid,page_dir,name\na,.,The baker.\n"),
    "nextqa": ("rows.csv", "video,question,answer,qid\na,who waves,The baker.,0\n"),
    "scienceqa": ("problems.json", {"1": {"question": "Who waves?", "choices": ["x", "The baker."], "answer": 1}}),
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(folder: Path, name: str, content: Any) -> Path:
    lines = content if isinstance(content, str) else json.dumps(content)
    if name.endswith(".jsonl"):
        lines = "\n".join(map(json.dumps, content))
    (folder / name).write_text(lines)
    return folder / name


@pytest.mark.parametrize("form", FILES)
def test_the_format_is_guessed_and_a_row_is_shown(tmp_path: Path, capsys: Any, form: str) -> None:
    name, content = FILES[form]
    if form == "scienceqa":
        content["1"] |= {"split": "train", "image": None}
        (tmp_path / "pid_splits.json").write_text('{"train": ["1"]}')
    write_video(tmp_path / "a.mp4", count=5)
    assert main(["doctor", "--file", str(write(tmp_path, name, content))]) == 0
    output = capsys.readouterr().out
    assert f"format: {form}," in output
    assert "1 of 1 rows fit" in output
    assert "⟦The baker.⟧" in output or (form == "scienceqa" and "The answer is B.⟧" in output)
    assert form == "scienceqa" or "a.mp4: 1 frame" in output
    assert set(FILES) | {"jsonl"} == set(FORMATS)


def test_three_rows_as_the_model_will_read_them(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "media").mkdir()
    write_video(tmp_path / "media" / "a.mp4", count=75)
    rows = [
        {"videos": ["a.mp4"], "start": 0, "end": 2, "messages": MESSAGES},
        {"video": "b.mp4", "conversations": TALK},
    ]
    rows += [{"video_path": "a.mp4", "conversations": TALK}, {"conversations": TALK[:1]}, *rows[:1]]
    path = tmp_path / "rows.json.gz"
    path.write_bytes(gzip.compress(json.dumps(rows).encode()))
    assert main(["doctor", "--file", str(path), "--media", str(tmp_path / "media")]) == 0
    output = capsys.readouterr().out
    assert "3 of 5 rows fit" in output
    assert "'messages'" in output
    assert "Be brief. USER: <video>\nWho waves? ASSISTANT: ⟦The baker.⟧USER: <video>\nTo whom? ASSISTANT:" in output
    assert "a.mp4 from 0 s to 2 s: 2 frames" in output
    assert "no file at" in output
    assert "'video_path', which nobody reads" in output
    assert "sources: [{name: rows, folder: " in output


def test_a_file_that_no_format_fits_is_named(tmp_path: Path, capsys: Any) -> None:
    path = write(tmp_path, "rows.json", [{"clip_name": "a.mp4", "text": "The baker."}])
    assert main(["doctor", "--file", str(path)]) == 1
    error = capsys.readouterr().err
    assert all(part in error for part in ("clip_name", "text", "conversations", "query_response"))
    assert "as query_response: 'clip_name', which nobody reads" in error
    (tmp_path / "noise").write_bytes(bytes(range(256)))
    assert main(["doctor", "--file", str(tmp_path / "noise")]) == 1
    assert main(["doctor", "--file", str(tmp_path / "absent.json")]) == 1
    assert "absent.json" in capsys.readouterr().err


def test_rows_of_ours_are_guessed(capsys: Any) -> None:
    names = {"conversations.json": "conversations", "nextqa_mc.csv": "nextqa", "own_clips.jsonl": "conversations"}
    for name, form in names.items():
        assert main(["doctor", "--file", str(DATA / name)]) == 0
        assert f"format: {form}," in capsys.readouterr().out
