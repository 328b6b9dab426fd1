"""Three published benchmarks in miniature, with videos and subtitles made here, through the real command line."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from benchmark_files import write

from datamodules.benchmark import BenchmarkDataModule
from dynfocus.cli import main
from dynfocus.records.jsonl import read_jsonl
from dynfocus.records.predictions import Prediction
from dynfocus.settings import FrameRule

OPTIONS = ["red", "blue", "green", "none"]
MME = {
    **{"duration": "short", "domain": "Knowledge", "sub_category": "History", "task_type": "OCR Problems", "url": ""},
    **{"question": "what color", "options": [f"{a}. {b}" for a, b in zip("ABCD", OPTIONS, strict=True)], "answer": "B"},
}
LVB = {
    **{"question": "what color", "candidates": OPTIONS, "correct_choice": 1, "question_category": "T2A"},
    **{"duration_group": 15, "duration": 18.0, "starting_timestamp_for_subtitles": 100},
}
EGO = {"question": "what does C do", **{f"option {n}": one for n, one in enumerate([*OPTIONS, "black"])}}
SRT = "\n".join(
    f"{n}\n00:00:{n:02},100 --> 00:00:{n:02},900\nmiddle of {n}\n\n"
    f"{n}5\n00:00:{n:02},900 --> 00:00:{n + 1:02},100\nturn to {n + 1}\n"
    for n in range(1, 18)
)
FILES: dict[str, dict[str, Any]] = {
    "videomme-subtitles": {
        "videomme/test-00000-of-00001.parquet": [
            MME | {"video_id": v, "videoID": v, "question_id": f"{v}-{n}"} for v in "ab" for n in (1, 2)
        ],
        "subtitle/a.srt": SRT,
    },
    "longvideobench": {
        "lvb_val.json": [
            LVB | {"video_id": v, "id": f"{v}_0", "video_path": f"{v}.mp4", "subtitle_path": f"{v}_en.json"}
            for v in "ab"
        ],
        "subtitles/a_en.json": [{"timestamp": [100 + n - 0.6, 100 + n + 0.6], "text": f"line {n}"} for n in range(18)],
    },
    "egoschema": {
        "questions.json": [EGO | {"q_uid": v} for v in "ab"],
        "subset_answers.json": {"a": 4},
    },
}


def make_root(place: Path, root: Path, benchmark: str) -> Path:
    write(root, FILES[benchmark])
    (root / "videos").mkdir()
    for name, source in zip("ab", sorted((place / "data/videos").glob("test*.mp4")), strict=False):
        shutil.copy(source, root / f"videos/{name}.mp4")
    return root


def evaluate(place: Path, trained_runs: Path, benchmark: str, root: Path, out: Path, *more: str) -> dict[str, Any]:
    model = str(trained_runs / "stage2" / "model")
    assert main(["evaluate", benchmark, str(root), "--out", str(out), "--model", model, "--frames", "4", *more]) == 0
    return json.loads((out / "metrics.json").read_text())


def test_video_mme_with_subtitles(place: Path, trained_runs: Path, tmp_path: Path) -> None:
    root = make_root(place, tmp_path / "data", "videomme-subtitles")
    arms = ("--arms", "learned", "uniform", "blind")
    metrics = evaluate(place, trained_runs, "videomme-subtitles", root, tmp_path / "run", *arms, "--shuffle")
    assert {arm: one["n"] for arm, one in metrics["arms"].items()} == {"learned": 4, "uniform": 4, "blind": 4}
    assert metrics["arms"]["uniform"]["visual_tokens"] == metrics["arms"]["learned"]["visual_tokens"] > 0
    assert metrics["arms"]["blind"]["visual_tokens"] == 0
    assert [metrics[name] for name in ("subtitles", "options_shuffled", "split")] == [True, True, "test"]
    assert metrics["frame_rule"]["frames"] == 4
    assert set(metrics["columns"]) == {"short", "Overall", "type/Knowledge", "type/OCR Problems"}
    (tmp_path / "data/subtitle/a.srt").write_text(SRT.replace("turn", "way"))
    model = str(trained_runs / "stage2" / "model")
    words = ["evaluate", "videomme-subtitles", str(root), "--out", str(tmp_path / "run"), "--model", model]
    assert main([*words, "--frames", "4", "--shuffle", *arms]) == 1, "other subtitles are another question"


def test_long_video_bench(place: Path, trained_runs: Path, tmp_path: Path) -> None:
    root = make_root(place, tmp_path / "data", "longvideobench")
    for name in ("longvideobench", "longvideobench-no-subtitles"):
        metrics = evaluate(place, trained_runs, name, root, tmp_path / name)
        assert (metrics["subtitles"], metrics["n"]) == (name == "longvideobench", 2)
        assert set(metrics["columns"]) == {"15 s", "Overall", "type/L1-Perception", "type/T2A"}


def test_all_of_egoschema_leaves_a_file_for_its_server(place: Path, trained_runs: Path, tmp_path: Path) -> None:
    root = make_root(place, tmp_path / "data", "egoschema")
    metrics = evaluate(
        place, trained_runs, "egoschema", root, tmp_path / "run", "--split", "full", "--temperature", "9"
    )
    assert (metrics["n"], metrics["columns"]["Subset"]["n"], metrics["split"]) == (2, 1, "full")
    sent = json.loads((tmp_path / "run" / "submission.json").read_text())
    read = {one.id: one.answer for one in read_jsonl(tmp_path / "run" / "predictions.jsonl", Prediction)}
    assert read.keys() == {"a", "b"} >= sent.keys()


@pytest.mark.parametrize(
    ("benchmark", "lines"),
    [
        ("videomme-subtitles", {1: ["turn to 10"], 4: ["turn to 2", "turn to 7", "turn to 12", "turn to 17"]}),
        ("longvideobench", {1: ["line 10"], 4: ["line 2", "line 7", "line 12", "line 17"]}),
    ],
)
def test_the_prompt_holds_the_subtitles_of_the_shown_seconds_alone(
    place: Path, tmp_path: Path, benchmark: str, lines: dict[int, list[str]]
) -> None:
    root = make_root(place, tmp_path / "data", benchmark)
    towers = place / "towers/encoders", place / "towers/language"
    for frames, shown in lines.items():
        data = BenchmarkDataModule(root, benchmark, encoders=towers[0], language_model=towers[1])
        data.rule = FrameRule(size=24, frames=frames)
        rows = data.dataset("test")
        asked = [rows[n].row.turns[0].question for n in (0, len(rows) - 1)]
        assert [line for line in asked[0].splitlines() if "turn" in line or "line" in line or "middle" in line] == shown
        assert "ubtitles" not in asked[1], "a video without subtitles is asked without"
        assert all("B. blue" in one for one in asked), "the options are shown"
