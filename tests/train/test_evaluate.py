"""A trained model is asked the questions of a benchmark, through the real command line."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dynfocus.cli import main
from dynfocus.data.sketches.sketcher import Sketcher
from dynfocus.evals.benchmarks import BENCHMARKS
from dynfocus.evals.protocol import Item, shuffle_options
from dynfocus.records.atomic import write_text
from dynfocus.records.jsonl import read_jsonl
from dynfocus.records.predictions import Prediction, Verdict, read_answers
from dynfocus.records.rows import Question

Capture = pytest.CaptureFixture[str]


def evaluate(place: Path, trained_runs: Path, out: Path, *more: str) -> int:
    args = (str(place / "data"), "--out", str(out), "--model", str(trained_runs / "stage2" / "model"))
    return main(["evaluate", "world", *args, "--batch-size", "1", *more])


def results(out: Path) -> tuple[list[Prediction], dict[str, Any]]:
    return list(read_jsonl(out / "predictions.jsonl", Prediction)), json.loads((out / "metrics.json").read_text())


def test_the_world_as_a_benchmark_gives_what_its_own_test_gave(
    place: Path, trained_runs: Path, tmp_path: Path, capsys: Capture
) -> None:
    arms = ("learned", "uniform", "random", "blind")
    same = ("--batch-size", "64", "--cache", str(place / "sketches"), "--max-new-tokens", "6")
    assert evaluate(place, trained_runs, tmp_path / "run", *same, "--arms", *arms) == 0
    predictions, metrics = results(tmp_path / "run")
    expected, exact = results(trained_runs / "stage2")
    assert [(one.arm, one.id, one.answer, one.kept, one.visual_tokens) for one in predictions] == [
        (one.arm, one.id, one.answer, one.kept, one.visual_tokens) for one in expected
    ]
    assert {arm: one["columns"] for arm, one in metrics["arms"].items()} == {
        arm: one["columns"] for arm, one in exact["arms"].items()
    }
    verdicts = list(read_jsonl(tmp_path / "run" / "verdicts.jsonl", Verdict))
    assert [(one.arm, one.id) for one in verdicts] == [(one.arm, one.id) for one in predictions]
    output = capsys.readouterr()
    assert all(f"\n{arm} " in output.out for arm in arms)
    assert len(re.findall(r"\nanswering: 16 of 16 questions, 00:\d\d so far\n", output.err)) == 1


def test_a_stopped_run_goes_on_and_asks_nothing_twice(place: Path, trained_runs: Path, tmp_path: Path) -> None:
    """Stopped at five moments, each with half a line behind it."""
    assert evaluate(place, trained_runs, tmp_path / "whole") == 0
    lines = (tmp_path / "whole" / "answers" / "0.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) == 16
    for count in (0, 1, 5, 15, 16):
        out = tmp_path / str(count)
        (out / "answers").mkdir(parents=True)
        shutil.copy(tmp_path / "whole" / "card.json", out)
        (out / "answers" / "0.jsonl").write_text("".join(lines[:count]) + ('{"id": "te' if count < 16 else ""))
        assert evaluate(place, trained_runs, out) == 0
        assert results(out) == results(tmp_path / "whole")
        after = (out / "answers" / "0.jsonl").read_text().splitlines(keepends=True)
        assert after[:count] == lines[:count]
        assert sorted(after) == sorted(lines)


def test_each_video_is_encoded_once_for_all_its_questions(
    place: Path, trained_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by a run that goes on; the sketches go when all is answered, and stay where a folder is named for them."""
    encoded: list[str] = []
    real = Sketcher.try_sketch
    monkeypatch.setattr(
        Sketcher, "try_sketch", lambda self, medium, clip: encoded.append(str(medium)) or real(self, medium, clip)
    )
    assert evaluate(place, trained_runs, tmp_path / "run", "--rows", "12") == 0
    assert len(encoded) == len(set(encoded)) == 2
    assert not (tmp_path / "run" / "sketches").exists()
    encoded.clear()
    for rows in ("12", "16"):
        assert evaluate(place, trained_runs, tmp_path / "kept", "--rows", rows, "--cache", str(tmp_path / "mine")) == 0
    assert len(encoded) == len(set(encoded)) == 2
    assert list((tmp_path / "mine").rglob("*.safetensors"))


