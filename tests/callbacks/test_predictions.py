"""What a test and a prediction run leave: nothing is overwritten, and names and files say what made them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_world import call

from dynfocus.records.jsonl import read_jsonl
from dynfocus.records.predictions import Prediction

FIRST = ("metrics.json", "predictions.jsonl")


@pytest.fixture
def run(trained_runs: Path, tmp_path: Path) -> Path:
    """A tested run of its own; its model is a link."""
    folder = tmp_path / "stage2"
    folder.mkdir()
    for name in (*FIRST, "finished.json", "fit.json", "config.yaml"):
        shutil.copy(trained_runs / "stage2" / name, folder)
    (folder / "model").symlink_to(trained_runs / "stage2" / "model")
    return folder


def content(run: Path, number: str = "") -> list[bytes]:
    return [(run / name.replace(".", f"{number}.", 1)).read_bytes() for name in FIRST]


def arms(run: Path) -> dict[str, list[Prediction]]:
    result: dict[str, list[Prediction]] = {}
    for one in read_jsonl(run / "predictions.jsonl", Prediction):
        result.setdefault(one.arm, []).append(one)
    return result


def test_another_selector_is_named_and_the_results_of_before_stay(
    place: Path, run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = content(run)
    more = ("--model.connector.selector", "uniform", "--model.arms", "[learned, random, uniform]")
    with caplog.at_level("INFO", logger="lightning.pytorch.utilities.rank_zero"):
        assert call(place, "test", "stage2", run, *more) == 0
    result = arms(run)
    assert list(result) == ["uniform", "random"]
    assert {one.kept for one in result["uniform"]} == {(3, 10, 16)}
    assert json.loads((run / "metrics.json").read_text())["arms"].keys() == result.keys()
    assert content(run, ".1") == before
    assert f"{run / 'metrics.json'} now lies in {run / 'metrics.1.json'}" in caplog.text
    assert call(place, "test", "stage2", run, *more, "--again") == 0
    assert content(run, ".1") == before
    assert (run / "metrics.2.json").exists()


def test_a_prediction_run_leaves_the_tests_results_alone(place: Path, run: Path) -> None:
    before = content(run)
    assert call(place, "predict", "stage2", run, "--trainer.limit_predict_batches", "1") == 0
    assert content(run) == before
    result = list(read_jsonl(run / "predict.jsonl", Prediction))
    assert [one.arm for one in result] == ["learned"] * 16
    assert call(place, "predict", "stage2", run, "--model.connector.selector", "uniform") == 0
    assert {one.arm for one in read_jsonl(run / "predict.jsonl", Prediction)} == {"uniform"}
    assert list(read_jsonl(run / "predict.1.jsonl", Prediction)) == result
    card = json.loads((run / "predict.json").read_text())
    assert (card["n"], card["made_by"]["settings"]["connector"]["selector"]) == (16, "uniform")


def test_an_untrained_score_net_is_called_so_and_is_the_same_in_any_batch(place: Path, run: Path) -> None:
    kept: list[Any] = []
    for size in ("3", "64"):
        more = ("--model.arms", "[learned, dpe]", "--data.init_args.eval_batch_size", size)
        assert call(place, "test", "stage2", run, *more) == 0
        assert list(arms(run)) == ["learned", "dpe (untrained)"]
        kept.append([one.kept for one in arms(run)["dpe (untrained)"]])
    assert kept[0] == kept[1]


def test_predictions_hold_what_a_report_card_reads(place: Path, run: Path) -> None:
    rows = json.loads((place / "data" / "test.json").read_text())
    needed = {row["id"]: tuple(map(tuple, row["questions"][-1]["segments"])) for row in rows}
    result = arms(run)
    assert {one.id: one.segments for one in result["learned"]} == needed
    assert any(needed.values())
    assert {one.seconds for one in result["learned"]} == {tuple(float(n) for n in range(20))}
    for one in result["learned"]:
        assert len(one.scores) == 20
        assert max(one.scores) == max(one.scores[frame] for frame in one.kept)
    assert {(one.seconds, one.scores) for one in result["blind"]} == {((), ())}


def test_a_trial_of_one_batch_leaves_no_result(place: Path, run: Path) -> None:
    before = content(run)
    names = {path.name for path in run.iterdir()}
    for verb in ("test", "predict"):
        assert call(place, verb, "stage2", run, "--trainer.fast_dev_run", "true") == 0
    assert content(run) == before
    assert {path.name for path in run.iterdir()} == names


def test_results_say_what_made_them(place: Path, run: Path) -> None:
    assert call(place, "test", "stage2", run, "--model.connector.keep", "0.2", "--trainer.limit_test_batches", "1") == 0
    metrics = json.loads((run / "metrics.json").read_text())
    origin = metrics["made_by"]
    assert origin["command"] == "test"
    assert origin["settings"]["connector"]["keep"] == 0.2
    assert origin["settings"]["init_from"] == str(run / "model")
    assert origin["data"] == {"root": str(place / "data"), "files": {"test": "test.json"}}
    assert metrics["arm"] == "learned"
    prior = metrics["text_prior"]
    assert metrics["recipe"] == "easy"
    assert prior["balanced"]["n"] == metrics["columns"]["balanced"]["n"], "of one arm's questions, not of all arms'"
    assert 0 <= prior["balanced"]["value"] <= 1
