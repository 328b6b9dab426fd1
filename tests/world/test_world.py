"""The embedded world as files: whole or not there, the same bytes each time, and what the rows say they are."""

import errno
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dynfocus.errors import ConfigError, DataError, DiskError
from dynfocus.settings import FrameRule
from dynfocus.video import read_clip, read_image
from dynfocus.world import build_rows, dataset, folder, pixels, questions
from dynfocus.world.dataset import write_world
from dynfocus.world.pixels import render
from dynfocus.world.recipes import EASY
from dynfocus.world.videos import WorldVideo, sample_image, sample_video

RULE = FrameRule(size=48, interpolation="box")
SIZES = {"videos": 12, "val": 2, "test": 3, "workers": 0, "progress": False}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return write_world(tmp_path_factory.mktemp("world") / "w", **SIZES)


@pytest.fixture(scope="module")
def rows(world) -> dict[str, list[dict]]:
    return {name: json.loads((world / f"{name}.json").read_text()) for name in ("stage1", "stage2", "val", "test")}


def source(row: dict) -> WorldVideo:
    return (sample_video if "video" in row else sample_image)(row["seed"], row["index"])


def test_images_are_lossless(world, rows):
    row = next(row for row in rows["stage2"] if "image" in row)
    assert (read_image(world / row["image"], RULE).frames[0].numpy() == render(source(row))[0]).all()
    with Image.open(world / row["image"]) as image:
        assert image.size == (96, 96)


def test_every_row_points_to_its_own_pixels(world, rows):
    """The file that a row names shows the video that its seed and index give."""
    some = {row["video"]: row for name in rows for row in rows[name] if "video" in row}
    assert sorted(some) == sorted(str(path.relative_to(world)) for path in (world / "videos").iterdir())
    for path, row in some.items():
        clip = read_clip(world / path, RULE)
        assert np.abs(clip.frames.numpy().astype(int) - render(source(row))).mean() < 3
    images = {row["image"] for name in rows for row in rows[name] if "image" in row}
    assert images <= {str(path.relative_to(world)) for path in (world / "images").iterdir()}


def test_the_world_is_the_same_however_many_render_it(world, tmp_path):
    """Bytes of every file, over processes and over calls."""
    again = write_world(tmp_path / "again", **{**SIZES, "workers": 2})
    assert digest(again) == digest(world)
    other = write_world(tmp_path / "other", **{**SIZES, "videos": 2, "seed": 1})
    assert not set(digest(other).values()) & {v for k, v in digest(world).items() if k != "stage1.json"}


def digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_written_world_is_kept(world, monkeypatch):
    monkeypatch.setattr(dataset, "render", None)  # drawing anything would fail
    before = {path: path.stat().st_mtime_ns for path in world.rglob("*")}
    assert write_world(world, **SIZES) == world
    assert {path: path.stat().st_mtime_ns for path in world.rglob("*")} == before


def test_two_that_write_the_same_world_do_not_disturb_each_other(world, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "check_room", lambda its: shutil.copytree(world, its.root))  # the other was faster
    assert digest(write_world(tmp_path / "w", **SIZES)) == digest(world)
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"videos": 11}, {"stage2": 5}, {"content": 0}, {"settings": replace(EASY, glitches=1)}],
)
def test_a_world_of_other_settings_is_refused(world, tmp_path, monkeypatch, change):
    if "content" in change:
        old = shutil.copytree(world, tmp_path / "old")
        (old / "world.json").write_text(json.dumps(json.loads((old / "world.json").read_text()) | change))
        world, change = old, {}
    before = digest(world)
    with pytest.raises(ConfigError, match="holds a world with"):
        write_world(world, **{**SIZES, **change})
    assert digest(world) == before


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (pixels, "NOISE", 9.0),
        (pixels, "THING_RGB", {**pixels.THING_RGB, "red": (1, 2, 3)}),
        (pixels, "OUTLINE", np.zeros(3)),
        (build_rows, "TEXT_SHARE", 0.5),
        (questions, "NUMBERS", ("none", "one", "two")),
        (dataset, "ENCODER", dataset.ENCODER | {"crf": "40"}),
    ],
)
def test_a_world_of_other_constants_is_refused(tmp_path, monkeypatch, module, name, value):
    sizes = {"videos": 1, "val": 1, "test": 1, "workers": 0, "progress": False}
    with monkeypatch.context() as change:
        change.setattr(module, name, value)
        other = write_world(tmp_path / "other", **sizes)
    before = digest(other)
    with pytest.raises(ConfigError, match=rf"holds a world with [^=]*{name}="):
        write_world(other, **sizes)
    assert digest(other) == before
    monkeypatch.setattr(module, name, value)
    assert write_world(other, **sizes) == other


