"""Report cards of selectors without a language model: what is chosen, what is measured, what is refused."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from ask_runs import RULE, write_model
from make_videos import write_video
from PIL import Image

from dynfocus.bridge import select
from dynfocus.bridge.features import PixelFeatures, open_features
from dynfocus.bridge.selector_card import measure_selectors
from dynfocus.cli import main
from dynfocus.errors import ConfigError, DataError
from dynfocus.evals.benchmarks import read_items
from dynfocus.lab.card_entries import Entry
from dynfocus.lab.card_formats import list_contents
from dynfocus.lab.report_card import make_card


def read_card(entries: Sequence[Entry], **options: Any) -> dict[str, Any]:
    return list_contents(make_card(entries, **options))


def write_picture_world(root: Path, segments: list[list[int]], frames: int = 9) -> tuple[Path, Path]:
    """A world of one moving picture of random frames, one a second, without loss; and that picture a frame later."""
    pixels = np.random.default_rng(0).integers(0, 256, (frames, 16, 16, 3), dtype=np.uint8)
    pictures = [Image.fromarray(frame) for frame in pixels]
    (root / "later").mkdir(exist_ok=True)
    paths = (root / "whole.png", root / "later" / "whole.png")  # draws follow from the file's name
    for path, shown in zip(paths, (pictures, pictures[1:]), strict=True):
        shown[0].save(path, save_all=True, append_images=shown[1:], duration=1000)
    question = {"text": "what", "answer": "it", "group": "color", "segments": segments, "meta": {"word": "it"}}
    rows = [{"id": f"q{n}", "video": "whole.png", "questions": [question]} for n in range(2)]
    (root / "test.json").write_text(json.dumps(rows))
    return paths


def test_the_frames_are_those_that_select_chooses(place: Path) -> None:
    root = place / "data"
    for entry in measure_selectors(["uniform", "grain_spread"], root, PixelFeatures(), keep=(1, 3), rows=5):
        (side,) = entry.sides
        items = {item.id: item for item in read_items("world", root)[:5]}
        assert [one.id for one in side.predictions] == list(items)
        for one in side.predictions:
            picked = select(root / one.video, one.question, entry.keep, entry.arm)
            assert (one.kept, one.scores) == (picked.frames, picked.scores)
            segments = items[one.id].question.segments
            hits = [any(frame in segment for frame in one.kept) for segment in segments]
            assert one.hit == (np.mean(hits) if hits else None)
        assert entry.label == f"{entry.arm}, K = {entry.keep}"


@pytest.mark.parametrize("name", ["uniform", "scene_change", "random", "k_means", "dpc_knn", "farthest_first"])
def test_jitter_is_what_is_kept_of_a_file_without_its_first_frame(name: str, tmp_path: Path) -> None:
    whole, later = write_picture_world(tmp_path, [[3]])
    (entry,) = measure_selectors([name], tmp_path, PixelFeatures(), keep=(4,))
    a = {*select(whole, "what", 4, name, fps=1).frames}
    b = {frame + 1 for frame in select(later, "what", 4, name, fps=1).frames}
    values = [one.value for one in entry.sides[0].measured["jitter_stability"]]
    assert values == pytest.approx([len(a & b) / len(a | b)] * 2)


def test_jitter_moves_candidates_by_one_frame_of_the_file(tmp_path: Path) -> None:
    """Two of ten frames a second are candidates: the later video shows other frames, next to the same ones."""
    write_video(tmp_path / "100.mp4", 40)
    (tmp_path / "test.csv").write_text(
        "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n100,9,6,4,why,3,1,CW,a,b,c,d,e\n"
    )
    entries = measure_selectors(["uniform", "first"], tmp_path, PixelFeatures(), "nextqa", keep=(2,))
    assert [entry.sides[0].measured["jitter_stability"][0].value for entry in entries] == [1.0, 1.0]
    card = read_card(entries)
    assert card["entries"][0]["metrics"]["hit_rate"]["missing"] == "No question says which frames it needs."
    assert "neither answers nor questions" in card["missing"]["comparisons"]


def test_evidence_times_tell_the_needed_candidates(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 40)  # candidates at 0, .5, ... 3.5 s
    spans = ["00:01-00:02", "00:03-00:03", "1:00:00-1:00:01"]
    shared = {"video_key": "a", "question": "Who", "answer": "A", "question_type": ["reasoning"]}
    rows = [{**shared, "uid": str(n), "time_reference": span} for n, span in enumerate(spans)]
    (tmp_path / "lvbench.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    uniform, oracle = measure_selectors(["uniform", "oracle"], tmp_path, PixelFeatures(), "lvbench", keep=(2,))
    assert [one.segments for one in uniform.sides[0].predictions] == [((2, 3, 4),), ((6,),), ((7,),)]
    assert [one.kept for one in uniform.sides[0].predictions] == [(2, 6)] * 3
    card = read_card([uniform, oracle])
    assert [entry["metrics"]["hit_rate"]["value"] for entry in card["entries"]] == [pytest.approx(2 / 3), 1]
    fewer = measure_selectors(["uniform"], tmp_path, PixelFeatures(), "lvbench", keep=(2,), fps=1.0, rows=1)
    assert fewer[0].sides[0].predictions[0].segments == ((1, 2),)


def test_evidence_between_two_candidates_needs_the_nearest(tmp_path: Path) -> None:
    write_video(tmp_path / "100.mp4", 40)
    (tmp_path / "test.csv").write_text(
        "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n100,9,6,4,why,3,1,CW,a,b,c,d,e\n"
    )
    (tmp_path / "gsub_test.json").write_text(json.dumps({"100": {"location": {"1": [[1.6, 1.7], [0, 0.5]]}}}))
    (entry,) = measure_selectors(["first"], tmp_path, PixelFeatures(), "nextqa")
    assert entry.sides[0].predictions[0].segments == ((3,), (0, 1))
    assert entry.sides[0].predictions[0].hit == 0.5


def test_a_trained_models_selector_is_measured_on_its_own_features(place: Path, tmp_path: Path) -> None:
    folder = write_model(tiny.SETTINGS, tmp_path / "model", replace(RULE, frames=5))
    (entry,) = measure_selectors(["dpe"], place / "data", open_features(folder), keep=(2,), rows=6)
    for one in entry.sides[0].predictions:
        assert len(one.seconds) == len(one.scores) == 20  # all frames, whatever the model was trained on
    cells = read_card([entry])["entries"][0]["metrics"]
    assert cells["question_sensitivity"]["value"] == 0  # Eq. 4 reads no question
    assert cells["auroc"]["value"] is not None


def test_the_verb_writes_a_card_that_says_what_it_is(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["uniform", '{"class_path": "random", "init_args": {"draw": 2}}', "inverted", "--on", str(place / "data")]
    args = ["--keep", "1", "3", "--seeds", "0,1,2", "--out", str(tmp_path)]
    assert main(["report-card", *words, *args]) == 0
    text = capsys.readouterr().out
    card = json.loads((tmp_path / "report_card.json").read_text(), parse_constant=pytest.fail)
    assert card["answers"] is False
    assert [entry["label"] for entry in card["entries"]] == [
        f"{name}, K = {keep}" for name in ("uniform", "random(draw=2)", "inverted") for keep in (1, 3)
    ]
    uniform, drawn = card["entries"][1]["metrics"], card["entries"][3]["metrics"]
    questions, videos = len(read_items("world", place / "data")), 2
    assert (uniform["seed_stability"]["value"], uniform["hit_rate"]["seeds"]) == (1, 3)
    assert drawn["seed_stability"]["value"] < 0.9
    assert (uniform["seconds_select"]["n"], uniform["seconds_decode"]["n"]) == (3 * questions, 3 * videos)
    for name in ("accuracy", "visual_tokens", "regret", "sufficiency", "necessity", "seconds_prefill"):
        assert uniform[name]["missing"].startswith("No language model was asked")
    assert card["curves"][0]["metric"] == "hit_rate"
    assert card["curves"][0]["area"]["value"] == pytest.approx(
        np.mean([entry["metrics"]["hit_rate"]["value"] for entry in card["entries"][:2]])
    )
    assert {(one["metric"], one["tokens"], one["equal_tokens"]) for one in card["comparisons"]} == {
        ("hit_rate", None, None)
    }
    assert re.search(r"^No language model was asked", text)
    page = (tmp_path / "report_card.html").read_text()
    assert "No language model was asked: this card says which frames are kept" in page
    assert "Hit rate over K" in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dpe"], "whose scores come from trained weights"),
        (["text_top_k"], "compares frames with the question"),
        (["unifrom"], "Did you mean uniform?"),
        (["uniform", "uniform"], "selectors uniform, uniform. Needed: each of them once"),
        (["uniform", "--keep", "3", "3"], "--keep 3, 3"),
        (["uniform", "--keep", "30", "40"], "of which two keep 20 frames"),
        (["uniform", "--fps", "2"], "all frames, which its questions count"),
        (["uniform", "--seeds", "one"], "--seeds one"),
        (["uniform", "--benchmark", "tv"], "the benchmark 'tv'"),
        (["uniform", "--rows", "0"], "no question of world"),
        (["runs/nowhere"], "runs/nowhere"),
        (["runs/nowhere", "uniform"], "runs and selectors"),
        (["runs/nowhere", "--keep", "3"], "--keep with runs"),
    ],
)
def test_what_cannot_be_measured_is_said(
    words: list[str], message: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report-card", *words, "--on", str(place / "data")]) in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert error.splitlines()[-1].startswith("dynfocus: ")


def test_a_selector_without_a_benchmark_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report-card", "uniform"]) == 2
    assert "Add --on FOLDER" in capsys.readouterr().err


def test_questions_that_do_not_fit_the_videos_are_refused(tmp_path: Path) -> None:
    write_picture_world(tmp_path, [[9]])
    with pytest.raises(DataError, match=r"needs frame 9 of .*whole.png. Needed: frames from 0 to 8"):
        measure_selectors(["uniform"], tmp_path, PixelFeatures())
    write_picture_world(tmp_path, [])
    with pytest.raises(ConfigError, match="selector oracle, which reads which frames the question needs"):
        measure_selectors(["oracle"], tmp_path, PixelFeatures())
    for path in tmp_path.rglob("whole.png"):
        path.unlink()
    with pytest.raises(DataError, match="1 of the 1 videos of world are not below"):
        measure_selectors(["uniform"], tmp_path, PixelFeatures())


def test_a_picture_of_one_frame_has_no_jitter(tmp_path: Path) -> None:
    write_picture_world(tmp_path, [[0]], frames=2)
    Image.new("RGB", (16, 16)).save(tmp_path / "whole.png")
    card = read_card(measure_selectors(["uniform"], tmp_path, PixelFeatures()))
    cells = card["entries"][0]["metrics"]
    assert cells["jitter_stability"]["missing"] == "Every video has one frame alone."
    assert (cells["hit_rate"]["value"], cells["hit_rate"]["interval"]) == (1, None)
