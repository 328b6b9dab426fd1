"""A file whose decoding never ends costs its rows, in the doctor, in sketches and in training, and no other file."""

import os
from pathlib import Path

import pytest
import tiny
from broken_dataset import RULE, make_row, patient, write_rows
from make_videos import write_video
from tiny_sketches import small_cache, small_sketcher
from torch.utils.data import DataLoader

from datamodules.examples import ExampleDataset
from dynfocus.data.doctor.examine import diagnose
from dynfocus.data.sketches.write_shards import write_shards
from dynfocus.errors import ConfigError, VideoError
from dynfocus.records.jsonl import read_jsonl
from dynfocus.records.skipped import Skipped
from dynfocus.video import read_media

SECONDS = "3"


@pytest.fixture
def endless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A live recording that a terabyte of nothing follows: FFmpeg looks through all of it for the next cluster."""
    monkeypatch.setenv("DYNFOCUS_FILE_SECONDS", SECONDS)
    path = tmp_path / "root" / "endless.mkv"
    path.parent.mkdir()
    write_video(path, count=10, muxing={"live": "1"})
    os.truncate(path, 1 << 40)
    write_video(path.with_name("good.mp4"), count=5)
    return path


def test_the_error_names_the_file_and_the_limit(endless: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VideoError, match=r"endless\.mkv is not read after 3 s.*DYNFOCUS_FILE_SECONDS"):
        read_media(endless, RULE)
    assert len(read_media(endless.with_name("good.mp4"), RULE).frames) == 5  # the next file has a time of its own
    for wrong in ("soon", "0", "-1", "nan", "inf"):
        monkeypatch.setenv("DYNFOCUS_FILE_SECONDS", wrong)
        with pytest.raises(ConfigError, match=f"DYNFOCUS_FILE_SECONDS={wrong}"):
            read_media(endless.with_name("good.mp4"), RULE)


def test_the_doctor_lists_it_and_goes_on(endless: Path, tmp_path: Path) -> None:
    write_rows(endless.parent, [make_row(n, video=name) for n, name in enumerate(("endless.mkv", "good.mp4"))])
    (found,) = diagnose([patient(endless.parent, tmp_path / "log")], 0, progress=False)
    [listed] = read_jsonl(found.quarantine, Skipped)
    assert (listed.index, listed.media) == (0, "endless.mkv")
    assert "not read after" in listed.cause


def test_sketches_and_shards_leave_it_out(endless: Path, place: Path, tmp_path: Path, caplog) -> None:
    """Its content is hashed first, which would not end either."""
    good = endless.with_name("good.mp4")
    filled = small_cache(place, tmp_path / "cache").fill([endless, good], workers=0)
    assert (filled.computed, filled.failed) == (1, 1)
    written = write_shards(
        [("endless.mkv", endless), ("good.mp4", good), ("again.mp4", good)],
        small_sketcher(place),
        str(tmp_path / "shards"),
        workers=2,
    )
    assert (written.computed, written.failed) == (2, 1)
    assert sum("endless.mkv is not read after" in one.getMessage() for one in caplog.records) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_training_skips_its_row(endless: Path, tmp_path: Path, workers: int) -> None:
    write_rows(endless.parent, [make_row(n, video=name) for n, name in enumerate(("endless.mkv", "good.mp4"))])
    annotations = patient(endless.parent, tmp_path / "log").annotations
    rows = ExampleDataset([annotations], RULE, None, skip_invalid=True)
    bad, good = DataLoader(rows, batch_size=None, num_workers=workers)
    assert bad.skipped is not None
    assert "endless.mkv is not read after" in bad.skipped.cause
    assert good.skipped is None
    assert len(good.frames) == 5
    assert good.frames.shape[1] == tiny.SIDE
