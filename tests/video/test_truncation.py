"""Files that end too soon: each cut is an error, but for those of which `read_clip` says that nobody notices them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from make_videos import EVERY, VP9, X264, numbered_frame, numbers, with_bytes, write_video
from PIL import Image

from dynfocus.errors import VideoError
from dynfocus.video import read_clip, read_media
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


def write_moving(path: Path, codec: str, pixels: str) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = 64, 96, pixels
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number, 64, 96), "rgb24").reformat(format=pixels)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_images(path: Path, count: int = 3, **options: Any) -> None:
    rng = np.random.default_rng(0)
    one, *more = [Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)) for _ in range(count)]
    one.save(path, save_all=count > 1, append_images=more, **options)


WRITERS: dict[str, Callable[[Path], object]] = {
    "tags with a size.flv": lambda path: write_video(path, codec="flv", count=20),
    "tags.flv": lambda path: write_video(path, codec="flv", count=20, muxing={"flvflags": "no_metadata"}),
    "a.swf": lambda path: write_video(path, codec="flv", count=20),
    "a.ivf": lambda path: write_video(path, codec="libvpx", count=20),
    "a.y4m": lambda path: write_moving(path, "wrapped_avframe", "yuv420p"),
    "quarter.y4m": lambda path: write_moving(path, "wrapped_avframe", "yuv411p"),
    "grey.y4m": lambda path: write_moving(path, "wrapped_avframe", "gray"),
    "a.gif": lambda path: write_moving(path, "gif", "rgb8"),
    "a.apng": lambda path: write_moving(path, "apng", "rgb24"),
    "still.gif": lambda path: write_images(path, 1),
    "still.png": lambda path: write_images(path, 1),
    "pages.tiff": write_images,
    "big.tiff": lambda path: write_images(path, big_tiff=True),
    "packed.tiff": lambda path: write_images(path, compression="tiff_lzw"),
    "moving.webp": write_images,
}
BORDERS = {"tags.flv", "a.ivf"}  # no size or mark tells that the next part is missing


@pytest.mark.parametrize("name", WRITERS)
def test_a_cut_is_told_by_a_size_or_a_mark(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path)
    whole = path.read_bytes()
    frames = len(read_media(path, EVERY).frames)
    assert missing_bytes(path) == missing_bytes(with_bytes(path, whole + bytes(100))) == 0
    parts = [len(whole) * share // 100 for share in (25, 50, 90, 99)]
    for kept in [*parts, *(len(whole) - cut for cut in (1, 2, 5, 20, 100))]:
        with_bytes(path, whole[:kept])
        try:
            read = len(read_media(path, EVERY).frames)
        except VideoError:
            continue
        # The tags of a packed page come after its pixels, and then what they name: its end may hold no pixel.
        assert (name in BORDERS and read < frames) or ("tiff" in name and len(whole) - kept <= 20), kept


def test_any_bytes_can_be_looked_at(tmp_path):
    rng = np.random.default_rng(0)
    for name, write in WRITERS.items():
        write(tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        for _ in range(20):
            damaged = bytearray(whole[-3000:] if "tiff" in name else whole[:3000])
            damaged[:8] = whole[:8]
            for at in rng.integers(4, len(damaged), 6):
                damaged[at] = rng.integers(256)
            assert missing_bytes(with_bytes(tmp_path / "damaged", bytes(damaged))) >= 0


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
