"""Writing shards: everyone's own share, the same files however often it was stopped, and what is left out is listed."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_sketches import RULE, count_calls, list_videos, same, small_cache, small_sketcher
from tiny_world import ROOT

from dynfocus.data.sketches import sketcher as sketching_itself
from dynfocus.data.sketches.shards import SketchShards
from dynfocus.data.sketches.write_shards import ShareReport, write_shards
from dynfocus.errors import ConfigError, DiskError, FeatureError, VideoError

PART = 30_000  # bytes, of which a video takes some eleven thousand


def files(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def entries(tar: Path) -> int:
    return sum(name.endswith(".safetensors") for name in subprocess.check_output(["tar", "tf", tar], text=True).split())


def test_any_order_and_copies_give_the_same_files_of_bounded_size(place: Path, tmp_path: Path) -> None:
    items = list_videos(place)
    wanted = write_shards(items, small_sketcher(place), str(tmp_path / "a"), workers=0, part=PART)
    assert (wanted.there, wanted.computed, wanted.failed) == (0, len(items), 0)
    mixed = [*items, *items[:5]]
    random.Random(0).shuffle(mixed)
    write_shards(mixed, small_sketcher(place), str(tmp_path / "b"), workers=2, part=PART)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    tars = sorted((tmp_path / "a").glob("*.tar"))
    assert len(tars) == wanted.parts > 3
    assert sum(path.stat().st_size for path in tars) == wanted.size
    assert all(path.stat().st_size <= PART + 4096 for path in tars)
    assert sum(map(entries, tars)) == len(items)
    write_shards(items, small_sketcher(place), str(tmp_path / "c"), workers=0, part=1)
    assert [entries(path) for path in (tmp_path / "c").glob("*.tar")] == [1] * len(items)  # a part holds at least one


def test_what_a_cache_keeps_is_taken_from_it(place: Path, tmp_path: Path) -> None:
    items, cache = list_videos(place), small_cache(place, tmp_path / "cache")
    cache.fill([path for _, path in items], workers=0)
    cache.path(items[0][1]).write_bytes(b"damaged")
    with count_calls() as calls:
        write_shards(items, small_cache(place, tmp_path / "cache"), str(tmp_path / "a"), workers=0, part=PART)
    assert calls["reader"] == 1
    write_shards(items, small_sketcher(place), str(tmp_path / "b"), workers=0, part=PART)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    for address, path in items[1:]:
        shards = SketchShards(str(tmp_path / "a"))
        part, start, size, _ = shards.index.places[shards._find_row(address)].tolist()
        content = (tmp_path / "a" / shards.index.parts[part][0]).read_bytes()
        assert content[start : start + size] == cache.path(path).read_bytes()


SHARE = """
import signal
import sys
from pathlib import Path
from tiny_sketches import list_videos, meanwhile
from dynfocus.data.sketches.write_shards import write_shards
place, out, (share, shares, last) = Path(sys.argv[1]), sys.argv[2], map(int, sys.argv[3:])
sketcher = meanwhile(place, last, lambda: signal.raise_signal(signal.SIGKILL))
print(write_shards(list_videos(place), sketcher, out, (share, shares), workers=0, part=30_000))
"""


def process(place: Path, out: Path, share: int, shares: int, last: int = 0) -> subprocess.Popen:
    """A process of its own that writes one share, and is killed before the sketch of number ``last``."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests" / "support")))}
    command = [sys.executable, "-c", SHARE, str(place), str(out), *map(str, (share, shares, last))]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_processes_write_a_share_each(place: Path, tmp_path: Path) -> None:
    both = [process(place, tmp_path / "set", n, 2) for n in range(2)]
    ends = [one.communicate(timeout=120) for one in both]
    assert [one.returncode for one in both] == [0, 0], ends
    assert all(f"share {n}/2: 0 sketches were there" in ends[n][0] for n in range(2))
    assert all(f"share {n}/2: 100%" in ends[n][1] for n in range(2))
    shards = SketchShards(str(tmp_path / "set"))
    assert len(shards) == len(list_videos(place))
    assert all(shards.holds(address) for address, _ in list_videos(place))
    for n in range(2):
        with count_calls() as calls:
            again = write_shards(list_videos(place), small_sketcher(place), str(tmp_path / "set"), (n, 2), part=PART)
        assert not calls
        assert again.computed == 0
        assert 0 < again.there < len(shards)


