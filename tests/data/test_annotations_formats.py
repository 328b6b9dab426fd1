"""Rows of every format: against the same files read in the plain way, and rows that are wrong."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dynfocus.data.annotations.dataset import Annotations
from dynfocus.data.annotations.sources import Source
from dynfocus.data.annotations.webvid import REQUESTS
from dynfocus.errors import DataError, NoTargetError
from dynfocus.records.rows import Row, Turn

DATA = Path(__file__).parents[1] / "data"
WEBVID = """videoid,contentUrl,duration,page_dir,name
2000000046,https://a/1.mp4,PT00H00M16S,000001_000050,"Harbour town, july 3: people wait for a ferry"
2000000047.0,https://a/2.mp4,PT00H00M16S,000001_000050,"A ""slow"" pan
over two lines"
,https://a/3.mp4,PT00H00M16S,000001_000050,no id
2000000049,https://a/4.mp4,PT00H00M16S,nan,no folder
1.0666e+09,https://a/5.mp4,PT00H00M16S,000001_000050,an id that lost digits
2000000051,https://a/6.mp4,PT00H00M16S,000001_000050,
2000000052,https://a/7.mp4,PT00H00M16S
0000000053,https://a/8.mp4,PT00H00M16S,000051_000100,leading zeros stay
"""


def rows_of(folder: Path, content: Any, **options: Any) -> Annotations:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "rows").write_text(text, encoding="utf-8")
    return Annotations(Source("set", "rows", **options), folder, folder / "index")


def report(rows: Annotations) -> list[Row | str]:
    result: list[Row | str] = []
    for index in range(len(rows)):
        try:
            result.append(rows[index])
        except DataError as error:
            result.append(cause(error, index))
    return result


def cause(error: DataError, index: int) -> str:
    assert error.given.startswith(f"row {index} of ")
    return str(error) if isinstance(error, NoTargetError) else error.given.partition(" (")[2]


def test_conversations_are_what_json_reads(tmp_path: Path) -> None:
    plain = json.loads((DATA / "conversations.json").read_text())
    rows = rows_of(tmp_path, plain)
    assert len(rows) == len(plain)
    for index, (row, inputs) in enumerate(zip(rows, plain, strict=True)):
        assert (row.id, row.index, row.source) == (inputs["id"], index, "set")
        assert row.media == inputs.get("image", inputs.get("video"))
        output = [turn["value"].replace("<image>", "").strip() for turn in inputs["conversations"]]
        assert [text for turn in row.turns for text in (turn.question, turn.answer)] == output
        assert rows.sizes[index] == sum(len(text.encode()) for text in output)
    assert list(rows.kinds) == [1, 2, 1, 1, 1]


def test_a_users_own_lines(tmp_path: Path) -> None:
    shutil.copy(DATA / "own_clips.jsonl", tmp_path)
    rows = Annotations(Source("mine", "own_clips.jsonl", "jsonl"), tmp_path, tmp_path / "index")
    plain = [json.loads(line) for line in (DATA / "own_clips.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row.id for row in rows] == [str(row["id"]) for row in plain]
    assert list(rows.kinds) == [2, 2, 2, 2, 2, 2, 2, 1, 0, 2]
    assert [row.span for row in rows] == [
        (float(row["start"]), float(row["end"])) if "start" in row else None for row in plain
    ]
    assert rows[2].turns[1] == Turn("And then?", "The carrots, after about ten seconds.")
    assert rows[7].turns[1].answer == "It writes <image> there."
    assert rows[8].media is None
    assert rows[9].turns[0].question == ""
    assert rows.address(rows[2]) == "kitchen/2024-03-01.mp4#41.0-95.0"


def test_a_broken_line_is_one_row(tmp_path: Path) -> None:
    lines = (DATA / "own_clips.jsonl").read_text(encoding="utf-8").splitlines()
    rows = rows_of(tmp_path, "\n".join([lines[0], lines[1][:50], "[]", lines[2]]), format="jsonl")
    first, cut, wrong, last = report(rows)
    assert isinstance(first, Row)
    assert isinstance(last, Row)
    assert "Unterminated string" in str(cut)
    assert "a list in place of an object" in str(wrong)
    assert [last.id, last.index] == ["kitchen-3", 3]


def test_webvid(tmp_path: Path) -> None:
    rows = report(rows_of(tmp_path, WEBVID, format="webvid"))
    good = {index: row for index, row in enumerate(rows) if isinstance(row, Row)}
    assert {index: (row.id, row.media, row.turns[0].answer) for index, row in good.items()} == {
        0: ("2000000046", "000001_000050/2000000046.mp4", "Harbour town, july 3: people wait for a ferry"),
        1: ("2000000047", "000001_000050/2000000047.mp4", 'A "slow" pan\nover two lines'),
        7: ("0000000053", "000051_000100/0000000053.mp4", "leading zeros stay"),
    }
    causes = ["videoid that is absent", "page_dir that is absent", "lost digits", "name that is empty", "3 cells"]
    assert [cause in str(row) for cause, row in zip(causes, rows[2:7], strict=True)] == [True] * 5


def test_requests_are_all_used_and_stay_with_their_video(tmp_path: Path) -> None:
    def asked(ids: range) -> dict[str, str]:
        lines = [f"{number},u,d,p,caption" for number in ids]
        rows = rows_of(tmp_path, "\n".join([WEBVID.splitlines()[0], *lines]), format="webvid")
        return {row.id: row.turns[0].question for row in rows}

    assert asked(range(300)) == asked(range(299, -1, -1))
    assert set(asked(range(300)).values()) == set(REQUESTS)


def test_videochatgpt(tmp_path: Path) -> None:
    inputs = [
        {"q": "What happens?\n<video>", "a": "A dance.", "video_id": "v_bakeryAAA02"},
        {"q": "Who?", "a": "", "video_id": "v_b"},
        {"q": "Who?", "a": "She.", "video_id": " "},
        {"q": "Who?", "a": "She."},
        {"q": 3, "a": "She.", "video_id": "v_b"},
        {"q": "Who?", "a": "She.", "video_id": "v_b.mkv"},
        {"q": "Who?", "a": "She.", "video_id": "v_b.AVI"},
    ]
    good, *wrong, named, loud = report(rows_of(tmp_path, inputs, format="videochatgpt"))
    assert isinstance(good, Row)
    assert isinstance(named, Row)
    assert (good.id, good.media, good.turns) == (
        "v_bakeryAAA02", "v_bakeryAAA02.mp4", (Turn("What happens?", "A dance."),),
    )  # fmt: skip
    assert isinstance(loud, Row)
    assert (named.media, loud.media) == ("v_b.mkv", "v_b.AVI")
    assert all(isinstance(row, str) for row in wrong)


def test_converted_videochatgpt_names_the_video_not_its_features(tmp_path: Path) -> None:
    output = [{"from": "human", "value": "<video>\nWhat?"}, {"from": "gpt", "value": "A dance."}]
    (row,) = rows_of(tmp_path, [{"id": "v_a", "video": "v_a.pkl", "conversations": output}])
    assert (row.media, row.turns) == ("v_a.mp4", (Turn("What?", "A dance."),))


def science(folder: Path, problems: dict, **options: Any) -> Annotations:
    (folder / "problems.json").write_text(json.dumps(problems, indent=2), encoding="utf-8")
    shutil.copy(DATA / "scienceqa_pid_splits.json", folder / "pid_splits.json")
    source = Source("science", "problems.json", "scienceqa", media="images", **options)
    return Annotations(source, folder, folder / "index")


def test_scienceqa_is_what_json_reads(tmp_path: Path) -> None:
    problems = json.loads((DATA / "scienceqa_problems.json").read_text(encoding="utf-8"))
    splits = json.loads((DATA / "scienceqa_pid_splits.json").read_text(encoding="utf-8"))
    for split in ("train", "val", "test", "trainval", "minival", "minitrain"):
        rows = science(tmp_path, problems, split=split)
        assert sorted(row.id for row in rows) == sorted(splits[split])
        for row in rows:
            problem = problems[row.id]
            folder = f"{problem['split']}/{row.id}/image.png"
            assert row.media == (folder if problem["image"] else None)
            assert rows.kinds[row.index] == bool(problem["image"])
            (turn,) = row.turns
            assert turn.question.startswith(problem["question"])
            assert [choice in turn.question for choice in problem["choices"]] == [True] * len(problem["choices"])
            letter = "ABCDE"[problem["answer"]]
            assert f"({letter}) {problem['choices'][problem['answer']]}" in turn.question
            parts = [problem["lecture"].strip(), problem["solution"].strip(), f"The answer is {letter}."]
            assert turn.answer == " ".join(part for part in parts if part)
    short = science(tmp_path, problems, lectures=False)
    assert all(row.turns[0].answer in {f"The answer is {letter}." for letter in "ABCDE"} for row in short)


def test_a_science_question_in_full(tmp_path: Path) -> None:
    problem = {
        **{"question": "Which is wet?", "choices": ["sand", "sea"], "answer": 1, "hint": "", "image": None},
        **{"lecture": "Water is wet.", "solution": "", "split": "train"},
    }
    wrong = [{"answer": 2}, {"answer": "1"}, {"answer": True}, {"choices": []}, {"question": " "}, {"choices": "ab"}]
    pids = json.loads((DATA / "scienceqa_pid_splits.json").read_text())["trainval"]
    problems = {pids[0]: problem, pids[1]: {**problem, "answer": 2}, "unknown": problem}
    row, cause = report(science(tmp_path, problems, split="trainval"))
    assert isinstance(row, Row)
    assert row.turns == (
        Turn("Which is wet?\nContext: N/A\nOptions: (A) sand (B) sea", "Water is wet. The answer is B."),
    )
    assert "none of the 2 choices" in str(cause)
    for change in wrong:
        (cause,) = report(science(tmp_path, {pids[0]: {**problem, **change}}, split="trainval"))
        assert isinstance(cause, str)


def test_scienceqa_needs_its_splits(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pid_splits\.json, which does not name the split 'dev'"):
        science(tmp_path, {}, split="dev")
    (tmp_path / "pid_splits.json").unlink()
    with pytest.raises(DataError, match=r"pid_splits\.json beside problems\.json"):
        Annotations(Source("science", "problems.json", "scienceqa"), tmp_path, tmp_path / "index")


CHAT = {
    "video": "1106/1000000001.mp4",
    "start": 1,
    "end": 2.5,
    "QA": [
        {"i": "Look closely.", "q": "Who?", "a": "She."},
        {"i": "Look closely.", "q": "", "a": "A caption."},
        {"q": "Why?", "a": " "},
        {"i": "", "q": "When?", "a": "Now."},
    ],
}


@pytest.mark.parametrize(
    ("options", "questions"),
    [
        ({"rounds": 1}, ["Look closely. Who?", "Look closely.", None, "When?"]),
        ({"rounds": 2}, ["Look closely. Who?|", "Why?|When?"]),
        ({"rounds": 3}, ["Look closely. Who?||Why?", "When?"]),
        ({}, ["Look closely. Who?||Why?|When?"]),
        ({"rounds": 1, "instructions": False}, ["Who?", "", None, "When?"]),
    ],
)
def test_videochat2(tmp_path: Path, options: dict, questions: list[str | None]) -> None:
    rows = rows_of(tmp_path, [CHAT], format="videochat2", **options)
    result = [row if isinstance(row, str) else "|".join(turn.question for turn in row.turns) for row in report(rows)]
    assert [None if "none of whose answers" in text else text for text in result] == questions
    assert rows[0].span == (1.0, 2.5)
    assert rows[0].media == rows[0].id == CHAT["video"]
    turns = [len(text.split("|")) if text else 1 for text in questions]
    answers = ["She.", "A caption.", " ", "Now."]
    starts = np.cumsum([0, *turns])
    output = [sum(len(answers[at]) for at in range(starts[i], starts[i + 1])) for i in range(len(turns))]
    asked = [len((text if text is not None else "Why?").replace("|", "")) for text in questions]
    assert list(rows.sizes) == [a + b for a, b in zip(output, asked, strict=True)]


@pytest.mark.parametrize(
    "change",
    [
        {"QA": []},
        {"QA": None},
        {"QA": [{"q": "Who?"}]},
        {"QA": ["Who?"]},
        {"end": None},
        {"image": "a.png"},
        {"video": 7},
    ],
)
def test_wrong_rows_of_videochat2(tmp_path: Path, change: dict) -> None:
    (cause,) = report(rows_of(tmp_path, [{**CHAT, **change}], format="videochat2", rounds=1))
    assert isinstance(cause, str)


@pytest.mark.parametrize("mapped", [True, False])
def test_nextqa_is_what_csv_reads(tmp_path: Path, mapped: bool) -> None:
    places = json.loads((DATA / "nextqa_map.json").read_text())
    if mapped:
        shutil.copy(DATA / "nextqa_map.json", tmp_path / "map_vid_vidorID.json")
    for name in ("nextqa_mc.csv", "nextqa_oe.csv"):
        shutil.copy(DATA / name, tmp_path)
        rows = Annotations(Source("next", name, "nextqa"), tmp_path, tmp_path / "index")
        with (DATA / name).open(newline="") as file:
            plain = list(csv.DictReader(file))
        assert len(rows) == len(plain)
        for row, inputs in zip(rows, plain, strict=True):
            video = inputs["video"]
            assert row.id == f"{video}_{inputs['qid']}"
            assert row.media == f"{places.get(video, video) if mapped else video}.mp4"
            question, answer = row.turns[0].question, row.turns[0].answer
            assert question.split("\n")[0] == f"{inputs['question']}?"
            if "a0" in inputs:
                choices = [f"({letter}) {inputs[f'a{n}']}" for n, letter in enumerate("ABCDE")]
                assert question.split("\n")[1] == f"Options: {' '.join(choices)}"
                assert answer == choices[int(inputs["answer"])]
            else:
                assert (question.count("\n"), answer) == (0, inputs["answer"])


def test_wrong_tables(tmp_path: Path) -> None:
    head = (DATA / "nextqa_mc.csv").read_text().splitlines()[0]
    wrong = [
        "1,2,3,4,why,5,6,CW,a,b,c,d,e",
        "1,2,3,4,why,x,6,CW,a,b,c,d,e",
        "1,2,3,4,why,0,6,CW,a,,c,d,e",
        "1,2,3,4,,0,6,CW,a,b,c,d,e",
    ]
    rows = report(rows_of(tmp_path, "\n".join([head, *wrong]), format="nextqa"))
    assert [type(row) for row in rows] == [str] * 4
    with pytest.raises(DataError, match="videoid, page_dir, name missing"):
        rows_of(tmp_path, head, format="webvid")
    with pytest.raises(DataError, match="missing"):
        rows_of(tmp_path, "", format="webvid")
    (tmp_path / "map_vid_vidorID.json").write_text("[1]")
    with pytest.raises(DataError, match="no map of videos"):
        rows_of(tmp_path, head, format="nextqa")
