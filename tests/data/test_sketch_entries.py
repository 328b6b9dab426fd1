"""Entries of the sketch cache: damage is found and mended, and several processes at once do no harm."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_sketches import count_calls, same
from tiny_world import ROOT

from dynfocus.data.sketches import sketcher
from dynfocus.data.sketches.cache import FillReport
from dynfocus.data.sketches.encoder_folder import EncoderFolder
from dynfocus.data.sketches.entries import DamagedEntryError, read_entry, write_entry
from dynfocus.errors import CheckpointError, DiskError, FeatureError, VideoError


def damaged(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[-100] ^= 4
    path.write_bytes({"cut off": content[:-7], "empty": b"", "header alone": content[:64], "flipped": content}[how])


@pytest.mark.parametrize("how", ["cut off", "empty", "header alone", "flipped", "another's"])
@pytest.mark.parametrize("road", ["read", "fill"])
def test_a_damaged_entry_is_computed_again_and_reported(cache, media, caplog, how: str, road: str) -> None:
    one = cache()
    one.fill(media, workers=0)
    path, whole = one.path(media[2]), one.read(media[2]).sketch
    before = path.read_bytes()
    if how == "another's":
        shutil.copy(one.path(media[0]), path)
    else:
        damaged(path, how)
    with count_calls() as calls:
        if road == "fill":
            flipped = how == "flipped"  # which only reading it shows: filling reads no more than headers
            assert one.fill(media, workers=0) == FillReport(len(media) - (not flipped), 0, int(not flipped), one.folder)
            assert bool(calls) == (not flipped)
        assert same(cache().read(media[2]).sketch, whole)
    assert calls["reader"] == 1
    assert path.read_bytes() == before
    [message] = [record.getMessage() for record in caplog.records]
    assert str(path) in message
    assert str(media[2]) in message
    assert "\n" not in message
    assert same(cache().read(media[2]).sketch, whole)
    assert len(caplog.records) == 1


CRAFTED: dict[str, Any] = {
    "no tensor": lambda whole: {},
    "another name": lambda whole: {"frames" if name == "pooled" else name: one for name, one in whole.items()},
    "one too many": lambda whole: whole | {"more": whole["mask"].clone()},
    "no seconds": lambda whole: {name: one for name, one in whole.items() if name != "seconds"},
    "no frame": lambda whole: {name: one[:0] for name, one in whole.items()},
    "one frame less in one": lambda whole: whole | {"grains": whole["grains"][:-1]},
    "another precision": lambda whole: whole | {"pooled": whole["pooled"].double()},
    "whole numbers": lambda whole: whole | {"mask": whole["mask"].long()},
    "seconds in a table": lambda whole: whole | {"seconds": whole["seconds"][:, None]},
    "a single number": lambda whole: whole | {"seconds": whole["seconds"][0]},
    "other patches": lambda whole: whole | {"pooled": whole["pooled"][:, :-1]},
    "another width": lambda whole: whole | {name: whole[name][..., :-1] for name in ("pooled", "grains")},
}


@pytest.mark.parametrize("road", ["read", "fill", "frames", "entry"])
def test_an_entry_that_holds_no_sketch_is_damaged(cache, media, caplog, road: str) -> None:
    """Key and checksum fit: whoever wrote it made it so. Its tensors are not those of a sketch of these settings."""
    one = cache()
    path, whole = one.path(media[0]), one.read(media[0])
    before, tensors = path.read_bytes(), sketcher.to_tensors(whole)
    for how, change in CRAFTED.items():
        write_entry(path, change(tensors), one.key(media[0]))
        caplog.clear()
        if road == "frames":
            assert one.frames(media[0]) is None, how
            continue
        if road == "entry":
            assert one.load_entry(media[0]) is None, how
        elif road == "fill":
            assert one.fill([media[0]], workers=0) == FillReport(0, 0, 1, one.folder), how
        else:
            assert same(one.read(media[0]).sketch, whole.sketch), how
        [message] = [record.getMessage() for record in caplog.records]
        assert "damaged" in message, how
        assert str(path) in message, how
        assert road == "entry" or path.read_bytes() == before, how


def test_no_flipped_bit_goes_through(tmp_path) -> None:
    """Every byte of a small entry: it is refused, or (where spaces fill up the header) holds the same."""
    path, tensors = tmp_path / "e", {"pooled": torch.randn(3, 4, 2).half(), "mask": torch.ones(3, dtype=torch.bool)}
    write_entry(path, tensors, "key")
    content, harmless = path.read_bytes(), 0
    for n in range(len(content)):
        path.write_bytes(content[:n] + bytes([content[n] ^ (1 << n % 8)]) + content[n + 1 :])
        try:
            result = read_entry(path, "key")
        except DamagedEntryError:
            continue
        assert result is not None
        assert result.keys() == tensors.keys()
        assert all(
            torch.equal(result[name], value) and result[name].dtype == value.dtype for name, value in tensors.items()
        )
        harmless += 1
    assert harmless < 8


@pytest.mark.parametrize("workers", [2, 0])
def test_a_file_that_cannot_be_read_stops_no_other(cache, media, tmp_path, caplog, workers: int) -> None:
    one = cache()
    broken, closed, absent = tmp_path / "broken.mp4", tmp_path / "folder.png", tmp_path / "none.mp4"
    broken.write_bytes(b"no video" * 99)
    closed.mkdir()
    result = one.fill([broken, *media, absent, closed, broken, *media[:1]], workers=workers)
    assert result == FillReport(0, len(media), 0, one.folder, 3)
    assert "3 left out" in str(result)
    output = [record.getMessage() for record in caplog.records]
    for name in (broken, closed, absent):
        assert len([line for line in output if str(name) in line and line.startswith("left out: ")]) == 1
    assert len(output) == 3
    assert one.fill([*media, broken], workers=workers) == FillReport(len(media), 0, 0, one.folder, 1)
    for name in (broken, absent):
        with pytest.raises(VideoError, match=name.name):
            one.read(name)
    assert not list(one.folder.rglob(".*"))


def test_features_of_one_video_that_are_not_finite(cache, media, monkeypatch, caplog) -> None:
    """They leave it out; those of the blank frame as well stop everything, with the first."""
    one, whole = cache(), sketcher.sketch_frames

    def wild(frames: torch.Tensor, *rest: Any) -> Any:
        if len(frames) > 1:
            raise FeatureError("patch features of frame 3 that are NaN", "finite numbers", "Check the frame.")
        return whole(frames, *rest)

    monkeypatch.setattr(sketcher, "sketch_frames", wild)
    assert one.fill(media) == FillReport(0, 3, 0, one.folder, 2)
    assert sum("0.mp4 with patch features" in record.getMessage() for record in caplog.records) == 1
    with pytest.raises(FeatureError, match=r"0\.mp4 with"):
        one.read(media[0])


def test_what_is_wrong_with_more_than_one_file_stops_filling(cache, media, tmp_path, place) -> None:
    state = load_file(place / "towers" / "encoders" / "model.safetensors")
    wild = shutil.copytree(place / "towers" / "encoders", tmp_path / "wild")
    state["vision_model.encoder.layers.0.mlp.fc1.bias"] += torch.nan
    save_file(state, wild / "model.safetensors")
    with pytest.raises(FeatureError, match=r"1\.mp4 with"):
        cache(source=EncoderFolder(wild)).read(media[2])
    with pytest.raises(FeatureError, match="the blank frame with"):
        cache(source=EncoderFolder(wild)).fill(media)
    with pytest.raises(CheckpointError):
        EncoderFolder(tmp_path)
    with pytest.raises(DiskError, match="/proc/none"):
        cache(folder=Path("/proc/none")).fill(media)


def test_the_number_of_frames_is_read_from_the_header(cache, media, tmp_path) -> None:
    one = cache()
    assert [one.frames(medium) for medium in media] == [None] * len(media)
    one.fill(media, workers=0)
    with count_calls() as calls:
        assert [one.frames(medium) for medium in media] == [len(one.read(medium).seconds) for medium in media]
    assert not calls
    content = bytearray(one.path(media[0]).read_bytes())
    content[-100:] = bytes(100)  # which only reading it shows
    one.path(media[0]).write_bytes(content)
    assert one.frames(media[0]) == 20
    damaged(one.path(media[0]), "cut off")
    assert one.frames(media[0]) is None
    assert one.frames(tmp_path / "none.mp4") is None


TOGETHER = """
import json, sys, time, tiny, torch
from pathlib import Path
from tiny_sketches import small_cache
from dynfocus.data.sketches.entries import read_entry, write_entry
place, folder, media, go = (Path(arg) for arg in sys.argv[1:5])
tensors = {"pooled": torch.arange(300_000).half()}
cache = small_cache(place, folder)
go.with_suffix("." + sys.argv[5]).touch()
while not go.exists(): time.sleep(0.001)
filled = cache.fill([*sorted(media.iterdir()), None])
for _ in range(100):
    write_entry(folder / "entry", tensors, "key")
    assert torch.equal(read_entry(folder / "entry", "key")["pooled"], tensors["pooled"])