def test_a_killed_process_goes_on_where_it_was(place: Path, tmp_path: Path) -> None:
    write_shards(list_videos(place), small_sketcher(place), str(tmp_path / "whole"), workers=0, part=PART)
    out = tmp_path / "set"
    killed = process(place, out, 0, 1, last=6)
    ends = killed.communicate(timeout=120)
    assert killed.returncode == -9, ends
    assert len(list(out.glob("*.tar"))) == 2
    assert not (out / "00000-of-00001.index").exists()
    with pytest.raises(ConfigError, match=r"not finished \(0/1\)"):
        len(SketchShards(str(out)))
    (out / ".00000-of-00001.000009.tar.1.half").write_bytes(b"what such an end may leave")
    done = sum(entries(index.with_suffix(".tar")) for index in out.glob("*.index"))
    with count_calls() as calls:
        ended = write_shards(list_videos(place), small_sketcher(place), str(out), workers=0, part=PART)
    assert (ended.there, ended.computed) == (done, len(list_videos(place)) - done)
    assert calls["reader"] == ended.computed > 0
    assert done > 0
    assert files(out) == files(tmp_path / "whole")


@pytest.mark.parametrize("how", ["cut off", "no part", "no index", "flipped index"])
def test_a_damaged_part_is_made_again(place: Path, tmp_path: Path, how: str, caplog) -> None:
    out = tmp_path / "set"
    write_shards(list_videos(place), small_sketcher(place), str(out), workers=0, part=PART)
    wanted, tar = files(out), out / "00000-of-00001.000001.tar"
    index = tar.with_suffix(".index")
    inside = entries(tar)
    if how == "cut off":
        tar.write_bytes(tar.read_bytes()[:-1])
    elif how == "flipped index":
        index.write_bytes(index.read_bytes()[:-1] + b"!")
    else:
        (tar if how == "no part" else index).unlink()
    assert write_shards(list_videos(place), small_sketcher(place), str(out), workers=0, part=PART).computed == inside
    assert files(out) == wanted
    assert len(caplog.records) == (how != "no index")


def test_what_cannot_be_read_is_listed_and_tried_again(place: Path, tmp_path: Path, caplog, monkeypatch) -> None:
    broken, out = tmp_path / "b.mp4", tmp_path / "set"
    broken.write_bytes(b"no video")
    items = [*list_videos(place), ("b.mp4", broken), ("none.mp4", tmp_path / "none.mp4")]
    for _ in range(2):
        caplog.clear()
        ended = write_shards(items, small_sketcher(place), str(out), workers=1, part=PART)
        assert ended.failed == 2
        output = [record.getMessage() for record in caplog.records]
        assert sorted(any(name in line for line in output) for name in ("b.mp4", "none.mp4")) == [True, True]
        assert len(output) == 2
    assert "2 left out as they cannot be read (listed in 00000-of-00001.failed.jsonl)" in str(ended)
    lines = [json.loads(line) for line in (out / "00000-of-00001.failed.jsonl").read_text().splitlines()]
    assert {line["address"] for line in lines} == {"b.mp4", "none.mp4"}
    assert all(line["address"] in line["cause"] for line in lines)
    with pytest.raises(VideoError, match=r"no file .*none\.mp4"):
        SketchShards(str(out)).get("none.mp4")
    shutil.copy(items[0][1], broken)
    items[-1] = ("none.mp4", None)  # the blank frame
    ended = write_shards(items, small_sketcher(place), str(out), workers=0, part=PART)
    assert (ended.there, ended.computed, ended.failed) == (len(items) - 2, 2, 0)
    shards = SketchShards(str(out))
    mended, wanted = shards.get("b.mp4"), shards.get(items[0][0])
    assert mended is not None
    assert wanted is not None
    assert same(mended.sketch, wanted.sketch)
    assert shards.frames("none.mp4") == 1

    def wild(*_: object) -> None:
        raise FeatureError("patch features of frame 3 that are NaN", "finite numbers", "Check the frame.")

    monkeypatch.setattr(sketching_itself, "sketch_frames", wild)
    with pytest.raises(FeatureError, match="the blank frame with"):
        write_shards(items, small_sketcher(place), str(tmp_path / "other"), workers=0)


def test_places_and_shares_that_do_not_fit_are_refused(place: Path, tmp_path: Path) -> None:
    items, out = list_videos(place)[:1], str(tmp_path / "set")
    first = write_shards(items, small_sketcher(place), out, (0, 2), workers=0)
    assert isinstance(first, ShareReport)
    with pytest.raises(ConfigError, match=r"where shares is 2 in place of 3\."):
        write_shards(items, small_sketcher(place), out, (0, 3))
    with pytest.raises(ConfigError, match=r"where made\.rule\.size is 24 in place of 12\."):
        write_shards(items, small_sketcher(place, rule=replace(RULE, size=12)), out, (0, 2))
    for share in ((2, 2), (-1, 2), (0, 0)):
        with pytest.raises(ConfigError, match="i from 0 to n - 1"):
            write_shards(items, small_sketcher(place), out, share)
    with pytest.raises(DiskError, match="/proc/none"):
        write_shards(items, small_sketcher(place), "/proc/none")
