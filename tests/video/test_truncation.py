"""Files that end too soon: each cut is an error, but for those of which `read_clip` says that nobody notices them."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from make_videos import EVERY, VP9, X264, numbers, with_bytes, write_video

from dynfocus.errors import VideoError
from dynfocus.video import read_clip
from dynfocus.video.truncation import missing_bytes

CLUSTER = b"\x1f\x43\xb6\x75"
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}
KINDS: dict[str, tuple[str, str, dict, dict | None]] = {
    "mp4": ("a.mp4", "libx264", X264, None),
    "mp4, index first": ("a.mp4", "libx264", X264, {"movflags": "faststart"}),
    "mp4 in fragments": ("a.mp4", "libx264", X264, FRAGMENTS),
    "mp4 in DASH's fragments": ("a.mp4", "libx264", X264, {"movflags": "dash+frag_keyframe"}),
    "mov": ("a.mov", "libx264", X264, None),
    "mkv": ("a.mkv", "libx264", X264, None),
    "webm": ("a.webm", "libvpx-vp9", VP9, None),
    "webm, VP8": ("a.webm", "libvpx", VP9, None),
    "avi": ("a.avi", "mpeg4", {"g": "12"}, None),
    "avi of JPEGs": ("a.avi", "mjpeg", {}, None),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_is_an_error(tmp_path, kind):
    name, codec, options, muxing = KINDS[kind]
    path = write_video(tmp_path / name, codec=codec, options=options, muxing=muxing)
    whole = path.read_bytes()
    assert numbers(read_clip(path, EVERY).frames) == list(range(40))
    assert missing_bytes(path) == 0
    borders = {result.start() - 4 for result in re.finditer(b"moof|sidx|mfra", whole)}
    for kept in {*np.linspace(1, len(whole) - 1, 60).astype(int), *range(len(whole) - 12, len(whole))} - borders:
        with_bytes(path, whole[:kept])
        try:
            result = numbers(read_clip(path, EVERY).frames)
        except VideoError:
            continue
        assert result == list(range(40)), f"{kept} of {len(whole)} bytes"  # what is missing is no frame


@pytest.mark.parametrize(("name", "codec"), [("a.ogv", "libvpx"), ("a.wmv", "wmv2")])
def test_a_cut_ogg_or_wmv_is_an_error(tmp_path, name, codec):
    path = write_video(tmp_path / name, codec=codec, options={})
    whole = path.read_bytes()
    assert numbers(read_clip(path, EVERY).frames) == list(range(40))
    assert missing_bytes(path) == 0
    assert missing_bytes(with_bytes(path, whole + bytes(100))) == 0
    for cut in (1, 2, 8, 20, 100, 700):
        with pytest.raises(VideoError, match="cannot be read"):
            read_clip(with_bytes(path, whole[:-cut]), EVERY)


UNNOTICED: dict[str, tuple[str, dict | None, Callable[[bytes], int]]] = {
    "between two fragments": ("a.mp4", FRAGMENTS, lambda whole: whole.rindex(b"moof") - 4),
    "between two clusters": ("a.mkv", {"live": "1", "cluster_time_limit": "999"}, lambda whole: whole.rindex(CLUSTER)),
    "MPEG-TS": ("a.ts", None, lambda whole: len(whole) // 2 // 188 * 188),
}


@pytest.mark.parametrize("kind", UNNOTICED)
def test_cuts_that_nobody_can_notice(tmp_path, kind):
    """As `read_clip` says; if one of them comes to be noticed, its words are out of date."""
    name, muxing, place = UNNOTICED[kind]
    path = write_video(tmp_path / name, options=X264, muxing=muxing)
    whole = path.read_bytes()
    clip = read_clip(with_bytes(path, whole[: place(whole)]), EVERY)
    assert 0 < len(clip.frames) < 40
    assert numbers(clip.frames) == (10 * clip.seconds).round().int().tolist()  # those that come are what they should


def test_what_follows_the_end_is_no_cut(tmp_path: Path) -> None:
    for kind, (name, codec, options, muxing) in KINDS.items():
        path = write_video(tmp_path / name, codec=codec, options=options, muxing=muxing)
        with_bytes(path, path.read_bytes() + bytes(100))
        assert missing_bytes(path) == 0, kind
        assert numbers(read_clip(path, EVERY).frames) == list(range(40)), kind


def test_long_boxes_and_unknown_sizes(tmp_path):
    box = (16 + 8).to_bytes(4, "big") + b"ftyp" + bytes(16)
    moof = (8).to_bytes(4, "big") + b"moof"
    long = (1).to_bytes(4, "big") + b"mdat" + (16 + 50).to_bytes(8, "big")
    assert missing_bytes(with_bytes(tmp_path / "a", box + moof + long + bytes(50))) == 0
    assert missing_bytes(with_bytes(tmp_path / "a", box + moof + long + bytes(20))) == 30
    assert missing_bytes(with_bytes(tmp_path / "a", box + moof + long + bytes(50) + moof[:5])) == 3
    assert missing_bytes(with_bytes(tmp_path / "a", box + long + bytes(20))) == 0  # its frames are counted elsewhere
    endless = bytes(4) + b"mdat" + bytes(9)
    assert missing_bytes(with_bytes(tmp_path / "a", box + moof + endless)) == 0
    assert missing_bytes(with_bytes(tmp_path / "a", b"RIFF" + bytes(4) + b"AVI " + bytes(9))) == 0
    part = b"RIFF" + (20).to_bytes(4, "little") + b"AVI " + bytes(16)
    assert missing_bytes(with_bytes(tmp_path / "a", part + part)) == 0
    assert missing_bytes(with_bytes(tmp_path / "a", part + part[:-5])) == 5
