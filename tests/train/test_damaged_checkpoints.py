"""A damaged checkpoint is noticed: a run goes on from the one before, or says in a sentence that it cannot."""

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_world import call

from dynfocus.errors import CheckpointError
from dynfocus.train.checkpoint_files import BEFORE, LAST, SUMS, AtomicCheckpoint, check_checkpoint, find_checkpoint


class Bomb:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path, str]]:
        return Path.write_text, (self.mark, "it has run")


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: os.truncate(file, 0),
    "cut": lambda file: os.truncate(file, file.stat().st_size // 2),
    "zeros": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "a bit": flip,
    "replaced": lambda file: torch.save({"state_dict": {}}, file),
    "code": lambda file: file.write_bytes(pickle.dumps(Bomb(file.with_name("mark")))),
}


def damage(file: Path, kind: str) -> None:
    """Damage this file, and none that is another name of it."""
    shutil.copy(file, file.with_name("copy"))
    file.with_name("copy").replace(file)
    DAMAGE[kind](file)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Checkpoints after three steps."""
    for step in range(1, 4):
        AtomicCheckpoint().save_checkpoint({"step": step, "weights": torch.arange(1000) * step}, tmp_path / LAST)
    return tmp_path


def test_the_checkpoint_before_is_kept_with_both_checksums(folder: Path) -> None:
    assert {file.name for file in folder.iterdir()} == {LAST, BEFORE, SUMS}
    steps = [AtomicCheckpoint().load_checkpoint(folder / name)["step"] for name in (LAST, BEFORE)]
    assert steps == [3, 2]
    assert find_checkpoint(folder) == (folder / LAST, "")


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_noticed(folder: Path, kind: str) -> None:
    damage(folder / LAST, kind)
    path, sentence = find_checkpoint(folder) or (None, "")
    assert path == folder / BEFORE
    assert sentence.startswith(f"{folder / LAST} is ")
    assert sentence.endswith("going on from the checkpoint before it")
    damage(folder / BEFORE, kind)
    with pytest.raises(CheckpointError, match=rf"{LAST}, which is .* and .*{BEFORE}, which is .*Delete"):
        find_checkpoint(folder)
    (folder / SUMS).unlink()  # as runs of before left them
    shutil.copy(folder / LAST, folder / "other.ckpt")
    if kind != "replaced":
        with pytest.raises(CheckpointError, match=r"no whole checkpoint|is damaged"):
            check_checkpoint(folder / "other.ckpt")
    assert not (folder / "mark").exists()


@pytest.mark.parametrize("moment", ["sums", "link"])
def test_a_kill_between_the_renames_leaves_a_checkpoint_to_go_on_from(folder: Path, moment: str) -> None:
    """The checksums of the next one may be there, and the present one may have two names, before it is replaced."""
    sums = (folder / SUMS).read_text()
    (folder / SUMS).write_text("0" * 64 + "\n" + sums)
    if moment == "link":
        (folder / BEFORE).unlink()
        os.link(folder / LAST, folder / BEFORE)
    assert find_checkpoint(folder) == (folder / LAST, "")


def test_a_run_goes_on_from_the_checkpoint_before(
    place: Path, trained_runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And ends with the bits of a run that was never stopped; with both damaged it ends in a sentence."""
    more = ("--model.init_from", str(trained_runs / "stage1" / "projectors.safetensors"), "--trainer.max_steps", "9")
    assert call(place, "fit", "stage2", place / "runs" / "undamaged", *more) == 0
    run = place / "runs" / "damaged"
    stop = ("--trainer.callbacks+=tiny_world.StopOnce", f"--trainer.callbacks.mark={place / 'stopped once'}")
    assert call(place, "fit", "stage2", run, *more, *stop) == 130
    checkpoints = run / "checkpoints"
    assert (checkpoints / BEFORE).exists()
    shutil.copytree(checkpoints, place / "both")
    for name in (LAST, BEFORE):
        damage(checkpoints / name, "cut")
    capsys.readouterr()
    assert call(place, "fit", "stage2", run, *more, *stop) == 1
    shown = capsys.readouterr().err.strip().splitlines()[-1]
    assert shown.startswith(f"dynfocus: {checkpoints / LAST}, which is")
    shutil.copy(place / "both" / BEFORE, checkpoints / BEFORE)
    assert call(place, "fit", "stage2", run, *more, *stop) == 0
    ends = [load_file(place / "runs" / name / "model" / "model.safetensors") for name in ("undamaged", "damaged")]
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())