def test_two_processes_give_what_one_gives(place: Path, trained_runs: Path, tmp_path: Path) -> None:
    assert evaluate(place, trained_runs, tmp_path / "one") == 0
    args = (str(place / "data"), "--out", str(tmp_path / "two"), "--model", str(trained_runs / "stage2" / "model"))
    command = [sys.executable, "-m", "dynfocus", "evaluate", "world", *args, "--batch-size", "1", "--devices", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "two" / "answers").glob("*.jsonl"))) == 2
    (one, metrics), (two, others) = results(tmp_path / "one"), results(tmp_path / "two")
    assert two == one
    assert others == metrics


def test_answers_of_other_settings_are_not_mixed(
    place: Path, trained_runs: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert evaluate(place, trained_runs, tmp_path / "run", "--rows", "4") == 0
    assert len(read_answers(tmp_path / "run")) == 4
    for words, unlike in {
        ("--frames", "5", "--fps", "0.5"): "frame_rule.frames null, not 5 and frame_rule.fps 1.0, not 0.5.",
        (
            "--temperature",
            "0.2",
            "--top-p",
            "0.7",
        ): "sampling.temperature 0.0, not 0.2 and sampling.top_p 1.0, not 0.7.",
        ("--seed", "1"): "sampling.seed 0, not 1.",
        ("--arms", "blind"): 'arms ["learned"], not ["blind"].',
    }.items():
        assert evaluate(place, trained_runs, tmp_path / "run", *words) == 1
        assert f"whose answers were made with {unlike}" in capsys.readouterr().err
    monkeypatch.setitem(BENCHMARKS, "world", replace(BENCHMARKS["world"], prompt=lambda one, _: f"Say: {one.text}"))
    assert evaluate(place, trained_runs, tmp_path / "run") == 1
    assert "whose answers were made with another prompts." in capsys.readouterr().err
    monkeypatch.undo()
    assert evaluate(place, trained_runs, tmp_path / "run") == 0  # the rest of the same questions
    assert results(tmp_path / "run")[1]["n"] == 16


def test_rules_of_frames_and_sampling_are_followed_and_stated(
    place: Path, trained_runs: Path, tmp_path: Path, capsys: Capture
) -> None:
    """One frame, half a frame a second, and every frame of the file, of which some are taken."""
    for words, rule, frames in (
        (("--frames", "1"), {"frames": 1, "fps": 1.0}, 1),
        (("--fps", "0.5"), {"frames": None, "fps": 0.5}, 10),
        (("--fps", "0", "--frames", "32"), {"frames": 32, "fps": None}, 32),
    ):
        out = tmp_path / words[1]
        assert evaluate(place, trained_runs, out, *words, "--arms", "uniform", "--rows", "1") == 0
        (one,), metrics = results(out)
        assert metrics["frame_rule"].items() >= rule.items()
        assert (len(one.kept), metrics["sampling"]) == (
            min(frames, 3),
            {"temperature": 0.0, "top_p": 1.0, "seed": 0},
        )
        assert max(one.kept) < frames
    assert evaluate(place, trained_runs, tmp_path / "x", "--temperature", "1", "--top-p", "0") == 1
    assert "top_p = 0.0. Needed: a share in (0, 1]" in capsys.readouterr().err
    assert evaluate(place, trained_runs, tmp_path / "x", "--shuffle") == 1
    assert "--shuffle with world, whose questions have no options" in capsys.readouterr().err


def test_drawn_answers_follow_from_question_and_seed_alone(place: Path, trained_runs: Path, tmp_path: Path) -> None:
    """Whole and after a stop, in batches of other questions: the draws are the same."""
    hot = ("--temperature", "3", "--top-p", "0.9", "--rows", "6")
    assert evaluate(place, trained_runs, tmp_path / "whole", *hot) == 0
    assert evaluate(place, trained_runs, tmp_path / "parts", *hot, "--rows", "2") == 0
    assert evaluate(place, trained_runs, tmp_path / "parts", *hot, "--batch-size", "3") == 0
    assert results(tmp_path / "parts") == results(tmp_path / "whole")
    assert evaluate(place, trained_runs, tmp_path / "seed", *hot, "--seed", "1") == 0
    assert evaluate(place, trained_runs, tmp_path / "cold", "--rows", "6") == 0
    answers = [[one.answer for one in results(tmp_path / name)[0]] for name in ("whole", "seed", "cold")]
    assert answers[0] != answers[1] != answers[2] != answers[0]


def test_a_run_stays_under_its_protocol(place: Path, trained_runs: Path, tmp_path: Path, capsys: Capture) -> None:
    root, out = tmp_path / "data", tmp_path / "run"
    root.mkdir()
    shutil.copy(next((place / "data/videos").glob("*.mp4")), root / "a.mp4")
    text = "what color\n(A) red\n(B) blue\n(C) green\n(D) none"
    asked = {"uid": "1", "question": text, "answer": "B", "question_type": ["reasoning"]}
    write_text(root / "video_info.meta.jsonl", json.dumps({"key": "a", "qa": [asked]}) + "\n")
    args = ("evaluate", "lvbench", str(root), "--out", str(out), "--model", str(trained_runs / "stage2" / "model"))
    assert main([*args, "--protocol", "upstream"]) == 0
    assert "protocol upstream" in capsys.readouterr().out
    first, metrics = results(out)
    assert (metrics["protocol"], metrics["subtitles"]) == ("upstream", False)
    assert json.loads((out / "card.json").read_text())["protocol"] == "upstream"
    assert main([*args]) == 1
    assert 'protocol "upstream", not "dynfocus"' in capsys.readouterr().err
    assert results(out) == (first, metrics)
    # The same answers are counted the other way without asking again, into files of their own.
    assert main(["judge", str(out), "--protocol", "dynfocus"]) == 0
    other = json.loads((out / "metrics.rules-dynfocus.json").read_text())
    assert (other["protocol"], other["judge"]) == ("dynfocus", "rules-dynfocus")
    assert results(out) == (first, metrics)


def test_a_model_is_known_by_its_content_wherever_it_lies(place: Path, trained_runs: Path, tmp_path: Path) -> None:
    assert evaluate(place, trained_runs, tmp_path / "run", "--rows", "2") == 0
    shutil.copytree(trained_runs / "stage2", tmp_path / "moved" / "stage2")
    assert evaluate(place, tmp_path / "moved", tmp_path / "run", "--rows", "3") == 0
    assert results(tmp_path / "run")[1]["n"] == 3


def test_missing_videos_are_named(place: Path, trained_runs: Path, tmp_path: Path, capsys: Capture) -> None:
    root = tmp_path / "data"
    shutil.copytree(place / "data", root)
    missing = json.loads((root / "test.json").read_text())[0]["video"]
    (root / missing).unlink()
    args = ("--model", str(trained_runs / "stage2" / "model"), "--out", str(tmp_path / "run"))
    assert main(["evaluate", "world", str(root), *args]) == 1
    assert f"1 of the 2 videos of world are not below {root}: {missing}" in capsys.readouterr().err
    assert main(["evaluate", "world", str(root), *args, "--allow-missing"]) == 0
    predictions, metrics = results(tmp_path / "run")
    assert (metrics["n"], {one.video == missing for one in predictions}) == (8, {False})
    assert (metrics["videos_missing"], metrics["missing"]) == (1, [missing])


def test_options_are_shuffled_alike_each_time() -> None:
    options = ("a", "b", "b", "d")
    items = [
        Item(str(n), "v", Question("q", options[n % 4], options, meta={"letter": "ABCD"[n % 4]})) for n in range(40)
    ]
    once, again = ([shuffle_options(item) for item in items] for _ in range(2))
    assert once == again
    assert len({item.question.options for item in once}) > 8
    for item, moved in zip(items, once, strict=True):
        assert sorted(moved.question.options) == sorted(options)
        assert moved.question.options["ABCD".index(moved.question.meta["letter"])] == item.question.answer
    places = Counter(item.question.meta["letter"] for item in once)
    assert min(places.values()) >= 4
    plain = Item("1", "v", Question("q", "a"))
    assert shuffle_options(plain) == plain


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (("worlds",), "the benchmark 'worlds'. Needed: one of world"),
        (("world", "--split", "train"), "the split 'train' of world. Needed: one of test, val"),
        (("mlvu",), "lacks 9 of 9 annotation files, as does any folder in it: json/7_topic_reasoning.json or"),
    ],
)
def test_wrong_names_are_said(
    place: Path, trained_runs: Path, tmp_path: Path, capsys: Capture, args: tuple[str, ...], error: str
) -> None:
    more = ("--out", str(tmp_path / "run"), "--model", str(trained_runs / "stage2" / "model"))
    assert main(["evaluate", args[0], str(place / "data"), *more, *args[1:]]) == 1
    assert error in capsys.readouterr().err


