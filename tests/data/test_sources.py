"""Data sets as they are unpacked: annotation files found, media found under every name that people have them by."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dynfocus.data.annotations.dataset import Annotations
from dynfocus.data.annotations.find_media import MediaFinder
from dynfocus.data.annotations.sources import SETS, Source
from dynfocus.errors import DataError, VideoError
from dynfocus.records.rows import VideoSegment

IMAGE, VIDEO = 1, 2


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def media(root: Path, folders: Any = ".", **options: Any) -> MediaFinder:
    return MediaFinder(Source("set", "rows.json", media=folders), root, **options)


def test_every_set_is_known_by_its_name() -> None:
    assert all(name == source.name for name, source in SETS.items())
    assert len({(source.folder, source.file) for source in SETS.values()}) == len(SETS)
    chats = {name for name, source in SETS.items() if source.format == "videochat2"}
    assert all(SETS[name].rounds == 1 for name in chats)
    assert chats >= {"nextqa", "clevrer_qa", "clevrer_mc", "webvid_qa", "videochat2_videochatgpt"}


def test_parts_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    touch(tmp_path, *(f"WebVid/results_2M_train_50/{part}.csv" for part in (10, 2, 0, 1)))
    source = Source("webvid", "results_2M_train_50/*.csv", "webvid", folder="WebVid")
    assert [path.stem for path in source.files(tmp_path)] == ["0", "1", "2", "10"]
    assert [path.stem for path in SETS["webvid_parts"].files(tmp_path)] == ["0", "1", "2"]


@pytest.mark.parametrize("file", ["rows.json", "*.json", "/somewhere/*.json", "folder"])
def test_no_file_is_refused(tmp_path: Path, file: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="no annotation file at"):
        Source("set", file).files(tmp_path)


def test_a_name_with_brackets_is_a_name(tmp_path: Path) -> None:
    touch(tmp_path, "rows[1].json")
    assert Source("set", "rows[1].json").files(tmp_path) == [tmp_path / "rows[1].json"]


def test_no_rounds_is_refused() -> None:
    with pytest.raises(DataError, match="rounds = 0"):
        Source("set", "rows.json", rounds=0)


@pytest.mark.parametrize(
    ("annotated", "kind", "there"),
    [
        ("coco/train2017/1.jpg", IMAGE, "coco/train2017/1.jpg"),
        ("ocr_vqa/images/1.jpg", IMAGE, "ocr_vqa/images/1.png"),
        ("ocr_vqa/images/1.jpg", IMAGE, "ocr_vqa/images/1.gif"),
        ("ocr_vqa/images/1.jpg", IMAGE, "ocr_vqa/images/1.jpeg"),
        ("vg/VG_100K/1.jpg", IMAGE, "vg/images/1.jpg"),
        ("vg/VG_100K_2/1.jpg", IMAGE, "vg/images/1.jpg"),
        ("vg/VG_100K_2/1.jpg", IMAGE, "vg/VG_100K_2/1.jpg"),
        ("vg/VG_100K_2/1.jpg", IMAGE, "vg/VG_100K/1.jpg"),
        ("vg/VG_100K/1.jpg", IMAGE, "vg/VG_100K_2/1.jpg"),
        ("VG_100K/1.jpg", IMAGE, "VG_100K_2/1.jpg"),
        ("coco/train2017/1.jpg", IMAGE, "coco/train2017/1.JPG"),
        ("ocr_vqa/images/1.jpg", IMAGE, "ocr_vqa/images/1.JPG"),
        ("ocr_vqa/images/1.jpg", IMAGE, "ocr_vqa/images/1.PNG"),
        ("train/1/image.png", IMAGE, "train/1/image.PNG"),
        ("1.JPG", IMAGE, "1.jpg"),
        ("1.mp4", VIDEO, "1.avi"),
        ("1.mp4", VIDEO, "1.MP4"),
        ("1.mp4", VIDEO, "1.AVI"),
        ("1.avi", VIDEO, "1.mp4"),
        ("v_bakeryAAA01", VIDEO, "v_bakeryAAA01.avi"),
        ("v_bakeryAAA01", VIDEO, "v_bakeryAAA01.MP4"),
        ("1106/1000000001.mp4", VIDEO, "1106/1000000001.mp4"),
        ("1106/1000000001.mp4", VIDEO, "1000000001.mp4"),
        ("video_00999.mp4", VIDEO, "video_00999.mp4"),
        ("video_00999.mp4", VIDEO, "video_00000-01000/video_00999.mp4"),
        ("video_09000.mp4", VIDEO, "video_09000-10000/video_09000.mp4"),
        ("video_10001.mp4", VIDEO, "video_train/video_10000-11000/video_10001.mp4"),
        ("v_bakeryAAA01.mp4", VIDEO, "v_bakeryAAA01.mkv"),
        ("activitynet/train/v_bakeryAAA01.mp4", VIDEO, "activitynet/train/v_bakeryAAA01.webm"),
        ("v_bakeryAAA01", VIDEO, "v_bakeryAAA01.mkv"),
        ("v_bakeryAAA01.mp4", VIDEO, "v_bakeryAAA01.mov"),
        ("v_bakeryAAA01", VIDEO, "v_bakeryAAA01.MOV"),
        ("1.mov", VIDEO, "1.mp4"),
        ("1.mp4", VIDEO, "1.flv"),
        ("1", VIDEO, "1.wmv"),
        ("1.wmv", VIDEO, "1.m4v"),
        ("1106/1000000001.mp4", VIDEO, "1000000001.mkv"),
    ],
)
def test_media_under_the_names_that_people_have_them_by(tmp_path: Path, annotated: str, kind: int, there: str) -> None:
    result = media(tmp_path)
    with pytest.raises(VideoError, match="no file at"):
        result.find(annotated, kind, None)
    touch(tmp_path, there)
    assert result.find(annotated, kind, None) == tmp_path / there
    assert result.address(annotated, kind, None) == annotated


@pytest.mark.parametrize("there", ["000001_000050/12.mp4", "12.mp4", "12.webm", "12.MOV"])
@pytest.mark.parametrize("source", [SETS["webvid"], SETS["webvid_qa"], Source("clips", "rows.csv", "webvid")])
def test_webvid_is_found_with_its_folders_and_without(tmp_path: Path, source: Source, there: str) -> None:
    folder = Path(source.folder, str(source.media))
    touch(tmp_path, str(folder / there))
    assert MediaFinder(source, tmp_path).find("000001_000050/12.mp4", VIDEO, None) == tmp_path / folder / there


@pytest.mark.parametrize(
    ("annotated", "there"),
    [
        ("coco/1.jpg", "coco/1.png"),
        ("coco/1.jpg", "coco/1.PNG"),
        ("000001_000050/12.mp4", "12.mp4"),
        ("vg/VG_100K/1.jpg", "vg/VG_100K_2/2.jpg"),
        ("vg/VG_100K_3/1.jpg", "vg/VG_100K/1.jpg"),
        ("1.mp4", "1.jpg"),
        ("1.jpg", "1.mp4"),
    ],
)
def test_what_only_looks_alike_is_not_taken(tmp_path: Path, annotated: str, there: str) -> None:
    touch(tmp_path, there)
    with pytest.raises(VideoError):
        media(tmp_path).find(annotated, IMAGE, None)


def test_the_annotated_name_is_looked_at_first_and_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "ocr_vqa/images/1.jpg", "ocr_vqa/images/1.png")
    asked: list[str] = []
    real = os.path.isfile
    monkeypatch.setattr(os.path, "isfile", lambda path: bool(asked.append(str(path))) or real(path))
    assert media(tmp_path).find("ocr_vqa/images/1.jpg", IMAGE, None).suffix == ".jpg"
    assert len(asked) == 1


def test_the_likeliest_name_is_taken(tmp_path: Path) -> None:
    names = ["vg/images/1.jpg", "vg/VG_100K_2/1.jpg", "vg/VG_100K/1.JPG", "2.mkv", "2.avi", "2.MP4"]
    touch(tmp_path, *names)
    for wanted in names[:3]:
        assert media(tmp_path).find("vg/VG_100K/1.jpg", IMAGE, None) == tmp_path / wanted
        (tmp_path / wanted).unlink()
    assert media(tmp_path).find("2.mp4", VIDEO, None) == tmp_path / "2.mkv"


def test_the_map_of_next_is_asked_for_where_its_folders_are_unknown(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("video,question,answer,qid\n4,why,so,0\n5,why,so,0\n")
    touch(tmp_path, "NExTVideo/1001/4.mp4")
    source = Source("next", "rows.csv", "nextqa", media="NExTVideo")
    rows = Annotations(source, tmp_path, tmp_path / "index")
    with pytest.raises(VideoError, match=r"map_vid_vidorID\.json") as caught:
        rows.find(rows[0])
    assert str(tmp_path / "map_vid_vidorID.json") in caught.value.needed
    (tmp_path / "map_vid_vidorID.json").write_text('{"4": "1001/4", "5": "1001/5"}')
    rows = Annotations(source, tmp_path, tmp_path / "index")
    assert rows.find(rows[0]) == tmp_path / "NExTVideo/1001/4.mp4"
    with pytest.raises(VideoError, match="no file at") as caught:
        rows.find(rows[1])
    assert "map_vid" not in str(caught.value)


FOLDERS = {
    "nextqa": "NExTVideo",
    "science_qa": "science",
    "coco": "pictures/coco",
    "coco/train2017": "pictures/train",
    "<video>": "videos",
    "<image>": "images",
}


@pytest.mark.parametrize(
    ("annotated", "kind", "group", "there"),
    [
        ("1106/4.mp4", VIDEO, "nextqa", "NExTVideo/1106/4.mp4"),
        ("1/image.png", IMAGE, "science_qa", "science/1/image.png"),
        ("coco/train2017/1.jpg", IMAGE, None, "pictures/train/1.jpg"),
        ("coco/val2014/1.jpg", IMAGE, None, "pictures/coco/val2014/1.jpg"),
        ("cocoa/1.jpg", IMAGE, None, "images/cocoa/1.jpg"),
        ("a.mp4", VIDEO, "unknown", "videos/a.mp4"),
        ("coco", IMAGE, None, "images/coco"),
    ],
)
def test_folders_by_class_beginning_and_kind(tmp_path: Path, annotated: str, kind: int, group: str, there: str) -> None:
    touch(tmp_path, there)
    result = media(tmp_path, FOLDERS)
    assert result.find(annotated, kind, group) == tmp_path / there
    assert result.address(annotated, kind, group) == there


def test_a_row_that_no_folder_is_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="media that begin with one of 'nextqa'"):
        media(tmp_path, {"nextqa": "NExTVideo"}).find("a.mp4", VIDEO, None)
    touch(tmp_path, "rest/a.mp4")
    assert media(tmp_path, {"nextqa": "x", "": "rest"}).find("a.mp4", VIDEO, None) == tmp_path / "rest/a.mp4"


def test_addresses_of_folders_elsewhere(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/1.mp4")
    result = media(tmp_path / "root", {"a": str(tmp_path / "elsewhere"), "": "../elsewhere"})
    assert result.find("1.mp4", VIDEO, "a") == tmp_path / "elsewhere/1.mp4"
    assert result.address("1.mp4", VIDEO, "a") == "set/a/1.mp4"
    assert result.address("./x//1.mp4", VIDEO, None) == "set/x/1.mp4"


@pytest.mark.parametrize(
    "name", ["../a.mp4", "a/../../b.mp4", "a/..", "/etc/passwd", "C:\\a.mp4", "//host/a", ".", "a\0b"]
)
@pytest.mark.parametrize("links", [True, False])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str, links: bool) -> None:
    touch(tmp_path, "a.mp4", "root/a/b")
    result = media(tmp_path / "root", links=links)
    with pytest.raises(DataError, match="no path in its folder"):
        result.find(name, VIDEO, None)
    with pytest.raises(DataError, match="no path in its folder"):
        result.address(name, VIDEO, None)


def test_links_that_lead_out_are_followed_where_that_is_said(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/a.mp4", "elsewhere-too/a.mp4", "root/videos/b.mp4")
    videos = tmp_path / "root/videos"
    (videos / "out").symlink_to(tmp_path / "elsewhere")
    (videos / "c.mp4").symlink_to(tmp_path / "elsewhere/a.mp4")
    (videos / "inside.mp4").symlink_to("b.mp4")
    (tmp_path / "root/whole").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/near.mp4").symlink_to(tmp_path / "elsewhere-too/a.mp4")
    for name in ("out/a.mp4", "c.mp4"):
        with pytest.raises(DataError, match=r"a link that leads out.*data\.init_args\.links") as caught:
            media(tmp_path / "root", "videos").find(name, VIDEO, None)
        assert str(tmp_path / "elsewhere/a.mp4") in caught.value.given
        assert media(tmp_path / "root", "videos", links=True).find(name, VIDEO, None) == videos / name
    assert media(tmp_path / "root", "videos").find("inside.mp4", VIDEO, None) == videos / "inside.mp4"
    assert media(tmp_path / "root", "whole").find("a.mp4", VIDEO, None) == tmp_path / "root/whole/a.mp4"
    with pytest.raises(DataError, match="leads out"):
        media(tmp_path / "root", "whole").find("near.mp4", VIDEO, None)


@pytest.mark.parametrize("name", ["folder", "dangling.mp4", "x" * 300, "a.mp4/b"])
def test_what_is_no_file_is_missing(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "folder/a", "a.mp4")
    (tmp_path / "dangling.mp4").symlink_to("nowhere.mp4")
    with pytest.raises(VideoError, match="no file at"):
        media(tmp_path).find(name, VIDEO, None)


def test_rows_find_what_they_show(tmp_path: Path) -> None:
    output = '"conversations": [{"from": "human", "value": "what"}, {"from": "gpt", "value": "that"}]'
    shown = [
        '"video": "4.mp4", "class": "nextqa", "start": 1, "end": 2',
        '"image": "1.jpg", "class": "other"',
        '"id": "2"',
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(f'{{"id": "x", {one}, {output}}}' for one in shown))
    touch(tmp_path, "next/4.mp4", "images/1.jpg")
    source = Source("set", "rows.jsonl", "jsonl", media={"nextqa": "next", "<image>": "images"})
    rows = Annotations(source, tmp_path, tmp_path / "index")
    assert [rows.find(row) for row in rows] == [
        VideoSegment(tmp_path / "next/4.mp4", 1.0, 2.0), tmp_path / "images/1.jpg", None,
    ]  # fmt: skip
    assert [rows.address(row) for row in rows] == ["next/4.mp4#1.0-2.0", "images/1.jpg", None]
    np.testing.assert_array_equal(rows.kinds, [2, 1, 0])
