"""LLaVA conversation files: rows of four published sets, and rows that are wrong."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from reference_reader import read_conversations

from dynfocus.data.annotations.scan import scan
from dynfocus.errors import DataError, NoTargetError
from dynfocus.records.rows import Question, Turn

PUBLISHED = Path(__file__).parents[1] / "data" / "conversations.json"
GOOD: dict[str, Any] = {
    "id": 7,
    "video": "videos/7.mp4",
    "conversations": [{"from": "human", "value": "<image>\nwhat color"}, {"from": "gpt", "value": "star red"}],
    "questions": [
        {
            **{"text": "what color", "answer": "star red", "group": "color", "segments": [[3, 4], [9]]},
            "meta": {"word": "red"},
        }
    ],
}


def written(folder: Path, content: Any) -> Path:
    path = folder / "rows.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_rows_of_published_sets() -> None:
    rows = read_conversations(PUBLISHED)
    assert [row.id for row in rows] == [
        "000000000071", "v_bakeryAAA01", "GCC_train_000000101", "GCC_train_000000102", "000000203",
    ]  # fmt: skip
    assert [row.index for row in rows] == [0, 1, 2, 3, 4]
    assert [row.media for row in rows] == [
        "coco/train2017/000000000071.jpg", "activitynet/train/v_bakeryAAA01.mp4",
        "GCC_train_000000101.jpg", "GCC_train_000000102.jpg", "00000/000000203.jpg",
    ]  # fmt: skip
    assert [len(row.turns) for row in rows] == [3, 1, 1, 1, 1]
    assert rows[0].turns[0] == Turn("Which fruit lies on the market stall?", "Plums and yellow pears lie on the stall.")
    assert rows[1].turns[0].question == "Who helps to carry the trays out of the bakery?"
    assert rows[2].turns[0].question == "Put this picture into one short sentence."
    assert rows[3].turns[0].question == "Say briefly what this picture is of."
    assert not any("<image>" in turn.question for row in rows for turn in row.turns)


def test_a_row_of_the_embedded_world(tmp_path: Path) -> None:
    (row,) = read_conversations(written(tmp_path, [GOOD]))
    assert (row.id, row.media) == ("7", "videos/7.mp4")
    assert row.questions == (Question("what color", "star red", (), "color", ((3, 4), (9,)), {"word": "red"}),)


def test_text_rows_first_speakers_and_other_alphabets(tmp_path: Path) -> None:
    output = [{"from": "gpt", "value": "hello"}, {"from": "human", "value": "¿qué? 星"}, {"from": "gpt", "value": "ñ"}]
    (row,) = read_conversations(
        written(tmp_path, json.dumps([{"id": "t", "model": "", "conversations": output}], ensure_ascii=False))
    )
    assert row.media is None
    assert row.turns == (Turn("¿qué? 星", "ñ"),)


def test_a_last_question_without_answer_is_left_out(tmp_path: Path) -> None:
    output = [{"from": who, "value": who + str(at)} for at, who in enumerate(["human", "gpt", "human", "gpt", "human"])]
    first = {"from": "gpt", "value": "hello"}
    rows = [{"id": 1, "conversations": talk} for talk in (output, [first, *output[:3]])]
    result = read_conversations(written(tmp_path, rows))
    assert [row.turns for row in result] == [
        (Turn("human0", "gpt1"), Turn("human2", "gpt3")), (Turn("human0", "gpt1"),),
    ]  # fmt: skip


def test_a_text_row_keeps_what_a_person_wrote(tmp_path: Path) -> None:
    output = [{"from": "human", "value": "What is <image> a tag of?"}, {"from": "gpt", "value": "HTML, almost."}]
    (row,) = read_conversations(written(tmp_path, [{"id": "t", "conversations": output}]))
    assert row.turns[0].question == "What is <image> a tag of?"


def test_only_the_first_turn_has_a_slot(tmp_path: Path) -> None:
    row = copy.deepcopy(GOOD)
    row["conversations"] += [{"from": "human", "value": "<image> means?"}, {"from": "gpt", "value": "a picture"}]
    turns = read_conversations(written(tmp_path, [row]))[0].turns
    assert [turn.question for turn in turns] == ["what color", "<image> means?"]


@pytest.mark.parametrize(
    ("value", "question"),
    [
        ("<image>\nwhat", "what"),
        ("what\n<image>", "what"),
        ("<video> what", "what"),
        ("what is <image> in a file", "what is <image> in a file"),
        ("<image>\nwhat is <image>", "what is <image>"),
        ("<image>", ""),
        ("<image>\n<image>\nwhat", "what"),
        ("<image><video> <image>", ""),
        ("<image>\n<image>\nwhat is <image>", "what is <image>"),
        ("what\n<image>\n<image>", "what"),
        ("  what ", "what"),
    ],
)
def test_the_slot_leaves_the_question(tmp_path: Path, value: str, question: str) -> None:
    row = copy.deepcopy(GOOD)
    row["conversations"][0]["value"] = value
    assert read_conversations(written(tmp_path, [row]))[0].turns[0].question == question


def changed(path: tuple, value: Any) -> Any:
    row = copy.deepcopy(GOOD)
    place: Any = row
    for key in path[:-1]:
        place = place[key]
    if value is KeyError:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return row


WRONG = {
    "no conversations": changed(("conversations",), KeyError),
    "half a character": changed(("conversations", 1, "value"), "\ud83d"),
    "an id that is a list": changed(("id",), [7]),
    "a class that is a number": changed(("class",), 3),
    "a video that is a number": changed(("video",), 3),
    "a start without end": changed(("start",), 1.0),
    "an end without start": changed(("end",), 1.0),
    "a turn that is text": changed(("conversations", 0), "what"),
    "no turn": changed(("conversations",), []),
    "no answer": changed(("conversations", 1), KeyError),
    "two questions at the end": {
        **GOOD,
        "conversations": [*GOOD["conversations"], *[{"from": "human", "value": "what"}] * 2],
    },
    "two of human": changed(("conversations", 1, "from"), "human"),
    "unknown speaker": changed(("conversations", 1, "from"), "system"),
    "no speaker": changed(("conversations", 0, "from"), KeyError),
    "no value": changed(("conversations", 1, "value"), KeyError),
    "a question that is no text": changed(("conversations", 0, "value"), 5),
    "an answer that is no text": changed(("conversations", 1, "value"), None),
    "conversations of another kind": changed(("conversations",), {"human": "what"}),
    "image and video": changed(("image",), "a.jpg"),
    "several videos": changed(("video",), ["a.mp4", "b.mp4"]),
    "segments that are no lists": changed(("questions", 0, "segments"), [3]),
    "a question without an answer": changed(("questions", 0, "answer"), KeyError),
    "an unknown field": changed(("questions", 0, "colour"), "red"),
    "a row that is text": "row",
    "a row that is null": None,
    "a row that is a list": [1],
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=list(WRONG))
def test_a_wrong_row_is_named(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(DataError, match=r"row 2 of .*rows\.json") as caught:
        read_conversations(written(tmp_path, [GOOD, GOOD, wrong]))
    assert caught.value.do == "Mend or delete the row."


@pytest.mark.parametrize(
    ("content", "output"),
    [
        ("", "is empty"),
        (" {}", r"begins with '\{' at byte 1.*each on a line"),
        ("5", "begins with '5' at byte 0"),
        ("null", "begins with 'n' at byte 0"),
        ("[", "cut off at byte 1"),
        ("[{}", "cut off at byte 3"),
        ('[{"id": "7", "vid', "cut off at byte 13"),
        ('[{"id": "星", "video": [[', "cut off at byte 26"),
        ("[{},]", "no JSON at byte 4"),
        ("[{} {}]", "no JSON at byte 4 .neither a comma"),
        ('[{"id": "星" 7}]', "no JSON at byte 14 .Expecting ',' delimiter"),
        ("[{}] {}", "no JSON at byte 5 .more after"),
        ('[{"id": "a\x01"}]', "no JSON at byte 10 .Invalid control"),
        ("[" * 100_000, "no JSON at byte 1 .maximum recursion"),
    ],
)
def test_a_file_that_is_no_list_is_refused(tmp_path: Path, content: str, output: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(DataError, match=output) as caught:
        list(scan("list", path))
    assert "rows.json" in caught.value.given


@pytest.mark.parametrize(
    ("start", "end"),
    [(2, 1), (1, 1), (-1, 3), ("1", "2"), (True, 3), (1, float("nan")), (1, float("inf")), (1, 10**400), ([1], [2])],
)
def test_a_wrong_stretch_is_named(tmp_path: Path, start: Any, end: Any) -> None:
    with pytest.raises(DataError, match="row 0 of"):
        read_conversations(written(tmp_path, [{**GOOD, "start": start, "end": end}]))


def test_a_stretch_of_an_image_is_refused(tmp_path: Path) -> None:
    row = {**GOOD, "start": 0, "end": 2.5, "image": GOOD["video"], "video": None}
    with pytest.raises(DataError, match="without a video"):
        read_conversations(written(tmp_path, [row]))
    assert read_conversations(written(tmp_path, [{**GOOD, "start": 0, "end": 2.5}]))[0].span == (0.0, 2.5)


def test_a_row_that_holds_nothing_to_learn_from_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoTargetError, match=r"row 1 of rows\.json, none of whose answers holds a word"):
        read_conversations(written(tmp_path, [GOOD, changed(("conversations", 1, "value"), " \n")]))


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no annotation file"):
        read_conversations(tmp_path / "rows.json")
