"""`make tensorboard`: which run it shows, and what it says where there is none."""

import os
from pathlib import Path

import pytest
from sandbox import Clone

SHOWN = "-m tensorboard.main --logdir "
NAMED = "-m tensorboard.main --logdir_spec "


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def leave(clone: Clone, run: str, time: float) -> None:
    """What a run of that time leaves."""
    folder = clone.folder / run / "tensorboard"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"events.out.tfevents.{time:.0f}.host.1.0"
    file.touch()
    os.utime(file, (time, time))


def shown(clone: Clone, *args: str) -> str:
    code, out, calls = clone.make("tensorboard", *args)
    assert code == 0, out
    [call] = [call for call in calls if "tensorboard" in call]
    folder = call.removeprefix(SHOWN).removeprefix(NAMED).split(" --")[0].rpartition(":")[2]
    assert f"showing {folder};" in out
    return call


def test_the_last_run_is_shown(clone: Clone) -> None:
    for n in range(40):
        leave(clone, f"runs/mine/run {n}", 1000 + n)
    leave(clone, "runs/world/stage2", 3000)
    leave(clone, "runs/world/stage1", 2000)
    assert shown(clone) == f"{NAMED}world/stage2:runs/world/stage2/tensorboard"
    leave(clone, "runs/my own/stage 1", 4000)
    named = f"{NAMED}my own/stage 1:runs/my own/stage 1/tensorboard"
    assert shown(clone, "ARGS=--port 6007") == f"{named} --port 6007"
    leave(clone, "runs/world/stage1", 5000)
    assert shown(clone) == f"{NAMED}world/stage1:runs/world/stage1/tensorboard"
    leave(clone, "runs/a, b/stage1", 6000)  # a name that the option cannot hold
    assert shown(clone) == f"{SHOWN}runs/a, b/stage1/tensorboard"


def test_a_folder_of_ones_choice_is_shown_whole(clone: Clone) -> None:
    leave(clone, "runs/world/stage2", 3000)
    leave(clone, "elsewhere/it's mine", 1000)
    assert shown(clone, "RUN=elsewhere/it's mine") == f"{SHOWN}elsewhere/it's mine"
    assert shown(clone, "RUN=runs") == f"{SHOWN}runs"


def test_where_there_is_no_run_a_sentence_says_so(clone: Clone) -> None:
    for args, where in (((), "runs"), (("RUN=nowhere",), "nowhere")):
        code, out, calls = clone.make("tensorboard", *args)
        assert code != 0
        assert f"no run has logged anything in {where} yet: make stage2 trains one" in out
        assert not [call for call in calls if "tensorboard" in call]
    (clone.folder / "runs/world/stage1").mkdir(parents=True)
    assert clone.make("tensorboard")[0] != 0