def test_images_and_questions_without_a_picture_are_asked(place: Path, trained_runs: Path, tmp_path: Path) -> None:
    """ScienceQA, whose images have one name, with one image for two questions."""
    fields = {"question": "what color is it", "choices": ["red", "blue"], "answer": 0, "hint": "", "grade": "grade2"}
    fields |= {"subject": "natural science", "split": "test"}
    problems = {"1": fields | {"image": "image.png"}, "2": fields | {"image": None}}
    root = tmp_path / "data"
    (root / "images/test/1").mkdir(parents=True)
    (root / "scienceqa").mkdir()
    (root / "scienceqa/problems.json").write_text(json.dumps(problems))
    (root / "scienceqa/pid_splits.json").write_text(json.dumps({"test": ["1", "2"]}))
    Image.new("RGB", (32, 32), "red").save(root / "images/test/1/image.png")
    args = ("--out", str(tmp_path / "run"), "--model", str(trained_runs / "stage2" / "model"))
    assert main(["evaluate", "scienceqa", str(root), *args]) == 0
    predictions, metrics = results(tmp_path / "run")
    assert [(one.id, one.video, one.visual_tokens > 0) for one in predictions] == [
        ("1", "images/test/1/image.png", True),
        ("2", "", False),
    ]
    assert metrics["columns"]["Avg"]["n"] == 2


