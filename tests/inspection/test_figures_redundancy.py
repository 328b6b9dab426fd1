"""Figure 1a: distances as defined, shares as the embedded world knows them, and what is said where nothing is known."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynfocus.cli import main
from dynfocus.data.annotations.dataset import Annotations
from dynfocus.data.annotations.sources import Source
from dynfocus.errors import DataError, VideoError
from dynfocus.inspection import redundancy
from dynfocus.inspection.figure_1a import draw_shares, group_needs, list_notes
from dynfocus.inspection.redundancy import measure, measure_distances, read_pixels, share_below
from dynfocus.settings import FrameRule
from dynfocus.world.dataset import encode_video
from dynfocus.world.pixels import render
from dynfocus.world.videos import WorldVideo, sample_video

Set = Callable[..., Annotations]


@pytest.fixture
def of_rows(tmp_path: Path, video: Path) -> Set:
    """Makes a data set of rows about the miniature's first video."""

    def make(*rows: dict[str, Any]) -> Annotations:
        talk = [{"from": "human", "value": "<image>\nwhat"}, {"from": "gpt", "value": "that"}]
        whole = [{"id": f"r{n}", "video": str(video.name), "conversations": talk} | row for n, row in enumerate(rows)]
        (tmp_path / "rows.json").write_text(json.dumps(whole))
        return Annotations(Source("mine", "rows.json", media=str(video.parent)), tmp_path, tmp_path / "index")

    return make


def question(group: str, *segments: tuple[int, ...]) -> dict[str, Any]:
    return {"text": "what", "answer": "that", "group": group, "segments": segments}


def what_it_shows(video: WorldVideo, frame: int) -> tuple[str, object]:
    """What a frame shows: two that show the same repeat each other."""
    scene = video.scene_at(frame)
    if frame in video.glitches:
        return "glitch", frame
    if scene.event and frame in scene.event.frames:
        return "event", scene.start
    return "place", scene.place


@settings(max_examples=50)
@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 3), st.sampled_from([1, 3, 512]), st.integers(0, 1000))
def test_distances_are_those_of_the_definition(count: int, width: int, alike: int, block: int, seed: int) -> None:
    frames = np.random.default_rng(seed).integers(0, 256, (count, width)).astype(float)
    frames[count - min(alike, count - 1) :] = frames[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redundancy, "BLOCK", block)
        before, earlier = measure_distances(frames)
    assert before[0] == earlier[0] == np.inf
    for t in range(1, count):
        gaps = [np.sqrt(np.mean((frames[t] - frames[u]) ** 2)) for u in range(t)]
        assert before[t] == pytest.approx(gaps[-1])
        assert earlier[t] == pytest.approx(min(gaps), abs=1e-4)
    assert (earlier <= before).all()


def test_the_threshold_decides_as_the_world_knows(tmp_path: Path) -> None:
    agreements = []
    for index in range(12):
        video = sample_video(1003, index)  # none of those that the threshold was chosen on
        file = tmp_path / f"{index}.mp4"
        file.write_bytes(encode_video(render(video)))
        _, earlier = measure_distances(read_pixels(file, FrameRule(size=redundancy.SIDE, interpolation="box")))
        pictures: set[tuple[str, object]] = set()
        for frame, gap in enumerate(earlier):
            agreements.append((gap < redundancy.THRESHOLD) == (what_it_shows(video, frame) in pictures))
            pictures.add(what_it_shows(video, frame))
    assert len(agreements) == 240
    assert np.mean(agreements) >= 0.98


