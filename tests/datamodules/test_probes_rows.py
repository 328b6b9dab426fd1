"""Which rows are looked at: the first videos that can be read, or images, or nothing."""

import json
import shutil
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import tiny
import torch
from observed_runs import AFRESH, ANSWERS, PROBES, events, tags
from tiny_sketches import RULE, list_videos, small_cache, small_sketcher
from tiny_world import call

from callbacks.probes import Look, draw_look
from datamodules.examples import ExampleDataset
from datamodules.probe_videos import ProbeVideos, collect_probes
from dynfocus.data.annotations.dataset import Annotations
from dynfocus.data.annotations.sources import Source
from dynfocus.data.sketches.cache import SketchCache
from dynfocus.data.sketches.shards import SketchShards
from dynfocus.data.sketches.write_shards import write_shards
from dynfocus.method.selection import make_selection


@pytest.fixture
def entries(place: Path) -> list[dict[str, Any]]:
    """Rows about videos, images and nothing, as training reads them."""
    return json.loads((place / "data" / "stage2.json").read_text())


@pytest.fixture
def world(place: Path, tmp_path: Path) -> Path:
    """A data root of one's own."""
    return shutil.copytree(place / "data", tmp_path / "data")


def rows(root: Path, *sets: list[dict[str, Any]], cache: SketchCache | None = None) -> ExampleDataset:
    for n, entries in enumerate(sets):
        (root / f"own{n}.json").write_text(json.dumps(entries))
    parts = [Annotations(Source(f"own{n}", f"own{n}.json"), root, root / "index") for n in range(len(sets))]
    return ExampleDataset(parts, RULE, cache, skip_invalid=False)


def find_probes(data: ExampleDataset, videos: int = 4) -> ProbeVideos:
    probes = collect_probes(data, tiny.processor(), videos)
    assert probes is not None
    return probes


def with_video(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in entries if "video" in row]


def test_each_video_stands_once_with_one_question(world: Path, entries: list[dict[str, Any]]) -> None:
    twice = [{**row, "id": f"{row['id']}{n}"} for row in entries for n in range(2)]
    data = rows(world, [row for row in entries if "video" not in row], twice)
    probes = find_probes(data)
    first = list(dict.fromkeys(row["video"] for row in with_video(entries)))[:4]
    assert sorted(str(row.media) for row in probes.rows) == sorted(first)
    for row, seconds, frames in zip(probes.rows, probes.seconds, probes.frames, strict=True):
        assert len(row.turns) == len(row.questions) == 1
        assert row.turns[0].question == row.questions[0].text
        assert data[row.index].row.media == row.media
        assert frames is not None
        assert len(frames) == len(seconds) == 20
        assert frames[3].shape == (160, 160, 3)
    assert probes.batch.slot_row.tolist() == [0, 1, 2, 3]


def test_videos_whose_question_knows_its_frames_come_first(world: Path, entries: list[dict[str, Any]]) -> None:
    """And of a video the row that does, and of a row the turn."""
    chosen = {row["video"]: row for row in reversed(with_video(entries))}
    one, two, three = list(chosen.values())[:3]
    blind = [{**row, "questions": []} for row in (one, two, three)]
    probes = find_probes(rows(world, [*blind, two]), 2)
    assert [row.media for row in probes.rows] == [two["video"], one["video"]]
    assert probes.rows[0].index == 3
    knowing = next(n for n, question in enumerate(two["questions"]) if question["segments"])
    assert probes.rows[0].questions[0].text == two["questions"][knowing]["text"]
    assert probes.batch.relevant is not None
    assert probes.batch.relevant[0].any()


def test_what_cannot_be_read_is_passed_over(world: Path, entries: list[dict[str, Any]]) -> None:
    chosen = list({row["video"]: row for row in with_video(entries)}.values())[:4]
    missing, broken, long, good = chosen
    (world / missing["video"]).unlink()
    (world / broken["video"]).write_bytes(b"no video")
    words = "what color is the star " * 200
    long = {**long, "conversations": [{"from": "human", "value": f"<image>\n{words}"}, *long["conversations"][1:2]]}
    probes = find_probes(rows(world, [missing, broken, {**long, "questions": []}, good]))
    assert [row.media for row in probes.rows] == [good["video"]]
    (world / good["video"]).unlink()
    assert collect_probes(rows(world, [missing, broken, good]), tiny.processor(), 4) is None