def test_segments_and_folders_of_frames_are_asked(place: Path, trained_runs: Path, tmp_path: Path) -> None:
    """MVBench, with one video and one folder of frames, of which rows are about parts."""
    root = tmp_path / "data"
    tasks = [name.removeprefix("type/") for name in BENCHMARKS["mvbench"].columns if name.startswith("type/")]
    row = {"video": "a.mp4", "question": "what color", "candidates": ["red", "blue"], "answer": "red"}
    for task in tasks:
        rows = [row] if task != "episodic_reasoning" else [row | {"video": "a", "start": 0.5, "end": 1.5}]
        rows = rows if task != "action_sequence" else [row | {"start": 2.0, "end": 5.0}]
        write_text(root / f"json/{task}.json", json.dumps(rows))
    (root / "star/Charades_v1_480").mkdir(parents=True)
    shutil.copy(next((place / "data/videos").glob("*.mp4")), root / "star/Charades_v1_480/a.mp4")
    (root / "tvqa/frames_fps3_hq/a").mkdir(parents=True)
    for number in range(1, 9):
        Image.new("RGB", (32, 32), (number, 0, 0)).save(root / f"tvqa/frames_fps3_hq/a/{number:05}.jpg")
    args = ("--model", str(trained_runs / "stage2" / "model"), "--allow-missing")
    for out, more in (("plain", ()), ("cached", ("--cache", str(tmp_path / "sketches")))):
        assert main(["evaluate", "mvbench", str(root), "--out", str(tmp_path / out), *args, *more]) == 0
        predictions, metrics = results(tmp_path / out)
        assert [one.id for one in predictions] == [
            *("action_sequence_0", "action_prediction_0", "object_interaction_0", "episodic_reasoning_0")
        ]
        assert predictions[0].visual_tokens < predictions[1].visual_tokens
        assert 0 < predictions[3].visual_tokens < predictions[1].visual_tokens
        assert "Avg" not in metrics["columns"]
    assert results(tmp_path / "plain")[0] == results(tmp_path / "cached")[0]


def test_an_arm_with_settings_of_its_own(place: Path, trained_runs: Path, tmp_path: Path, capsys: Capture) -> None:
    """As `model.arms` takes it; called again, nothing is asked."""
    chosen = json.dumps({"class_path": "capped_rate", "init_args": {"fps": 0.25}})
    for _ in range(2):
        assert evaluate(place, trained_runs, tmp_path / "run", "--rows", "1", "--arms", chosen, "blind") == 0
    assert results(tmp_path / "run")[1]["arms"].keys() == {"capped_rate(fps=0.25)", "blind"}
    assert len((tmp_path / "run" / "answers" / "0.jsonl").read_text().splitlines()) == 2
    assert evaluate(place, trained_runs, tmp_path / "other", "--arms", '{"class_path"') == 1
    assert "JSON with class_path and init_args" in capsys.readouterr().err
