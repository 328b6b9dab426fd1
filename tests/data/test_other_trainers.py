"""Rows as other trainers write them: no id, roles, system turns, messages with lists of media, contents in parts."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from make_videos import write_video
from PIL import Image

from datamodules.examples import ExampleDataset
from datamodules.training_rows import count_row_costs
from dynfocus.data.annotations.dataset import Annotations
from dynfocus.data.annotations.sources import FormatName, Source
from dynfocus.data.doctor.examine import TrainingView, diagnose
from dynfocus.errors import DataError, VideoError
from dynfocus.models.preview import audit
from dynfocus.records.rows import FrameFiles, Row, Turn, VideoSegment
from dynfocus.settings import FrameRule
from dynfocus.video.media import read_or_blank
from dynfocus.video.thumbnails import Thumbnails

ROLES = [{"role": "user", "content": "Who waves?"}, {"role": "assistant", "content": "The baker."}]
SYSTEM = {"role": "system", "content": "the star is red"}
TURNS = (Turn("Who waves?", "The baker."),)


def read(folder: Path, rows: list[Any], form: FormatName = "conversations", **options: Any) -> Annotations:
    (folder / "rows.json").write_text(json.dumps(rows))
    return Annotations(Source("set", "rows.json", form, **options), folder, folder / "index")


def slotted(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}, ROLES[1]]


def test_rows_without_id_are_numbered(tmp_path: Path) -> None:
    talk = [{"from": "human", "value": "<video>\nWho waves?"}, {"from": "gpt", "value": "The baker."}]
    rows = [{"video": "a.mp4", "conversations": talk}, {"id": None, "messages": ROLES}, {"id": "x", "messages": ROLES}]
    assert [row.id for row in read(tmp_path, rows)] == ["0", "1", "x"]


@pytest.mark.parametrize("names", [("user", "assistant"), ("human", "gpt"), ("user", "gpt"), ("human", "assistant")])
@pytest.mark.parametrize("keys", [("role", "content"), ("from", "value")])
@pytest.mark.parametrize("place", ["messages", "conversations"])
def test_roles_of_other_trainers(tmp_path: Path, names: tuple, keys: tuple, place: str) -> None:
    talk = [dict(zip(keys, pair, strict=True)) for pair in zip(names, ("Who waves?", "The baker."), strict=True)]
    assert read(tmp_path, [{place: talk}])[0].turns == TURNS


@pytest.mark.parametrize("row", [{"messages": [SYSTEM, *ROLES]}, {"system": SYSTEM["content"], "messages": ROLES}])
def test_a_system_turn_stands_at_the_start_of_the_prompt(tmp_path: Path, row: dict[str, Any]) -> None:
    (given,) = read(tmp_path, [row])
    assert (given.system, given.turns) == ("the star is red", TURNS)
    collator = tiny.processor(answers=True)
    text = audit(collator, tiny.Example(given, frames=torch.zeros(1, tiny.SIDE, tiny.SIDE, 3, dtype=torch.uint8)))
    assert "\n<s> the star is red user :" in text


@pytest.mark.parametrize(
    "talk",
    [
        [*ROLES, SYSTEM],
        [SYSTEM, SYSTEM, *ROLES],
        [ROLES[0], {"role": "tool", "content": "{}"}, ROLES[1]],
        [ROLES[0], {"role": "assistant", "content": None}],
    ],
)
def test_turns_that_cannot_be_learned_are_named(tmp_path: Path, talk: list[dict]) -> None:
    with pytest.raises(DataError, match="row 0 of"):
        read(tmp_path, [{"messages": talk}])[0]


@pytest.mark.parametrize(
    ("shown", "kind"),
    [
        ({"videos": ["a.mp4"]}, 2),
        ({"videos": "a.mp4"}, 2),
        ({"video": ["a.mp4"]}, 2),
        ({"video": "file://a.mp4"}, 2),
        ({"images": ["a.mp4"]}, 1),
        ({"images": [{"path": "a.mp4", "bytes": None}]}, 1),
        ({"images": [], "videos": ["a.mp4"], "audios": []}, 2),
    ],
)
def test_media_in_lists(tmp_path: Path, shown: dict[str, Any], kind: int) -> None:
    slot = "<video>" if kind == 2 else "<image>"
    rows = read(tmp_path, [{"messages": slotted(f"{slot}Who waves?"), **shown}])
    assert (rows[0].media, rows[0].turns, list(rows.kinds)) == ("a.mp4", TURNS, [kind])


@pytest.mark.parametrize(
    "shown", [{"videos": ["a.mp4", "b.mp4"]}, {"videos": ["a.mp4"], "images": ["b.png"]}, {"videos": [3]}]
)
def test_more_than_one_medium_is_named(tmp_path: Path, shown: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="row 0 of"):
        read(tmp_path, [{"messages": ROLES, **shown}])[0]


def test_contents_in_parts_with_times(tmp_path: Path) -> None:
    video = {"type": "video", "video": "file://a.mp4", "video_start": 2, "video_end": 4.5, "fps": 2, "max_pixels": 9}
    asked = {"role": "user", "content": [video, {"type": "text", "text": "Who waves?"}]}
    answer = {"role": "assistant", "content": [{"type": "text", "text": "The baker."}]}
    system = {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}
    (row,) = read(tmp_path, [{"messages": [system, asked, answer]}])
    assert (row.media, row.span, row.turns, row.system) == ("a.mp4", (2.0, 4.5), TURNS, "Be brief.")
    for part in ({"type": "image", "image": "a.png"}, {"type": "image_url", "image_url": {"url": "a.png"}}):
        asked["content"][0] = part
        rows = read(tmp_path, [{"messages": [asked, answer]}])
        assert (rows[0].media, rows[0].turns, list(rows.kinds)) == ("a.png", TURNS, [1])
    asked["content"][0] = {"type": "audio", "audio": "a.wav"}
    with pytest.raises(DataError, match="audio"):
        read(tmp_path, [{"messages": [asked, answer]}])[0]


def test_a_row_names_its_segment_by_video_start(tmp_path: Path) -> None:
    row = {"videos": ["a.mp4"], "video_start": 1, "video_end": 3, "messages": slotted("<video>Who waves?")}
    assert read(tmp_path, [row])[0].span == (1.0, 3.0)
    with pytest.raises(DataError, match="row 0"):
        read(tmp_path, [row | {"video_end": None}])[0]


def test_an_absolute_path_inside_the_folder_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    path = write_video(tmp_path / "media" / "a.mp4", count=3)
    rows = read(tmp_path, [{"videos": [f"file://{path}"], "messages": ROLES}], media="media")
    assert rows.find(rows[0]) == path
    assert rows.address(rows[0]) == "media/a.mp4"


@pytest.mark.parametrize("lines", [True, False])
@pytest.mark.parametrize("form", ["conversations", "jsonl"])
def test_a_list_and_lines_are_told_apart(tmp_path: Path, lines: bool, form: FormatName) -> None:
    rows = [{"id": n, "messages": ROLES} for n in range(3)]
    text = "\n".join(map(json.dumps, rows)) if lines else json.dumps(rows, indent=1)
    (tmp_path / "rows.json").write_text(text)
    read_rows = Annotations(Source("set", "rows.json", form), tmp_path, tmp_path / "index")
    assert [row.id for row in read_rows] == ["0", "1", "2"]


# A video whose frames are files, and several images.


def frames(folder: Path, count: int, suffix: str = "png") -> list[str]:
    folder.mkdir(parents=True)
    for n in range(count):
        Image.fromarray(np.full((8, 8, 3), 20 * n, np.uint8)).save(folder / f"f{n}.{suffix}")
    return [f"{folder.name}/f{n}.{suffix}" for n in range(count)]


def shades(media: Any, **rule: Any) -> tuple[list[int], list[float]]:
    clip = read_or_blank(media, FrameRule(size=4, **rule))
    return [round(int(frame[0, 0, 0]) / 20) for frame in clip.frames], clip.seconds.tolist()


def listed(folder: Path, row: dict[str, Any]) -> tuple[Annotations, Row]:
    rows = read(folder, [{"messages": slotted("<video>Who waves?"), **row}])
    return rows, rows[0]


def test_a_list_of_frames_is_a_video(tmp_path: Path) -> None:
    names = frames(tmp_path / "clip", 12)
    rows, row = listed(tmp_path, {"video": names})
    assert (row.turns, list(rows.kinds), row.frames) == (TURNS, [2], tuple(names))
    assert shades(rows.find(row), fps=0.5) == (list(range(12)), [float(n) for n in range(12)])
    assert shades(rows.find(row), frames=3)[0] == [2, 6, 10]
    rows, row = listed(tmp_path, {"videos": [names], "fps": 4})
    assert shades(rows.find(row), fps=1) == ([0, 4, 8], [0.0, 1.0, 2.0])
    rows, row = listed(tmp_path, {"video": names, "fps": 4, "start": 1, "end": 2})
    assert shades(rows.find(row), fps=2) == ([4, 6], [1.0, 1.5])
    rows, row = listed(tmp_path, {"video": names[:3], "timestamps": [0, 0.5, 7]})
    assert shades(rows.find(row), fps=1) == ([0, 2], [0.0, 7.0])
    part = {"type": "video", "video": names[:4], "fps": 2}
    rows, row = listed(tmp_path, {"messages": [{"role": "user", "content": [part]}, ROLES[1]]})
    assert shades(rows.find(row), fps=1) == ([0, 2], [0.0, 1.0])


def test_a_folder_of_frames_is_a_video(tmp_path: Path) -> None:
    frames(tmp_path / "clip", 12, "jpg")
    (tmp_path / "clip" / "notes.txt").write_text("no frame")
    rows, row = listed(tmp_path, {"video": "clip", "fps": 6})
    assert shades(rows.find(row), fps=1) == ([0, 6], [0.0, 1.0])
    rows, row = listed(tmp_path, {"video": "clip"})
    assert shades(rows.find(row), fps=1)[0] == list(range(12))
    assert isinstance(rows.find(row), FrameFiles)
    (tmp_path / "empty").mkdir()
    rows, row = listed(tmp_path, {"video": "empty"})
    with pytest.raises(VideoError, match="no file at"):
        rows.find(row)


@pytest.mark.parametrize(
    "row",
    [
        {"fps": 0},
        {"fps": "fast"},
        {"timestamps": [0, 1]},
        {"timestamps": [0, 2, 1]},
        {"fps": 2, "timestamps": [0, 1, 2]},
    ],
)
def test_times_of_frames_that_cannot_be_are_named(tmp_path: Path, row: dict[str, Any]) -> None:
    names = frames(tmp_path / "clip", 3)
    with pytest.raises(DataError):
        listed(tmp_path, {"video": names, **row})


def test_several_images_are_shown_in_order(tmp_path: Path) -> None:
    names = frames(tmp_path / "album", 3)
    rows, row = listed(tmp_path, {"images": names, "messages": slotted("<image><image>\n<image>Who waves?")})
    assert (row.turns, list(rows.kinds)) == (TURNS, [3])
    assert shades(rows.find(row), fps=0.1)[0] == [0, 1, 2]
    assert shades(rows.find(row), frames=2)[0] == [0, 1, 2]
    more = slotted("Is <image> like <image>?") + slotted("<image>\nAnd this?")
    rows, row = listed(tmp_path, {"image": names, "messages": more})
    assert [turn.question for turn in row.turns] == ["Is [image 1] like [image 2]?", "[image 3]\nAnd this?"]
    with pytest.raises(DataError, match="4 slots for 3 images"):
        listed(tmp_path, {"images": names, "messages": slotted("<image>" * 4)})[0][0]


def test_every_list_has_an_address_of_its_own(tmp_path: Path) -> None:
    names = frames(tmp_path / "clip", 4)
    rows = read(
        tmp_path,
        [{"video": shown, "messages": ROLES, **times} for shown, times in (
            (names, {}), (names[:2], {}), (names, {"fps": 2}), (names[0], {}), ("clip", {}), ("clip", {"fps": 2}),
        )],
    )  # fmt: skip
    assert len({rows.address(row) for row in rows}) == 6
    assert all(str(rows.address(row)).startswith("clip") for row in rows)
    assert isinstance(rows.find(rows[3]), Path)


def test_a_missing_frame_is_missing(tmp_path: Path) -> None:
    rows, row = listed(tmp_path, {"video": [*frames(tmp_path / "clip", 2), "clip/f7.png"]})
    with pytest.raises(VideoError, match=r"f7\.png"):
        rows.find(row)


def test_a_segment_stays_a_segment(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", count=3)
    rows, row = listed(tmp_path, {"video": "a.mp4", "start": 0, "end": 1, "fps": 30})
    assert rows.find(row) == VideoSegment(tmp_path / "a.mp4", 0.0, 1.0)


def test_the_doctor_and_a_batch_count_the_frames(tmp_path: Path) -> None:
    names = frames(tmp_path / "clip", 6)
    rows = read(
        tmp_path,
        [
            {"video": names, "messages": ROLES},
            {"video": "clip", "fps": 2, "messages": ROLES},
            {"video": "clip", "fps": 3, "messages": ROLES},
            {"images": names[:4], "messages": ROLES},
            {"image": names[0], "messages": ROLES},
            {"video": [*names, "clip/f9.png"], "messages": ROLES},
            {"video": names, "fps": 2, "start": 7, "end": 9, "messages": ROLES},
        ],
    )
    rule = FrameRule(size=tiny.SIDE, interpolation="box")
    view = TrainingView(rows, tiny.processor(answers=True), rule)
    (findings,) = diagnose([view], workers=0, progress=False)
    checkup = view.load()
    assert checkup is not None
    assert checkup.frames.tolist()[:5] == [6, 3, 2, 4, 1]
    assert {number: one.fault for number, one in checkup.bad.items()} == {5: "missing", 6: "unreadable"}
    assert findings.bad == 2
    dataset = ExampleDataset([rows], rule, None, skip_invalid=True)
    batch = tiny.processor(answers=True, skip_invalid=True)([dataset[n] for n in range(5)])
    assert [len(one) for one in batch.frames] == [6, 3, 2, 4, 1]
    costs = count_row_costs(replace(view, rule=replace(rule, frames=32)), None, estimate=True)
    assert costs[3] > costs[4]
    media = rows.find(rows[0])
    assert isinstance(media, FrameFiles)
    assert Thumbnails(media, tuple(range(6)), rule)[2].shape == (160, 160, 3)


@pytest.mark.parametrize(
    ("more", "answer", "cause"),
    [
        ({}, {"loss": False}, "'loss', which nobody reads and by which an answer counts less or not at all"),
        ({}, {"weight": 0}, "'weight', which nobody reads and by which an answer"),
        ({"loss_scale": [1, 0.5]}, {}, "'loss_scale', which nobody reads and by which an answer"),
        ({"frame_idx": [3, 9]}, {}, "'frame_idx', which nobody reads and which look like frames of a video"),
        ({"nframes": 8}, {}, "'nframes', which nobody reads and which look like frames of a video"),
        ({"meta": {"frame_indices": [3, 9]}}, {}, "'meta.frame_indices', which nobody reads"),
    ],
)
def test_targets_and_frames_that_nobody_reads_are_refused(tmp_path: Path, more: dict, answer: dict, cause: str) -> None:
    row = {"video": "a.mp4", "messages": [ROLES[0], ROLES[1] | answer], **more}
    with pytest.raises(DataError, match=cause):
        read(tmp_path, [row])[0]
    flat = {"video": "a.mp4", "query": "Who waves?", "response": "The baker.", **more, **answer}
    with pytest.raises(DataError, match=cause):
        read(tmp_path, [flat], "query_response")[0]


def test_weights_of_one_and_of_questions_change_nothing(tmp_path: Path) -> None:
    talk = [ROLES[0] | {"loss": False, "weight": 0}, ROLES[1] | {"loss": True, "weight": 1.0, "train": None}]
    row = {"video": "a.mp4", "messages": talk, "frame_count": 300, "mask": "a.txt"}
    assert read(tmp_path, [row])[0].turns == TURNS
