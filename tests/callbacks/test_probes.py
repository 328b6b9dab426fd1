"""The videos that are looked at at every validation, through the real command line on the miniature world."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from observed_runs import AFRESH, ANSWERS, BRIEF, PROBES, events, pictures, run_with_observers, tags
from tiny_world import call

from callbacks.probes import Look, Probes, compute_churn, draw_look, make_title, read_looks
from dynfocus.errors import ConfigError, DataError
from dynfocus.models.collate import Example
from dynfocus.models.model import DynFocusModel
from dynfocus.models.processor import DynFocusProcessor
from dynfocus.records.rows import Row, Turn
from dynfocus.records.selections import Selection
from dynfocus.video import read_media


@pytest.fixture(scope="module")
def looks(observed_run: Path) -> list[Look]:
    return read_looks(observed_run / "selections.jsonl")


def test_every_tag_is_there_with_its_steps(accumulator: Any) -> None:
    probes = [f"probes/{phase}/{n + 1}-{phase}_00000{n}" for phase in ("test", "val") for n in range(2)]
    assert tags(accumulator, "images", "") == probes
    kinds = [f"dpe/{phase}/{name}" for phase in ("test", "val") for name in ("rho_delta", "scores")]
    assert tags(accumulator, "histograms", "") == kinds
    assert tags(accumulator, "scalars", "dpe/") == ["dpe/val/churn"]
    for tag in (*probes, *kinds):
        events_of = accumulator.Images if tag.startswith("probes") else accumulator.Histograms
        assert [one.step for one in events_of(tag)] == ([0, 6, 10, 12] if "/val/" in tag else [0])
    assert [one.step for one in accumulator.Scalars("dpe/val/churn")] == [6, 10, 12]


def test_pictures_are_of_a_readable_size_and_of_their_own_video(accumulator: Any) -> None:
    drawn = [pictures(accumulator, tag) for tag in tags(accumulator, "images", "probes/")]
    for one in drawn:
        assert all(picture.shape[1:] == (1200, 3) and picture.shape[0] > 500 for picture in one)
    first, second = drawn[0][0], drawn[1][0]
    strip = slice(140, 190)  # where the frames stand
    assert first.shape[1:] == second.shape[1:]
    assert (first[strip] != second[strip]).mean() > 0.1


def test_histograms_and_churn_are_those_of_the_lines(accumulator: Any, looks: list[Look]) -> None:
    for phase, step in (("val", 6), ("val", 12), ("test", 0)):
        now = [look.selection for look in looks if (look.phase, look.step) == (phase, step)]
        for name, values in (("scores", [s.scores for s in now]), ("rho_delta", [s.peaks for s in now])):
            histogram = next(
                one for one in accumulator.Histograms(f"dpe/{phase}/{name}") if one.step == step
            ).histogram_value
            assert histogram.num == len(np.concatenate(values))
            assert histogram.sum == pytest.approx(np.concatenate(values).sum(), rel=1e-5)
    kept = [
        {(look.row, frame) for look in looks if look.step == step for frame in look.selection.kept} for step in (10, 12)
    ]
    assert accumulator.Scalars("dpe/val/churn")[-1].value == pytest.approx(len(kept[1] - kept[0]) / len(kept[1]))


def test_lines_hold_what_the_trained_model_selects(place: Path, observed_run: Path, looks: list[Look]) -> None:
    """Computed anew from pixels, with the model that the run has left, by the equations."""
    model = DynFocusModel.from_folder(observed_run / "model").eval()
    processor = DynFocusProcessor.from_pretrained(observed_run / "model")
    tested = [look for look in looks if look.phase == "test"]
    assert len(tested) == 2
    for look in tested:
        clip = read_media(place / "data" / look.media, processor.frame_rule)
        row = Row("", 0, look.media, (Turn(look.question, None),))
        with torch.no_grad():
            ids, video = model.answer(processor.collate([Example(row, model.sketch(clip.frames))]), max_new_tokens=6)
        focus, selection = video.focus, look.selection
        assert focus is not None
        assert focus.events is not None
        assert focus.scores is not None
        assert look.answer == processor.decode(ids[0], skip_special_tokens=True).strip()
        assert look.cut == (model.generation_config.eos_token_id not in ids[0].tolist())
        assert selection.seconds == tuple(clip.seconds.tolist())
        assert selection.kept == tuple(focus.frames[0].tolist())
        assert selection.visual_tokens == int(video.mask.sum())
        assert selection.rods == 2 * len(selection.seconds)
        peaks = torch.exp(-focus.events.spread[0]) * focus.events.distance[0]
        assert selection.peaks == pytest.approx(peaks.tolist(), rel=1e-4, abs=1e-6)
        assert selection.scores == pytest.approx(focus.scores[0].tolist(), abs=1e-5)
        assert selection.representatives == tuple(focus.events.frames[0].tolist())
        assert selection.nearest == tuple(focus.events.labels[0].tolist())


def test_lines_know_the_truth_of_their_row(place: Path, looks: list[Look]) -> None:
    rows = {split: json.loads((place / "data" / f"{split}.json").read_text()) for split in ("val", "test")}
    for look in looks:
        row = rows[look.phase][look.row]
        assert (row["id"], row["video"]) == (look.id, look.media)
        [question] = row["questions"]
        assert (question["text"], question["answer"]) == (look.question, look.truth)
        assert look.selection.relevant == tuple(map(tuple, question["segments"]))
        assert look.selection.relevant  # rows whose question knows its frames come first
    assert [(look.phase, look.step, look.epoch) for look in looks[::2]] == [
        *(("val", step, 0) for step in (0, 6, 10, 12)),
        ("test", 0, 0),
    ]


def test_where_nothing_is_validated_training_videos_are_looked_at(place: Path) -> None:
    run = run_with_observers(place, place / "runs" / "watched1", "--trainer.max_epochs", "2", stage="stage1")
    looks = read_looks(run / "selections.jsonl")
    ends = json.loads((run / "fit.json").read_text())["steps"]
    steps = sorted({0, ends // 2, ends, *(step for step in (10, 30, 100) if step < ends)})
    assert [(look.phase, look.step) for look in looks] == [("train", step) for step in steps for _ in range(4)]
    assert len({look.media for look in looks}) == 4
    assert all(look.media.startswith("videos/") and look.truth for look in looks)
    accumulator = events(run)
    assert len(tags(accumulator, "images", "probes/train/")) == 2, "of the first ones alone"
    assert [one.step for one in accumulator.Scalars("dpe/train/churn")] == steps[1:]


def test_an_interrupted_run_goes_on_with_the_same_lines(place: Path, tmp_path: Path) -> None:
    every = ("--trainer.val_check_interval", "4", "--trainer.max_steps", "8")
    whole = run_with_observers(place, tmp_path / "whole", *every) / "selections.jsonl"
    run = tmp_path / "again"
    stop = ("--trainer.callbacks+=tiny_world.StopOnce", f"--trainer.callbacks.mark={tmp_path / 'stopped'}")
    assert call(place, "fit", "stage2", run, *AFRESH, PROBES, ANSWERS, *every, *stop) == 130
    kept = run / "selections.jsonl"
    assert {look.step for look in read_looks(kept)} == {0, 4}
    assert call(place, "fit", "stage2", run, *AFRESH, PROBES, ANSWERS, *every, *stop) == 0
    assert kept.read_bytes() == whole.read_bytes()
    assert {look.step for look in read_looks(kept)} == {0, 4, 8}


def test_what_is_looked_at_again_stands_once(
    place: Path, observed_run: Path, looks: list[Look], tmp_path: Path
) -> None:
    """A second test with the same selector takes the place of the first; one with another selector stands beside it."""
    again = tmp_path / "again"
    shutil.copytree(observed_run, again)
    run_with_observers(place, again, "--model.connector.selector", "uniform", verb="test")
    other = read_looks(again / "selections.jsonl")
    assert other[: len(looks)] == looks
    uniform = other[len(looks) :]
    assert [(look.phase, look.step, look.row, look.arm) for look in uniform] == [
        (look.phase, look.step, look.row, "uniform") for look in looks if look.phase == "test"
    ]
    assert all(look.selection.kept == (3, 10, 16) for look in uniform)
    assert call(place, "test", "stage2", again, PROBES, "--trainer.callbacks.videos", "1") == 0
    last = read_looks(again / "selections.jsonl")
    assert [*last[:8], *last[9:]] == [*looks[:8], *uniform]
    # Alone in its batch a video's scores may differ in their last digits.
    assert replace(last[8], selection=looks[8].selection) == looks[8]
    assert last[8].selection.kept == looks[8].selection.kept


def test_churn_is_the_share_of_kept_frames_that_are_new() -> None:
    def look(row: int, *kept: int) -> Look:
        return Look("val", 1, 0, row, "r", "v.mp4", "q", "a", "t", Selection((0.0,) * 9, kept, 0, 0))

    before = [look(0, 1, 2, 3), look(1, 5)]
    assert compute_churn([look(0, 1, 2, 8), look(1, 6)], before) == 2 / 4
    assert compute_churn([look(0, 1), look(7, 1)], before) == 0  # what was not looked at has no past
    assert compute_churn([look(0)], before) is None


def test_a_title_names_no_step_that_is_not_known() -> None:
    """`dynfocus validate` and `dynfocus test` read a trained model, and count no steps."""
    for phase, step, place in (
        ("train", 0, "train, step 0"),
        ("val", 6, "val, step 6"),
        ("val", 0, "val"),
        ("test", 0, "test"),
    ):
        look = Look(phase, step, 0, 0, "r", "v.mp4", "q", "a", "t", Selection((0.0,), (0,), 0, 0))
        assert make_title(look) == f"v.mp4 ({place})"


def test_a_validation_and_an_early_look_at_one_step_are_one_look(place: Path, tmp_path: Path) -> None:
    run = run_with_observers(place, tmp_path / "run", "--trainer.val_check_interval", "10", "--trainer.max_steps", "10")
    assert [look.step for look in read_looks(run / "selections.jsonl")] == [0, 0, 10, 10]
    accumulator = events(run)
    [first, _] = tags(accumulator, "images", "probes/val/")
    assert [one.step for one in accumulator.Images(first)] == [0, 10]


def test_other_loggers_are_said_to_get_numbers_alone(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = ("--trainer.logger", "lightning.pytorch.loggers.CSVLogger", "--trainer.logger.save_dir", str(tmp_path))
    assert call(place, "fit", "stage2", tmp_path / "run", *BRIEF, PROBES, ANSWERS, *logger) == 0
    told = capsys.readouterr().err
    assert "CSVLogger: given numbers alone; pictures and histograms of probes go to a TensorBoardLogger" in told
    assert "CSVLogger: given numbers alone; sample answers and settings go to a TensorBoardLogger" in told
    [numbers] = tmp_path.rglob("metrics.csv")
    assert "dpe/val/churn" in numbers.read_text()
    run_with_observers(place, tmp_path / "other", *BRIEF)
    assert "given numbers alone" not in capsys.readouterr().err


def test_a_picture_marks_an_answer_that_was_cut_off() -> None:
    look = Look("val", 1, 0, 0, "r", "v.mp4", "q", "a", "t", Selection((0.0,), (0,), 0, 0))
    assert draw_look(look, None).tobytes() != draw_look(replace(look, cut=True), None).tobytes()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "selections.jsonl").write_text('{"phase": "val"}\n')
    with pytest.raises(DataError, match=r"selections\.jsonl, line 1, which is damaged"):
        read_looks(tmp_path / "selections.jsonl")
    with pytest.raises(ConfigError, match="videos = 0"):
        Probes(0)
    with pytest.raises(ConfigError, match="pictures = -1"):
        Probes(pictures=-1)


CASES = {
    "uniform": ("--model.connector.selector", "uniform"),
    "random": ("--model.connector.selector", "random"),
    "one's own": ("--model.connector.selector", "{class_path: observed_runs.Last, init_args: {left_out: 2}}"),
    "average pooling": ("--model.connector.encoder", "average_pooling", "--model.arms", "[learned]"),
    "each frame under the question": (
        *("--model.connector.instruction_mode", "frame", "--data.init_args.sketch_cache", "null"),
    ),
    "every patch": ("--model.connector.kept_tokens", "256"),
    "half precision": ("--trainer.precision", "bf16-mixed", "--trainer.enable_model_summary", "false"),
}


@pytest.mark.parametrize("name", CASES)
def test_whatever_keeps_the_frames(place: Path, tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    assert call(place, "fit", "stage2", run, *BRIEF, PROBES, ANSWERS, *CASES[name]) == 0
    looks, accumulator = read_looks(run / "selections.jsonl"), events(run)
    assert [look.step for look in looks] == [0, 0, 2, 2]
    assert len(tags(accumulator, "images", "probes/val/")) == 2
    has_events = name in ("each frame under the question", "every patch", "half precision")
    assert bool(tags(accumulator, "histograms", "dpe/")) == has_events
    for look in looks:
        assert bool(look.selection.peaks) == bool(look.selection.scores) == has_events
        kept = {"average pooling": 0}.get(name, 3)
        assert len(look.selection.kept) == kept
    if name == "one's own":
        assert looks[0].selection.kept == (15, 16, 17)
