"""Runs on annotation files of one's own, and runs that go on with other batches than they began with."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_world import call


def start(trained_runs: Path) -> tuple[str, str]:
    return "--model.init_from", str(trained_runs / "stage1" / "projectors.safetensors")


def own(folder: Path, **files: str) -> tuple[str, str]:
    """The world's rows as if they were a person's own files."""
    lines = ["data:", "  class_path: datamodules.conversations.ConversationDataModule", "  init_args:"]
    (folder / "own.yaml").write_text("\n".join([*lines, f"    files: {json.dumps(files)}", ""]))
    return "--config", str(folder / "own.yaml")


def test_without_a_test_file_nothing_is_tested(
    place: Path, trained_runs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = own(tmp_path, train="stage2.json")
    assert call(place, "fit", "stage2", tmp_path / "run", *start(trained_runs), *data, "--trainer.max_steps", "2") == 0
    with caplog.at_level("INFO"):
        assert call(place, "test", "stage2", tmp_path / "run", *data) == 0
    assert "nothing is tested" in caplog.text
    assert not (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.parametrize("split", ["val", "test"])
def test_rows_that_cannot_be_scored_are_refused_before_anything_trains(
    place: Path, trained_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], split: str
) -> None:
    data = own(tmp_path, train="stage2.json", **{split: "stage1.json"})
    if split == "test":
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "model").symlink_to(trained_runs / "stage2" / "model")
    verb = "fit" if split == "val" else "test"
    assert call(place, verb, "stage2", tmp_path / "run", *start(trained_runs), *data) == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "which does not say what its question asks for" in message
    assert f"Leave {split} out of data.init_args.files" in message


@pytest.mark.parametrize("batch", [1, 4])
def test_a_run_goes_on_with_other_batches(place: Path, trained_runs: Path, tmp_path: Path, batch: int) -> None:
    """Steps stay what they are: only in how many batches their rows are read differs."""
    more = (*start(trained_runs), "--data.init_args.global_batch", "4", "--trainer.limit_val_batches", "0")
    two = (*more, "--data.init_args.batch_size", "2")
    assert call(place, "fit", "stage2", tmp_path / "whole", *two) == 0
    assert call(place, "fit", "stage2", tmp_path / "run", *two, "--trainer.max_steps", "5") == 0
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert torch.load(checkpoint, weights_only=True)["accumulated"] == 2
    other = (*more, "--data.init_args.batch_size", str(batch), "--ckpt_path", str(checkpoint))
    (tmp_path / "run" / "config.yaml").unlink()  # or the run is moved aside, with its checkpoint
    assert call(place, "fit", "stage2", tmp_path / "run", *other) == 0
    cards = [json.loads((tmp_path / run / "fit.json").read_text())["steps"] for run in ("whole", "run")]
    assert cards[0] == cards[1]
    whole, rest = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("whole", "run"))
    for name, weight in whole.items():
        torch.testing.assert_close(rest[name], weight, atol=5e-3, rtol=5e-2, msg=name)


@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # as another run's checkpoint is read
def test_a_checkpoint_is_tested(place: Path, trained_runs: Path, tmp_path: Path) -> None:
    """As the model that its run has left; the rows that it was trained on are not asked for."""
    checkpoint = ("--ckpt_path", str(trained_runs / "stage2" / "checkpoints" / "last.ckpt"))
    assert call(place, "test", "stage2", tmp_path / "run", *start(trained_runs), *checkpoint) == 0
    metrics, expected = (
        json.loads((run / "metrics.json").read_text()) for run in (tmp_path / "run", trained_runs / "stage2")
    )
    assert metrics["arms"].keys() == expected["arms"].keys()
    assert metrics["columns"] == expected["columns"]
