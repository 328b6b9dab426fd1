"""What several real processes write is what one writes: predictions, their order, and the numbers over them."""

import json
from pathlib import Path

import pytest
from spawn_ranks import together
from tiny_world import call

from dynfocus.records.jsonl import read_jsonl
from dynfocus.records.predictions import Prediction


def asked(place: Path, trained: Path, run: Path, verb: str, *more: str) -> None:
    run.mkdir(exist_ok=True)
    if not (run / "model").exists():
        (run / "model").symlink_to(trained / "stage2" / "model")
    assert call(place, verb, "stage2", run, *more) == 0


@pytest.mark.parametrize("verb", ["test", "predict"])
def test_three_processes_write_what_one_writes(place: Path, trained: Path, tmp_path: Path, verb: str) -> None:
    """16 rows on three processes: two of them answer an extra one, which is counted nowhere."""
    one, three = tmp_path / "one", tmp_path / "three"
    asked(place, trained, one, verb)
    many = ("--trainer.devices", "3", "--trainer.strategy", "ddp", "--data.init_args.eval_batch_size", "4")
    (three).mkdir()
    (three / "model").symlink_to(trained / "stage2" / "model")
    together(lambda rank: asked(place, trained, three, verb, *many), 3)
    result, wanted = (list(read_jsonl(run / "predictions.jsonl", Prediction)) for run in (three, one))
    assert len(result) == 16 * (4 if verb == "test" else 1)
    assert result == wanted
    if verb == "test":
        ours, theirs = (json.loads((run / "metrics.json").read_text()) | {"seconds": 0} for run in (three, one))
        assert ours == theirs


def test_predictions_stand_in_the_order_of_the_rows(place: Path, trained: Path, tmp_path: Path) -> None:
    """Whatever the batch size: arm after arm, and each arm's in the order of the annotation file."""
    asked(place, trained, tmp_path / "run", "test", "--data.init_args.eval_batch_size", "3")
    result = list(read_jsonl(tmp_path / "run" / "predictions.jsonl", Prediction))
    rows = [row["id"] for row in json.loads((place / "data" / "test.json").read_text())]
    assert [p.id for p in result] == rows * 4
    assert [p.arm for p in result[:: len(rows)]] == ["learned", "uniform", "random", "blind"]