def test_shares_of_the_world(place: Path, tmp_path: Path) -> None:
    args = ["figure", "1a", "--data", str(place / "data"), "--index", str(tmp_path / "index")]
    for folder in ("one", "two"):
        assert main([*args, "--out", str(tmp_path / folder)]) == 0
    for name in ("figure1a.png", "figure1a.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    text = (tmp_path / "one" / "figure1a.csv").read_text().splitlines()
    notes = " ".join(line for line in text if line.startswith("# "))
    assert "data/test.json: 2 videos, 40 frames" in notes
    assert "grey levels of 255" in notes
    assert "8 of 16 questions name their frames" in notes
    rows = {row["measure"]: row for row in csv.DictReader(line for line in text if not line.startswith("# "))}
    questions = [row["questions"][0] for row in json.loads((place / "data/test.json").read_text())]
    segments = [question["segments"] for question in questions if question["segments"]]
    needed = [len({frame for segment in each for frame in segment}) for each in segments]
    named = float(rows["irrelevant, questions that name frames"]["share"])
    assert named == pytest.approx(1 - np.mean(needed) / 20)
    assert float(rows["irrelevant, all questions"]["share"]) == pytest.approx(named / 2)
    assert float(rows["irrelevant, last"]["share"]) == 0
    share = float(rows["repeats an earlier frame"]["share"])
    assert 0 < float(rows["repeats the frame before"]["share"]) <= share < 1
    assert float(rows["repeats an earlier frame, threshold moved"]["share"]) >= share  # the last, widest one
    assert main([*args, "--threshold", "1000", "--out", str(tmp_path / "all")]) == 0
    assert "repeats an earlier frame,1000.0,0.95,40,frames" in (tmp_path / "all/figure1a.csv").read_text()


def test_each_video_is_read_once_and_events_may_overlap(of_rows: Set) -> None:
    first = {"questions": [question("detail", (1, 2), (2, 3))]}
    measured = measure(
        of_rows(first, {"questions": [question("detail", (5,))]}, {"questions": [question("time")]}), 100
    )
    assert (measured.videos, len(measured.before)) == (1, 20)
    assert list(group_needs(measured).values()) == [[0.85, 0.95], [0.85, 0.95, 0.0], [0.85, 0.95], [0.0]]


def test_rows_are_spread_over_the_data_set(of_rows: Set) -> None:
    some = of_rows(*({"questions": [question("detail", (n,) * 1, tuple(range(n)))]} for n in range(9)))
    assert [need.irrelevant for need in measure(some, 3).questions] == [0.95, 0.75, 0.55]


def test_where_no_question_names_its_frames_it_is_said(of_rows: Set, tmp_path: Path) -> None:
    for rows in ({}, {"questions": [question("detail")]}):
        measured = measure(of_rows(rows), 10)
        assert not group_needs(measured)
        draw_shares(tmp_path / "out", measured)
        text = (tmp_path / "out/figure1a.csv").read_text()
        assert "Irrelevant frames: not known" in text
        assert "\nirrelevant" not in text


def test_videos_that_cannot_be_read_are_counted(of_rows: Set, tmp_path: Path) -> None:
    measured = measure(of_rows({}, {"video": "gone.mp4", "questions": [question("detail", (1,))]}), 10)
    assert (measured.videos, len(measured.failed), group_needs(measured)) == (1, 1, {})
    assert "Left out, as they could not be read: 1." in " ".join(list_notes(measured, 20))
    with pytest.raises(VideoError, match="1 videos, of which none can be read") as caught:
        measure(of_rows({"video": "gone.mp4"}), 10)
    assert str(caught.value).count("Needed:") == 1


def test_what_cannot_be_counted_is_refused(
    of_rows: Set, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError, match=r"needs frame 20 of train_000000\.mp4, of which 20 were read"):
        measure(of_rows({"questions": [question("detail", (3, 20))]}), 10)
    with pytest.raises(DataError, match="no video among them"):
        measure(of_rows({"video": None, "image": "a.png"}), 10)
    for wrong in (["--set", "none"], ["--rows", "0"], ["--threshold", "0"], ["--threshold", "inf"], ["--fps", "0"]):
        whole = ["--data", str(place / "data"), "--index", str(tmp_path / "index"), "--out", str(tmp_path / "out")]
        assert main(["figure", "1a", *whole, *wrong]) == (2 if "inf" in wrong else 1)
        cause, needed, _ = capsys.readouterr().err.partition("Needed:")
        assert needed
        assert wrong[0].removeprefix("--") in cause
    assert not (tmp_path / "out").exists()


def test_what_could_not_be_drawn_is_refused_before_videos_are_read(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["figure", "1a", "--data", str(place / "data"), "--index", str(tmp_path / "index")]
    (tmp_path / "file").touch()
    assert main([*args, "--out", str(tmp_path / "file" / "deeper")]) == 1
    assert f"where {tmp_path / 'file'} is no folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"], "no index either: nothing was read"
    assert share_below(np.array([np.inf, 3.0, 20.0]), 20.0) == pytest.approx(1 / 3)