def test_images_where_there_is_no_video(world: Path, entries: list[dict[str, Any]]) -> None:
    """One frame: nothing to choose, and a picture all the same."""
    data = rows(world, [row for row in entries if "video" not in row])
    probes = find_probes(data)
    assert {len(seconds) for seconds in probes.seconds} == {1}
    assert all(str(row.media).startswith("images/") for row in probes.rows)
    model = tiny.model()
    with torch.no_grad():
        _, video = model.answer(probes.batch, max_new_tokens=2)
    for slot, (row, seconds, frames) in enumerate(zip(probes.rows, probes.seconds, probes.frames, strict=True)):
        one = make_selection(video, slot, seconds, model.settings)
        assert one.kept == (0,)
        look = Look("val", 3, 0, row.index, row.id, str(row.media), "q", "a", "t", one)
        assert draw_look(look, frames).width == 1200


def test_rows_of_text_alone_give_none(world: Path, entries: list[dict[str, Any]]) -> None:
    text = [row for row in entries if "video" not in row and "image" not in row]
    assert text
    assert collect_probes(rows(world, text), tiny.processor(), 4) is None


def test_sketches_alone_show_no_frames(place: Path, tmp_path: Path, entries: list[dict[str, Any]]) -> None:
    write_shards(list_videos(place), small_sketcher(place), str(tmp_path / "set"), workers=0)
    sketches = small_cache(place, tmp_path / "cache", shards=SketchShards(str(tmp_path / "set")))
    (tmp_path / "empty").mkdir()
    addresses = {address for address, _ in list_videos(place)}
    probes = find_probes(
        rows(tmp_path / "empty", [row for row in entries if row.get("video") in addresses], cache=sketches)
    )
    assert probes.frames == (None,) * 4
    assert {len(seconds) for seconds in probes.seconds} == {20}
    model = tiny.model()
    with torch.no_grad():
        one = make_selection(model.connect(probes.batch), 0, probes.seconds[0], model.settings)
    look = Look("val", 3, 0, 0, "r", "v.mp4", "q", "a", "t", one)
    assert draw_look(look, None).height < draw_look(look, [tiny.frames(1)[0].numpy()] * 20).height


def test_frames_that_are_gone_by_now_cost_the_filmstrip_alone(world: Path, entries: list[dict[str, Any]]) -> None:
    probes = find_probes(rows(world, with_video(entries)), 1)
    [frames], [seconds], [row] = probes.frames, probes.seconds, probes.rows
    assert frames is not None
    frames.cache.clear()
    (world / str(row.media)).unlink()
    model = tiny.model()
    with torch.no_grad():
        one = make_selection(model.connect(probes.batch), 0, seconds, model.settings)
    look = Look("val", 3, 0, row.index, row.id, str(row.media), "q", "a", "t", one)
    jaxtyping.config.update("jaxtyping_disable", True)  # it would read a frame itself, to see what it is
    try:
        assert draw_look(look, frames).tobytes() == draw_look(look, None).tobytes()
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def test_a_run_on_text_alone_says_that_there_are_none(
    place: Path, tmp_path: Path, entries: list[dict[str, Any]], world: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = [row for row in entries if "video" not in row and "image" not in row] * 16
    (world / "text.json").write_text(json.dumps(text))
    lines = ["data:", "  class_path: datamodules.conversations.ConversationDataModule", "  init_args:"]
    (tmp_path / "own.yaml").write_text("\n".join([*lines, f"    root: {world}", "    files: {train: text.json}", ""]))
    more = (*AFRESH, PROBES, ANSWERS, "--config", str(tmp_path / "own.yaml"), "--trainer.max_steps", "2")
    with caplog.at_level("INFO"):
        assert call(place, "fit", "stage2", tmp_path / "run", *more) == 0
    assert caplog.text.count("no probes: none of the first rows of train shows a video or image that can be read") == 1
    assert not (tmp_path / "run" / "selections.jsonl").exists()
    assert tags(events(tmp_path / "run"), "images", "") == []
