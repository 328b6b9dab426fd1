"""Rows that would train blind: a medium or a time under a key that nobody reads, and a slot with nothing to show."""

import json
from pathlib import Path
from typing import Any

import pytest

from dynfocus.data.annotations.dataset import Annotations
from dynfocus.data.annotations.sources import FormatName, Source
from dynfocus.errors import DataError
from dynfocus.records.rows import Row

TALK = [{"from": "human", "value": "<video>\nWho waves?"}, {"from": "gpt", "value": "The baker."}]
WORDS = [{"from": "human", "value": "Who waves?"}, {"from": "gpt", "value": "The baker."}]


def read(folder: Path, rows: list[Any], form: FormatName = "conversations") -> Annotations:
    (folder / "rows.json").write_text(json.dumps(rows))
    return Annotations(Source("set", "rows.json", form), folder, folder / "index")


def cause(folder: Path, row: Any, form: FormatName = "conversations") -> str:
    rows = read(folder, [row], form)
    assert (rows.turns[0], rows.kinds[0]) == (0, 0)
    with pytest.raises(DataError, match="row 0 of") as caught:
        rows[0]
    return caught.value.given


@pytest.mark.parametrize(
    "key", ["video_path", "video_id", "videoPath", "clip", "image_file", "img", "media", "frames_dir"]
)
@pytest.mark.parametrize("talk", [TALK, WORDS])
def test_a_medium_under_another_key_is_named(tmp_path: Path, key: str, talk: list[dict]) -> None:
    assert f"{key!r}" in cause(tmp_path, {"id": 1, key: "bakery/1", "conversations": talk})


def test_a_number_that_names_a_medium_is_named(tmp_path: Path) -> None:
    assert "'video_id'" in cause(tmp_path, {"id": 1, "video_id": 71, "conversations": WORDS})


@pytest.mark.parametrize("value", ["bakery/1.mp4", ["a.png", "b.png"], {"path": "a.webm", "bytes": None}])
def test_a_key_whose_value_is_a_file_is_named(tmp_path: Path, value: Any) -> None:
    assert "'shows'" in cause(tmp_path, {"id": 1, "shows": value, "conversations": WORDS})


@pytest.mark.parametrize("value", ["<video>\nWho?", "Who?\n<video>", "<image>", "Who? <image>"])
def test_a_slot_with_nothing_to_show_does_not_fit(tmp_path: Path, value: str) -> None:
    talk = [{"from": "human", "value": value}, {"from": "gpt", "value": "The baker."}]
    assert "nothing to show" in cause(tmp_path, {"id": 1, "conversations": talk})
    assert "nothing to show" in cause(tmp_path, {"id": 1, "conversations": [*WORDS, *talk]})


def test_more_slots_than_pictures_do_not_fit(tmp_path: Path) -> None:
    talk = [{"from": "human", "value": "<image>\n<image>\nWhat differs?"}, {"from": "gpt", "value": "The hat."}]
    assert "2 slots" in cause(tmp_path, {"id": 1, "image": "1.png", "conversations": talk})
    assert read(tmp_path, [{"id": 1, "video": "1.mp4", "conversations": talk}])[0].turns[0].question == "What differs?"


@pytest.mark.parametrize(
    "times",
    [
        {"timestamp": [1.5, 4.0]},
        {"timestamps": "00:01-00:07"},
        {"start_frame": 30, "end_frame": 90},
        {"startTime": "2.5"},
        {"segment": [1, 2]},
        {"clip_start": 3, "clip_end": 7.5},
    ],
)
@pytest.mark.parametrize("form", ["conversations", "videochat2", "videochatgpt"])
def test_times_under_another_key_are_named(tmp_path: Path, times: dict[str, Any], form: FormatName) -> None:
    row = {"id": 1, "video": "1.mp4", "conversations": TALK}
    row |= {"QA": [{"q": "Who?", "a": "She."}], "q": "Who?", "a": "She.", "video_id": "1"}
    given = cause(tmp_path, row | times, form)
    assert all(f"{key!r}" in given for key in times)


def test_names_and_counts_that_are_no_media_or_times_are_left_alone(tmp_path: Path) -> None:
    about = {"video_id": "v1", "fps": 25, "frame_count": 300, "duration": 12.0, "thumbnail": "1.jpg"}
    about |= {"image_size": [336, 336], "num_frames": 8, "timestamp": "2024-05-01 12:00:00", "end_time": None}
    about |= {"segment_id": "0012", "start_id": 3}
    row = read(tmp_path, [{"id": 1, "video": "1.mp4", "conversations": TALK, **about}])[0]
    assert isinstance(row, Row)
    text = {"model": "", "image": None, "video": "", "images": [], "url": "https://example.org/page", "video_id": None}
    assert read(tmp_path, [{"id": 1, "conversations": WORDS, **text, "num_frames": 0}])[0].media is None