print(json.dumps([filled.there, filled.computed, filled.mended]))
"""


def together(tmp_path: Path, *args: str) -> list[str]:
    """Run the script in two processes that begin at the same time; returns what they print."""
    go = tmp_path / "go"
    command = [sys.executable, "-c", TOGETHER, *args, str(go)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests" / "support")))}
    both = [
        subprocess.Popen([*command, name], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for name in "ab"
    ]
    deadline = time.monotonic() + 120
    while not (tmp_path / "go.a").exists() or not (tmp_path / "go.b").exists():
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in both), [process.communicate()[1] for process in both]
        time.sleep(0.001)
    go.touch()
    ends = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], [error for _, error in ends]
    return [shown for shown, _ in ends]


def test_two_processes_at_once_do_no_harm(cache, media, tmp_path, place) -> None:
    """They fill one cache, and then write and read one entry of it over and over."""
    one = cache()
    counts = [json.loads(shown) for shown in together(tmp_path, *map(str, (place, one.folder, media[0].parent)))]
    assert all(sum(count) == len(media) and count[2] == 0 for count in counts)
    assert sum(count[1] for count in counts) >= len(media)
    assert not [path for path in one.folder.rglob("*") if path.name.startswith(".")]
    alone = cache(folder=tmp_path / "alone")
    alone.fill(media)
    with count_calls() as calls:
        assert all(same(one.read(medium).sketch, alone.read(medium).sketch) for medium in media)
    assert not calls


def test_shares_are_everyones_and_nobodys_twice(cache, media) -> None:
    counts = [cache().fill(media, share=(rank, 2)) for rank in range(2)]
    assert [filled.there for filled in counts] == [0, 0]
    assert sum(filled.computed for filled in counts) == len(media)
    assert cache().fill(media).there == len(media)
