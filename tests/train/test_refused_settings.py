"""What cannot be done is said in one sentence, never by a traceback: settings, files and places, through `dynfocus`."""

from pathlib import Path

import pytest
import tiny
from saved_models import save_model
from tiny_world import arguments

from dynfocus.cli import main

Capture = pytest.CaptureFixture[str]
AFRESH = ("--model.init_from", "null")
NO_SPLIT = """
data:
  class_path: datamodules.conversations.ConversationDataModule
  init_args:
    files: {train: stage2.json}
"""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--trainer.devices", "two"), "should be an int > 0"),
        (("--trainer.accumulate_grad_batches", "0"), "trainer.accumulate_grad_batches = 0"),
        (("--data.init_args.batch_size", "0"), "batch_size = 0. Needed: at least 1"),
        (("--data.init_args.eval_batch_size", "0"), "eval_batch_size = 0. Needed: at least 1"),
        (("--data.init_args.num_workers", "-1"), "num_workers = -1. Needed: at least 0"),
        (
            ("--trainer.default_root_dir", "{file}/run"),
            "/a file/run, which cannot be read or written (Not a directory)",
        ),
        (("--trainer.default_root_dir", "/sys/run"), "/sys/run, which this user may not read or write"),
        (("--config", "{binary}"), "which is no text in UTF-8 (byte 0"),
    ],
)
def test_settings_of_fit(words: tuple[str, ...], told: str, place: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "a file").write_text("")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01")
    more = [word.format(file=tmp_path / "a file", binary=tmp_path / "binary.yaml") for word in words]
    assert main(arguments(place, "fit", "stage2", tmp_path / "run", *AFRESH, *more)) == 1
    assert told in capsys.readouterr().err


def test_a_missing_stage_1_advises_its_command(place: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(arguments(place, "fit", "stage2", tmp_path / "stage2")) == 1
    told = capsys.readouterr().err
    assert "stage1/projectors.safetensors, which model.init_from names" in told
    assert "Run `make stage1` first, or `dynfocus fit --config dynfocus:stage1`" in told
    assert "towers" not in told


@pytest.mark.parametrize(("verb", "split"), [("predict", "test"), ("validate", "val")])
def test_data_without_the_rows_of_a_verb(verb: str, split: str, place: Path, tmp_path: Path, capsys: Capture) -> None:
    save_model(tiny.model(), tmp_path / "run" / "model")
    (tmp_path / "rows.yaml").write_text(NO_SPLIT)
    command = arguments(place, verb, "stage2", tmp_path / "run", "--config", str(tmp_path / "rows.yaml"))
    assert main([*command, "--data.init_args.root", str(place / "data")]) == 1
    assert f"`dynfocus {verb}` of data that name no file of the split {split}" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["world", "answer"])
def test_a_place_below_a_file(verb: str, folder: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "q.csv").write_text("video,question\na.mp4,what\n")
    place = str(tmp_path / "file" / "x")
    words = {
        "world": ["world", place, "--videos", "2", "--val", "1", "--test", "1"],
        "answer": ["answer", "--questions", str(tmp_path / "q.csv"), "--out", place, "--model", str(folder)],
    }
    assert main(words[verb]) == 1
    assert "which cannot be read or written (Not a directory)" in capsys.readouterr().err
