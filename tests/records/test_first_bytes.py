"""Files of another kind than they are given as are named by their first bytes, and new files follow the umask."""

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dynfocus.data.annotations.dataset import Annotations
from dynfocus.data.annotations.sources import Source
from dynfocus.errors import DataError, DynFocusError, VideoError
from dynfocus.evals.files import BenchmarkFiles
from dynfocus.models.towers.weights import read_json, tensor_names
from dynfocus.records.atomic import atomic_write, read_umask, write_text
from dynfocus.settings import FrameRule
from dynfocus.video import read_media

ROW = '{"id": "0", "video": "a.mp4", "conversations": []}\n'
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1234\n"
KINDS = {
    "a web page": b"<!DOCTYPE html>\n<html><body>404</body></html>",
    "Git LFS": POINTER,
    "gzip": gzip.compress(ROW.encode()),
    "UTF-16": ROW.encode("utf-16"),
    "parquet": b"PAR1" + bytes(40),
    "a zip archive": b"PK\x03\x04" + bytes(40),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.csv"])
def test_annotations_of_another_kind_are_named(kind: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(KINDS[kind])
    form = {"rows.json": "conversations", "rows.jsonl": "jsonl", "rows.csv": "webvid"}[name]
    with pytest.raises(DataError, match=rf"{name}, which is .*{kind}"):
        Annotations(Source("rows", name, form), tmp_path, tmp_path / "index")


def test_rows_over_several_lines_are_named(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{\n  "id": "0",\n  "video": "a.mp4"\n}\n')
    with pytest.raises(DataError, match=r"whose JSON goes over several lines.*jq -c \."):
        Annotations(Source("rows", "rows.jsonl", "jsonl"), tmp_path, tmp_path / "index")


@pytest.mark.parametrize("kind", KINDS)
def test_videos_images_weights_and_benchmarks_of_another_kind_are_named(kind: str, tmp_path: Path) -> None:
    for name in ("v.mp4", "i.png", "model.safetensors", "config.json", "questions.json"):
        (tmp_path / name).write_bytes(KINDS[kind])
    for name in ("v.mp4", "i.png"):
        with pytest.raises(VideoError, match=f"it is .*{kind}"):
            read_media(tmp_path / name, FrameRule(size=8))
    (tmp_path / "config.json").rename(tmp_path / "other.json")
    for read in (lambda: tensor_names(tmp_path), lambda: BenchmarkFiles(tmp_path).read_json("questions.json")):
        with pytest.raises(DynFocusError, match=f"it is .*{kind}"):
            read()
    with pytest.raises(DynFocusError, match=f"it is .*{kind}"):
        read_json(tmp_path / "other.json")


@pytest.fixture(params=[0o022, 0o077, 0o002])
def mask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_new_files_follow_the_umask(mask: int, tmp_path: Path) -> None:
    """safetensors writes files that their owner alone may read."""
    tensors = {"a": torch.from_numpy(np.zeros(3))}
    with atomic_write(tmp_path / "one.safetensors") as part:
        save_file(tensors, part)
    with atomic_write(tmp_path / "folder") as part:
        (part / "inner").mkdir(parents=True)
        save_file(tensors, part / "inner" / "two.safetensors")
        (part / "run.sh").touch(0o700)
    for name in ("one.safetensors", "folder/inner/two.safetensors"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~mask
    assert (tmp_path / "folder" / "run.sh").stat().st_mode & 0o700 == 0o700


def test_the_umask_is_read_and_never_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread, as a server has them, would write its files under it meanwhile."""
    before = os.umask(0o027)
    try:
        monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the umask of all threads was set"))
        write_text(tmp_path / "a.txt", "a")
        assert read_umask() == 0o027
    finally:
        monkeypatch.undo()
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640