def test_a_world_that_does_not_say_its_constants_is_refused(world, tmp_path):
    old = shutil.copytree(world, tmp_path / "old")
    settings = json.loads((old / "world.json").read_text())
    (old / "world.json").write_text(json.dumps({name: settings[name] for name in settings if name != "constants"}))
    with pytest.raises(ConfigError, match=r"holds a world with dataset.ENCODER=None.* and \d+ more"):
        write_world(old, **SIZES)


def test_a_folder_of_anything_else_is_refused(tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="is no world"):
        write_world(tmp_path / "w", **SIZES)
    assert (tmp_path / "w" / "thesis.tex").read_text() == "years of work"


def test_a_world_that_lost_files_is_named(world, tmp_path):
    broken = shutil.copytree(world, tmp_path / "broken")
    (broken / "videos" / "val_000001.mp4").unlink()
    with pytest.raises(DataError, match=r"lacks 1 of its files, such as videos/val_000001\.mp4"):
        write_world(broken, **SIZES)


@pytest.mark.parametrize("wrong", [{"videos": 0}, {"seed": -1}, {"test": 0}, {"stage1": -1}, {"workers": -1}])
def test_numbers_out_of_range_are_refused(tmp_path, wrong):
    name = next(iter(wrong))
    with pytest.raises(ConfigError, match=f"{name}={wrong[name]}"):
        write_world(tmp_path / "w", **{**SIZES, **wrong})
    assert not list(tmp_path.iterdir())


def test_a_disk_without_room_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 10**6, 10**6))
    with pytest.raises(DiskError, match=r"1 MB free in .* about 3 MB for 17 videos and 6 images"):
        write_world(tmp_path / "w", **SIZES)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".mp4", ".png", ".json"])
def test_a_disk_that_fills_up_meanwhile_leaves_nothing(tmp_path, monkeypatch, suffix):
    def fill_up(write):
        def write_or_fail(path, data):
            if path.suffix == suffix:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(path, data)

        return write_or_fail

    monkeypatch.setattr(Path, "write_bytes", fill_up(Path.write_bytes))
    monkeypatch.setattr(Path, "write_text", fill_up(Path.write_text))
    with pytest.raises(DiskError, match="No space left on device"):
        write_world(tmp_path / "w", **{**SIZES, "videos": 1, "val": 1, "test": 1})
    assert not list(tmp_path.iterdir())


SCRIPT = """
from dynfocus.world.dataset import write_world
if __name__ == "__main__":
    write_world("w", videos=4000, workers=2)
"""


def test_an_interrupted_world_leaves_nothing(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {"PYTHONPATH": str(Path(dataset.__file__).parents[2]), "PATH": ""}
    process = subprocess.Popen(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".w.*/videos/*.mp4")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode != 0
    assert b"KeyboardInterrupt" in error
    assert [path.name for path in tmp_path.iterdir()] == ["script.py"]


def test_workers_end_with_their_parent(tmp_path):
    """A killed command leaves no process behind that would wait for work for ever."""
    command = [sys.executable, "-m", "dynfocus", "world", str(tmp_path / "w"), "--videos", "4000"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "16/" not in process.stderr.read(1 << 5):  # the bar, once both workers have begun
            assert process.poll() is None
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.kill()
    assert len(children) >= 2
    end = time.monotonic() + 120
    while left := [pid for pid in children if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < end, f"{left} go on"
        time.sleep(0.1)
