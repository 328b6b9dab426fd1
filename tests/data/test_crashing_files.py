"""A file whose decoding kills its process costs its own rows, in sketches, shards and training, and is named."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from broken_dataset import RULE, make_row, patient, write_rows
from make_videos import write_video
from published_layouts import ROWS, data, quarantine, write_published_sets
from tiny_sketches import small_cache, small_sketcher
from tiny_world import call

from datamodules.examples import ExampleDataset
from datamodules.loader import ResumableLoader
from datamodules.sampler import RankDataset
from dynfocus import video
from dynfocus.data.sketches.shards import SketchShards
from dynfocus.data.sketches.write_shards import write_shards
from dynfocus.errors import CrashingFileError
from dynfocus.records.rows import VideoSegment
from dynfocus.records.skipped import read_notes
from dynfocus.video import Clip

NAMES = ["0.mp4", "deadly.mp4", "1.mp4", "2.mp4", "deadly too.mp4", "3.mp4"]
SAID = "deadly.mp4 cannot be read (the process that read it has crashed)"


@pytest.fixture
def crash(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Let the decoder crash, by a signal, the process that decodes a file of this name."""
    decode, parent = video._read_file, os.getpid()

    def prepare(name: str, number: int) -> None:
        def read_file(segment: VideoSegment, *how: Any) -> Clip:
            if segment.path.name.startswith(name):
                assert os.getpid() != parent, "it is decoded in the process that may not crash"
                os.kill(os.getpid(), number)
            return decode(segment, *how)

        monkeypatch.setattr(video, "_read_file", read_file)

    return prepare


@pytest.fixture
def root(tmp_path: Path, crash: Callable[[str, int], None]) -> Path:
    """Videos, of which two crash the process, as the system does it where memory does not suffice."""
    crash("deadly", signal.SIGKILL)
    folder = tmp_path / "root"
    folder.mkdir()
    for n, name in enumerate(NAMES):
        write_video(folder / name, count=4 + n)
    return folder


@pytest.mark.parametrize("workers", [1, 2])
def test_sketches_leave_it_out(root: Path, place: Path, tmp_path: Path, caplog, workers: int) -> None:
    cache = small_cache(place, tmp_path / "cache")
    filled = cache.fill([root / name for name in NAMES], workers=workers)
    assert (filled.computed, filled.failed) == (4, 2)
    assert [SAID in one.getMessage() for one in caplog.records] == [True, False]
    assert cache.frames(root / "3.mp4") is not None
    with pytest.raises(CrashingFileError, match="deadly"):
        cache.read(root / "deadly.mp4")


def test_shards_list_it_and_the_next_run_goes_on(root: Path, place: Path, tmp_path: Path) -> None:
    items, out = [(name, root / name) for name in NAMES], tmp_path / "shards"
    written = write_shards(items, small_sketcher(place), str(out), workers=2)
    assert (written.computed, written.failed) == (4, 2)
    listed = (out / "00000-of-00001.failed.jsonl").read_text()
    assert all(str(root / name) in listed for name in NAMES if "deadly" in name)
    assert "has crashed" in listed
    again = write_shards(items, small_sketcher(place), str(out), workers=2)
    assert (again.there, again.computed, again.failed) == (4, 0, 2)
    with pytest.raises(Exception, match="deadly"):
        SketchShards(str(out)).get("deadly.mp4")


def test_a_single_file_is_read_by_another_process_too(root: Path, place: Path, tmp_path: Path) -> None:
    assert small_cache(place, tmp_path / "cache").fill([root / "deadly.mp4"], workers=2).failed == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_a_loader_gives_the_other_rows_in_their_order(root: Path, tmp_path: Path, workers: int) -> None:
    write_rows(root, [make_row(n, video=name) for n, name in enumerate(NAMES)])
    annotations = patient(root, tmp_path / "log").annotations
    rows = ExampleDataset([annotations], RULE, None, skip_invalid=True)
    batches = list(ResumableLoader(rows, batch_size=2, num_workers=workers, collate_fn=list))
    examples = [one for batch in batches for one in batch]
    assert [one.row.index for one in examples] == list(range(len(NAMES)))
    assert [None if one.skipped is None else one.skipped.media for one in examples] == [
        name if "deadly" in name else None for name in NAMES
    ]
    assert [len(one.frames) for one in examples if one.skipped is None] == [4, 6, 7, 9]
    scored = RankDataset(ExampleDataset([annotations], RULE, None, skip_invalid=False), (1, 2))
    with pytest.raises(CrashingFileError, match=r"deadly\.mp4 cannot be read"):
        list(ResumableLoader(scored, batch_size=None, num_workers=workers))


def test_a_fit_goes_on_and_notes_the_row(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash: Callable[[str, int], None]
) -> None:
    """Nothing is sketched: the loader's processes decode."""
    write_published_sets(tmp_path / "sets", place / "data")
    crash("3.mp4", signal.SIGSEGV)
    webvid = data(tmp_path / "data", tmp_path / "sets", sets=["webvid"], sketch_cache=None)
    more = (*webvid, *quarantine(0.5), "--data.init_args.num_workers", "2")
    assert call(place, "fit", "stage1", tmp_path / "run", *more, "--trainer.max_epochs", "2") == 0
    [noted] = read_notes(tmp_path / "run" / "quarantine.jsonl", mend=False)
    assert noted.media == "000001_000050/3.mp4"
    assert noted.cause.endswith("3.mp4 cannot be read (the process that read it has crashed)")
    assert json.loads((tmp_path / "run" / "fit.json").read_text())["steps"] == ROWS
