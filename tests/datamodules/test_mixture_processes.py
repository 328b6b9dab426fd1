"""Mixed data sets with broken rows on several processes, in groups, and in runs that are killed."""

import json
from pathlib import Path

import pytest
import torch
from published_layouts import copy_broken_set, data, quarantine, write_published_sets
from safetensors.torch import load_file
from spawn_ranks import together
from tiny_world import call
from training_ranks import alike

MIXED = {"sets": ["cc3m", "webvid", "videochatgpt"], "weights": {"webvid": 2.0, "videochatgpt": 0.5}}
ONE = ("--data.init_args.batch_size", "4", "--trainer.max_epochs", "2")
TWO = ("--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.init_args.batch_size", "2", *ONE[2:])


@pytest.fixture(scope="module")
def root(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Published sets; of the captioned images some cannot be read."""
    folder = tmp_path_factory.mktemp("published")
    sets = write_published_sets(folder / "whole", place / "data")
    copy_broken_set(sets, folder / "broken")
    for name in ("WebVid", "VideoChatGPT"):
        (folder / "broken" / name).symlink_to(sets / name)
    return folder / "broken"


def read_projectors(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "projectors.safetensors")


def read_quarantine(run: Path) -> list[str]:
    return sorted((run / "quarantine.jsonl").read_text().splitlines())


def test_two_processes_learn_and_note_what_one_does(place: Path, root: Path, tmp_path: Path) -> None:
    """Also where batches are arranged by what they cost, over accumulated ones."""
    mixed = (*data(tmp_path / "data", root, **MIXED), *quarantine(0.5))
    assert call(place, "fit", "stage1", tmp_path / "one", *mixed, *ONE) == 0
    together(lambda rank: check(call(place, "fit", "stage1", tmp_path / "two", *mixed, *TWO)))
    assert len(read_quarantine(tmp_path / "one")) == 2
    assert read_quarantine(tmp_path / "one") == read_quarantine(tmp_path / "two")
    alike(read_projectors(tmp_path / "two"), read_projectors(tmp_path / "one"))


def check(code: int) -> None:
    assert code == 0


def test_two_processes_stop_together(place: Path, root: Path, tmp_path: Path) -> None:
    """Only one of them has met a broken row, and both say so."""
    mixed = (*data(tmp_path / "data", root, **MIXED), *quarantine(0.0))

    def fail(rank: int) -> None:
        assert call(place, "fit", "stage1", tmp_path / "run", *mixed, *TWO) == 1

    together(fail)


def test_groups_learn_the_same(place: Path, root: Path, tmp_path: Path) -> None:
    """The doctor counts tokens; then batches are arranged by them, on one process and on two."""
    mixed = data(tmp_path / "data", root, **MIXED)
    assert call(place, "doctor", "stage1", tmp_path / "run", *mixed, "--workers", "0", "--limit", "0.5") == 0
    step = ("--data.init_args.global_batch", "8", "--data.init_args.batch_size", "2")
    group = (*step, "--data.init_args.group", "true")
    assert call(place, "fit", "stage1", tmp_path / "plain", *mixed, *step) == 0
    assert call(place, "fit", "stage1", tmp_path / "grouped", *mixed, *group) == 0
    two = (*group, "--trainer.devices", "2", "--trainer.strategy", "ddp")
    together(lambda rank: check(call(place, "fit", "stage1", tmp_path / "two", *mixed, *two)))
    for run in ("grouped", "two"):
        alike(read_projectors(tmp_path / run), read_projectors(tmp_path / "plain"))
        assert not (tmp_path / run / "quarantine.jsonl").exists()


def test_a_killed_run_ends_with_the_same_bits_and_notes(place: Path, root: Path, tmp_path: Path) -> None:
    """Loader processes have read ahead, and a weight of a half is in the midst of its set."""
    mixed = (*data(tmp_path / "data", root, **MIXED), *quarantine(0.5), *ONE, "--data.init_args.num_workers", "2")
    assert call(place, "fit", "stage1", tmp_path / "whole", *mixed) == 0
    marks = tmp_path / "marks"
    marks.mkdir()
    deadly = ("--trainer.callbacks+=tiny_world.KillAt", f"--trainer.callbacks.marks={marks}")
    deadly += ("--trainer.callbacks.steps=[3, 9, 14]",)
    for _ in range(3):
        with pytest.raises(AssertionError):
            together(lambda rank: check(call(place, "fit", "stage1", tmp_path / "run", *mixed, *deadly)), 1)
    assert len(list(marks.iterdir())) == 3
    assert call(place, "fit", "stage1", tmp_path / "run", *mixed, *deadly) == 0
    one, other = read_projectors(tmp_path / "whole"), read_projectors(tmp_path / "run")
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert read_quarantine(tmp_path / "run") == read_quarantine(tmp_path / "whole")


def test_a_run_does_not_go_on_with_other_rows(
    place: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = (*data(tmp_path / "data", root, sets=["webvid"], sketch_cache=None), *ONE)
    assert call(place, "fit", "stage1", tmp_path / "run", *mixed, "--trainer.max_steps", "1") == 0
    checkpoint = tmp_path / "moved.ckpt"
    (tmp_path / "run" / "checkpoints" / "last.ckpt").rename(checkpoint)
    other = data(tmp_path / "data", root, **MIXED)
    assert call(place, "fit", "stage1", tmp_path / "run", *other, *ONE, "--ckpt_path", str(checkpoint)) == 1
    assert "began with other training rows" in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "fit.json").read_text())["steps"] == 1
