"""Sketches of stretches of videos: each has a key, an entry and an address of its own."""

from pathlib import Path

import pytest
import torch
from tiny_sketches import count_calls, same, small_sketcher

from dynfocus.data.sketches.cache import FillReport
from dynfocus.data.sketches.media import SketchItem
from dynfocus.data.sketches.shards import SketchShards
from dynfocus.data.sketches.write_shards import write_shards
from dynfocus.errors import VideoError
from dynfocus.records.rows import VideoSegment
from dynfocus.video.media import read_or_blank


@pytest.fixture
def stretches(media: list) -> list[VideoSegment]:
    """Of two videos of twenty frames, one a second."""
    return [VideoSegment(path, *span) for path in (media[0], media[2]) for span in ((0.0, 5.0), (5.0, 9.5), (5.0, 9.0))]


def test_each_stretch_has_an_entry_of_its_own(cache, media, stretches) -> None:
    one, everything = cache(), [*stretches, *media]
    assert one.fill([*everything, *stretches], workers=2) == FillReport(0, len(everything), 0, one.folder)
    assert len({one.path(medium) for medium in everything}) == len(everything)
    with count_calls() as calls:
        result = [cache().read(medium) for medium in everything]
        assert [cache().frames(medium) for medium in stretches] == [5, 5, 4] * 2
    assert not calls
    for medium, sketched in zip(everything, result, strict=True):
        clip = read_or_blank(medium, one.rule)
        assert torch.equal(sketched.seconds, clip.seconds)
        assert same(sketched.sketch, one.sketch(medium, clip).sketch)
    whole = result[len(stretches)]
    assert torch.equal(result[1].sketch.grains[0], whole.sketch.grains[0, 5:10])


def test_a_stretch_that_holds_nothing_is_left_out(cache, media, caplog) -> None:
    one, after = cache(), VideoSegment(media[0], 90.0, 99.0)
    assert one.fill([after, media[0]], workers=0) == FillReport(0, 1, 0, one.folder, 1)
    assert [str(media[0]) in record.getMessage() for record in caplog.records] == [True]
    with pytest.raises(VideoError):
        one.read(after)
    assert one.frames(after) is None


def test_stretches_lie_in_shards(place: Path, cache, stretches, tmp_path: Path) -> None:
    items = [(f"{medium.path.name}#{medium.start:g}-{medium.end:g}", medium) for medium in stretches]
    write_shards(items, small_sketcher(place), str(tmp_path / "set"), workers=0)
    one, alone = cache(shards=SketchShards(str(tmp_path / "set"))), cache(folder=tmp_path / "alone")
    assert one.fill([SketchItem(medium, address) for address, medium in items]).there == len(items)
    for address, medium in items:
        assert one.frames(medium, address) == alone.read(medium).sketch.pooled.shape[1]
        assert same(one.read(medium, address).sketch, alone.read(medium).sketch)
