"""What several real processes write is what one writes: predictions, their order, and the numbers over them."""

import json
from pathlib import Path

import pytest
from spawn_ranks import together
from tiny_world import call

from dynfocus.records.jsonl import read_jsonl
from dynfocus.records.predictions import Prediction


def answer_rows(place: Path, trained_runs: Path, run: Path, verb: str, *more: str) -> None:
    run.mkdir(exist_ok=True)
    if not (run / "model").exists():
        (run / "model").symlink_to(trained_runs / "stage2" / "model")
    assert call(place, verb, "stage2", run, *more) == 0


@pytest.mark.parametrize("verb", ["test", "predict"])
def test_three_processes_write_what_one_writes(place: Path, trained_runs: Path, tmp_path: Path, verb: str) -> None:
    """16 rows on three processes: two of them answer an extra one, which is counted nowhere."""
    one, three = tmp_path / "one", tmp_path / "three"
    answer_rows(place, trained_runs, one, verb)
    many = ("--trainer.devices", "3", "--trainer.strategy", "ddp", "--data.init_args.eval_batch_size", "4")
    (three).mkdir()
    (three / "model").symlink_to(trained_runs / "stage2" / "model")
    together(lambda rank: answer_rows(place, trained_runs, three, verb, *many), 3)
    name = "predictions.jsonl" if verb == "test" else "predict.jsonl"
    predictions, expected = (list(read_jsonl(run / name, Prediction)) for run in (three, one))
    assert len(predictions) == 16 * (4 if verb == "test" else 1)
    assert predictions == expected
    if verb == "test":
        ours, theirs = (
            json.loads((run / "metrics.json").read_text()) | {"seconds": 0, "made_by": None} for run in (three, one)
        )
        assert ours == theirs


def test_predictions_stand_in_the_order_of_the_rows(place: Path, trained_runs: Path, tmp_path: Path) -> None:
    """Whatever the batch size: arm after arm, and each arm's in the order of the annotation file."""
    answer_rows(place, trained_runs, tmp_path / "run", "test", "--data.init_args.eval_batch_size", "3")
    predictions = list(read_jsonl(tmp_path / "run" / "predictions.jsonl", Prediction))
    rows = [row["id"] for row in json.loads((place / "data" / "test.json").read_text())]
    assert [p.id for p in predictions] == rows * 4
    assert [p.arm for p in predictions[:: len(rows)]] == ["learned", "uniform", "random", "blind"]
