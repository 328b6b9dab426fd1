"""A second look through a sketch cache: it opens nothing, and still sees every change."""

import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny
from tiny_sketches import RULE

from datamodules.examples import ExampleDataset
from dynfocus.data.annotations.dataset import Annotations
from dynfocus.data.annotations.sources import Source
from dynfocus.data.sketches import cache as caches
from dynfocus.data.sketches.cache import FillReport
from dynfocus.data.sketches.checked import FILE
from dynfocus.records import atomic

OPENED: list[list[str]] = []  # the lists that note each file that Python opens


def note_open(event: str, args: tuple[Any, ...]) -> None:
    for names in OPENED if event == "open" else ():
        names.append(str(args[0]))


sys.addaudithook(note_open)


@contextmanager
def count_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter]:
    """Count entries whose headers are read, and files that are opened in a folder of digests."""
    calls, names, check = Counter[str](), list[str](), caches.has_entry
    OPENED.append(names)
    with monkeypatch.context() as patch:
        patch.setattr(caches, "has_entry", lambda *args: calls.update(["entries"]) or check(*args))
        yield calls
    OPENED.remove(names)
    calls["digests"] = sum("/digests/" in name for name in names)


@pytest.fixture
def filled(cache, media, monkeypatch) -> Any:
    """A cache that was filled and looked through once more, so that all of it is remembered."""
    monkeypatch.setattr(atomic, "SETTLED", 0)
    for expected in (0, len(media)):
        assert cache().fill(media) == FillReport(expected, len(media) - expected, 0, cache().folder)
    return cache


def test_the_next_look_opens_no_entry(filled, media, monkeypatch) -> None:
    with count_files(monkeypatch) as calls:
        assert filled().fill(media) == FillReport(len(media), 0, 0, filled().folder)
    assert calls["entries"] == 0
    assert calls["digests"] == 1  # of the encoder
    (filled().folder / FILE).unlink()
    with count_files(monkeypatch) as calls:
        assert filled().fill(media) == FillReport(len(media), 0, 0, filled().folder)
    assert calls["entries"] == len(media)
    assert calls["digests"] == len(media)  # of the media and the encoder; the blank frame has none


def test_every_change_is_seen(filled, media) -> None:
    one = filled()
    video, other = media[0], media[2]
    one.path(video).unlink()
    assert filled().fill(media) == FillReport(len(media) - 1, 1, 0, one.folder)
    entry = one.path(other)
    os.truncate(entry, entry.stat().st_size - 1)
    assert filled().fill(media) == FillReport(len(media) - 1, 0, 1, one.folder)
    assert filled().fill(media) == FillReport(len(media), 0, 0, one.folder)
    shutil.copy(other, video)  # whose sketch is there under its own name
    assert filled().fill(media) == FillReport(len(media), 0, 0, one.folder)
    with open(video, "ab") as file:
        file.write(b"\0" * 8)
    assert filled().fill(media) == FillReport(len(media) - 1, 1, 0, one.folder)
    assert filled(rule=replace(RULE, frames=3)).fill(media).computed == len(media)
    assert filled(settings=replace(tiny.SETTINGS, pooled=9)).fill(media).computed == len(media)
    assert filled().fill(media) == FillReport(len(media), 0, 0, one.folder)


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", "another kind", "unsorted"])
def test_a_damaged_memory_is_not_believed(filled, media, damage) -> None:
    place = filled().folder / FILE
    if damage == "another kind":
        np.save(place, np.ones(9))
    elif damage == "unsorted":
        np.save(place, np.load(place)[::-1])
    else:
        place.write_bytes(damage)
    filled().path(media[1]).unlink()
    assert filled().fill(media) == FillReport(len(media) - 1, 1, 0, filled().folder)


def test_what_may_change_unseen_is_not_remembered(cache, media) -> None:
    for _ in range(2):
        cache().fill(media)
    assert not (cache().folder / FILE).exists()  # the files are younger than two seconds


def test_rows_that_show_the_same_are_read_once(tmp_path, monkeypatch) -> None:
    """Rows about one video are one row to look at; those that fit no format or have no answer are all looked at."""

    def make_row(number: int, answer: str = "red", **shown: Any) -> dict[str, Any]:
        turns = [{"from": "human", "value": "what"}, {"from": "gpt", "value": answer}]
        return {"id": str(number), "conversations": turns, **shown}

    (tmp_path / "a.mp4").write_bytes(b"a")
    (tmp_path / "b.mp4").write_bytes(b"b")
    rows = [make_row(0, video="a.mp4", answer=""), *(make_row(n, video="a.mp4") for n in range(1, 5))]
    rows += [make_row(5, video="a.mp4", start=0, end=1), make_row(6, video="b.mp4"), make_row(7), make_row(8)]
    rows += [make_row(9, video="gone.mp4"), make_row(10, video="gone.mp4"), {"id": "11", "video": "b.mp4"}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    source = Source("mine", "rows.json", "conversations")
    data = ExampleDataset([Annotations(source, tmp_path, tmp_path / "index")], RULE, None, skip_invalid=True)
    read, reader = [], Annotations._read
    monkeypatch.setattr(Annotations, "_read", lambda self, at: read.append(at) or reader(self, at))
    items = list(data.media())
    assert read == [0, 1, 5, 6, 7, 9, 10, 11]
    assert [item.address for item in items] == ["a.mp4", "a.mp4#0.0-1.0", "b.mp4", None]
    assert data.unreadable == 4