def test_a_second_picture_beside_the_first_is_named(tmp_path: Path) -> None:
    row = {"id": 1, "image": "1.png", "image_2": "2.png", "conversations": WORDS}
    assert "'image_2'" in cause(tmp_path, row)


def test_a_slot_on_a_line_of_its_own_leaves_every_question(tmp_path: Path) -> None:
    more = [{"from": "human", "value": "<video>\nAnd who waves back?"}, {"from": "gpt", "value": "A child."}]
    row = read(tmp_path, [{"id": 1, "video": "1.mp4", "conversations": [*TALK, *more]}])[0]
    assert [turn.question for turn in row.turns] == ["Who waves?", "And who waves back?"]
    asked = {"video": "1.mp4", "QA": [{"i": "Look.", "q": "<video>\nWho?", "a": "She."}]}
    assert read(tmp_path, [asked], "videochat2")[0].turns[0].question == "Look. Who?"


@pytest.mark.parametrize("inner", [{"images": ["a.png"]}, {"video": "a.mp4"}, {"image_path": "a.png"}])
def test_a_medium_in_a_message_is_named(tmp_path: Path, inner: dict[str, Any]) -> None:
    talk = [
        {"role": "user", "content": "Who waves?"} | inner,
        {"role": "assistant", "content": "The baker.", "weight": 1},
    ]
    assert f"{next(iter(inner))!r}" in cause(tmp_path, {"messages": talk})
    assert read(tmp_path, [{"messages": [{"role": "user", "content": "Who?", "name": "x"}, talk[1]]}])[0].media is None


def test_times_of_one_question_are_named(tmp_path: Path) -> None:
    asked = {"video": "1.mp4", "QA": [{"q": "Who?", "a": "She.", "start": 2.0, "end": 3.0}]}
    assert "'start', 'end'" in cause(tmp_path, asked, "videochat2")


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("webvid", "videoid,page_dir,name,start,end\n12,p,a gate,2.5,4\n"),
        ("nextqa", "video,question,answer,qid,clip_start\n12,why,so,0,2.5\n"),
    ],
)
def test_times_in_a_table_are_named(tmp_path: Path, form: FormatName, text: str) -> None:
    (tmp_path / "rows.csv").write_text(text)
    rows = Annotations(Source("set", "rows.csv", form), tmp_path, tmp_path / "index")
    with pytest.raises(DataError, match="start"):
        rows[0]


@pytest.mark.parametrize(
    "shown",
    [
        {"video": "1.mp4", "meta": {"start": 2.0, "end": 5.0}},
        {"video": {"path": "1.mp4", "start": 2.0, "end": 5.0}},
        {"video": "1.mp4", "info": {"clip": {"id": 3}, "start_frame": 9}},
        {"meta": {"video_path": "1.mp4"}},
    ],
)
def test_times_and_media_one_level_down_are_named(tmp_path: Path, shown: dict[str, Any]) -> None:
    assert "which nobody reads" in cause(tmp_path, {"id": 1, "conversations": WORDS, **shown})


@pytest.mark.parametrize(
    "question",
    [
        "Picture 1: <img>1.png</img>\nWho waves?",
        "<|vision_start|><|video_pad|><|vision_end|>Who waves?",
        "<|image_1|>\nWho waves?",
        "<image_1> and <image_2>: who waves?",
        "<ImageHere>Who waves?",
    ],
)
def test_slots_as_other_models_write_them_are_slots(tmp_path: Path, question: str) -> None:
    talk = [{"from": "human", "value": question}, {"from": "gpt", "value": "The baker."}]
    assert "a slot with nothing to show" in cause(tmp_path, {"id": 1, "conversations": talk})


def test_code_in_a_question_is_no_slot(tmp_path: Path) -> None:
    talk = [{"from": "human", "value": "What is <img> for, and <video src=a>?"}, {"from": "gpt", "value": "A picture."}]
    assert read(tmp_path, [{"id": 1, "conversations": talk}])[0].media is None


@pytest.mark.parametrize("times", [{"ts": [1.0, 2.0]}, {"times": [1, 2]}, {"t0": 3.5}, {"from_sec": 2}])
def test_other_words_for_times_are_named(tmp_path: Path, times: dict[str, Any]) -> None:
    shown = {"id": 1, "video": "1.mp4", "conversations": WORDS, **times}
    assert f"{next(iter(times))!r}" in cause(tmp_path, shown)
