"""video.py on real files, made here: each frame carries its own number in its pixels."""

import sys
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dynfocus.errors import ConfigError, VideoError
from dynfocus.settings import FrameRule
from dynfocus.video import picked, read_clip, read_media

READERS = ["decord", "pyav"] if find_spec("decord") else ["pyav"]
BITS, HEIGHT, WIDTH = 8, 64, 128
EVERY = FrameRule(size=64, fps=None, interpolation="box")
SPARSE = FrameRule(size=64, fps=None, frames=7, interpolation="box")


def numbered(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A frame whose eight columns are the bits of ``number``."""
    bits = [255 if number >> bit & 1 else 0 for bit in range(BITS)]
    row = np.repeat(np.array(bits, np.uint8), -(-width // BITS))[:width]
    return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()


def numbers(frames: torch.Tensor) -> list[int]:
    centres = [int((bit + 0.5) * frames.shape[2] / BITS) for bit in range(BITS)]
    lit = frames[:, frames.shape[1] // 2, centres, 1] > 128
    return (lit * 2 ** torch.arange(BITS)).sum(1).tolist()


def written(
    path: Path,
    count: int = 40,
    codec: str = "libx264",
    options: dict | None = None,
    millis: list[int] | None = None,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    turn: int = 0,
    muxing: dict | None = None,
) -> Path:
    """Write numbered frames: 10 a second, or at the given milliseconds."""
    with av.open(str(path), "w", options=muxing or {}) as container:
        stream = container.add_stream(codec, rate=1000 if millis else 10, options=options or {})
        stream.height, stream.width = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if millis:
            stream.time_base = Fraction(1, 1000)
        if turn:
            stream.set_display_rotation(turn)
        container.start_encoding()
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(numbered(number, *size), "rgb24")
            if millis:
                frame.pts = millis[number]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


X264 = {"x264-params": "keyint=12:bframes=3:b-adapt=0:scenecut=0"}
X264_OPEN = {"x264-params": "keyint=12:bframes=3:b-adapt=0:scenecut=0:open-gop=1"}
X265 = {"x265-params": "keyint=12:bframes=3:b-adapt=0:scenecut=0:log-level=none"}


@pytest.mark.parametrize(
    ("name", "codec", "options", "reader"),
    [
        ("closed.mp4", "libx264", X264, "decord"),
        ("closed.mkv", "libx264", X264, "decord"),
        ("closed.ts", "libx264", X264, "pyav"),
        ("open.mp4", "libx264", X264_OPEN, "pyav"),
        ("hevc.mp4", "libx265", X265, "pyav"),
        ("vp9.webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}, "decord"),
        ("motion.avi", "mjpeg", {}, "pyav"),
        ("motion.mkv", "mjpeg", {}, "decord"),
        ("mpeg4.mp4", "mpeg4", {"g": "12", "bf": "2"}, None),
        ("mpeg2.ts", "mpeg2video", {"g": "12", "bf": "2"}, "pyav"),
    ],
)
def test_every_codec_gives_the_frames_asked_for(tmp_path, name, codec, options, reader):
    path = written(tmp_path / name, codec=codec, options=options)
    clip = read_clip(path, SPARSE)
    assert numbers(clip.frames) == [2, 8, 14, 20, 25, 31, 37]
    torch.testing.assert_close(clip.seconds, torch.tensor(numbers(clip.frames)) / 10, atol=2e-3, rtol=0)
    assert numbers(read_clip(path, EVERY).frames) == list(range(40))
    if reader in READERS:
        assert clip.reader == reader


@pytest.mark.skipif("decord" not in READERS, reason="decord exists for Linux on x86-64 only")
def test_both_readers_agree(tmp_path):
    path = written(tmp_path / "a.mp4", options=X264)
    for rule in (EVERY, SPARSE, FrameRule(size=56, fps=3)):
        one, other = read_clip(path, rule, "decord"), read_clip(path, rule, "pyav")
        assert (one.reader, other.reader) == ("decord", "pyav")
        torch.testing.assert_close(one.seconds, other.seconds, atol=1e-4, rtol=0)
        assert (one.frames.float() - other.frames.float()).abs().max() <= 2


def test_without_decord_pyav_serves(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "decord", None)
    path = written(tmp_path / "a.mp4", options=X264)
    clip = read_clip(path, SPARSE)
    assert clip.reader == "pyav"
    assert numbers(clip.frames) == [2, 8, 14, 20, 25, 31, 37]
    with pytest.raises(ConfigError, match="without decord"):
        read_clip(path, SPARSE, "decord")


@pytest.mark.parametrize("turn", [90, -90, 180])
def test_both_readers_turn_the_frame_upright(tmp_path, turn):
    path = written(tmp_path / "a.mp4", count=3, turn=turn)
    upright = np.rot90(numbered(1), turn // 90)
    for reader in READERS:
        frame = read_clip(path, FrameRule(size=8, fps=None, interpolation="box"), reader).frames[1].numpy()
        expected = upright.reshape(8, upright.shape[0] // 8, 8, upright.shape[1] // 8, 3).mean((1, 3))
        assert np.abs(frame - expected).mean() < 4


def test_time_stamps_are_the_files_own(tmp_path):
    millis = np.cumsum([0, *([20] * 20), *([100] * 19)]).tolist()
    path = written(tmp_path / "vfr.mp4", millis=millis)
    seconds = torch.tensor(millis) / 1000
    for reader in READERS:
        clip = read_clip(path, EVERY, reader)
        assert numbers(clip.frames) == list(range(40))
        torch.testing.assert_close(clip.seconds, seconds, atol=2e-3, rtol=0)
        paced = read_clip(path, FrameRule(size=64, fps=2, interpolation="box"), reader)
        wanted = [next(n for n, s in enumerate(millis) if s >= 500 * k) for k in range(millis[-1] // 500 + 1)]
        assert numbers(paced.frames) == wanted


@pytest.mark.parametrize("width", [16, 24, 48, 72])
def test_widths_that_decord_cannot_read_are_read(tmp_path, width):
    path = written(tmp_path / "a.mp4", count=20, size=(64, width))
    for size in (width, 224):
        assert numbers(read_clip(path, FrameRule(size, fps=None)).frames) == list(range(20))


def test_one_frame(tmp_path):
    path = written(tmp_path / "a.mp4", count=1)
    for reader in READERS:
        clip = read_clip(path, FrameRule(), reader)
        assert clip.frames.shape == (1, 224, 224, 3)
        assert clip.frames.dtype == torch.uint8
        assert clip.seconds.tolist() == [0]


@given(
    st.lists(st.floats(0.011, 3), min_size=0, max_size=40),
    st.none() | st.floats(0.1, 50),
    st.none() | st.integers(1, 50),
)
def test_picked_frames(gaps, fps, most):
    times = np.cumsum([0, *gaps])
    uncapped = picked(times, FrameRule(fps=fps))
    assert uncapped[0] == 0
    if fps is None:
        assert uncapped == list(range(len(times)))
    else:
        count = int((times[-1] + 1e-3) * fps) + 1
        firsts = {min([n for n, t in enumerate(times) if t >= k / fps - 1e-3], default=len(gaps)) for k in range(count)}
        assert uncapped == sorted(firsts)
    capped = picked(times, FrameRule(fps=fps, frames=most))
    assert len(capped) == min(len(uncapped), most or len(uncapped))
    assert set(capped) <= set(uncapped)
    assert capped == sorted(set(capped))
    if most and most < len(uncapped):
        ranks = np.array([uncapped.index(i) for i in capped])
        assert np.ptp(np.diff(ranks)) <= 1 if most > 1 else ranks[0] == len(uncapped) // 2
        assert abs(ranks[0] - (len(uncapped) - 1 - ranks[-1])) <= 1


def sound(path: Path, video: bool = False) -> Path:
    """A file with sound, and a video stream without a frame if asked for."""
    with av.open(str(path), "w") as container:
        if video:
            empty = container.add_stream("libx264", rate=10)
            empty.width, empty.height, empty.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def cut(path: Path, keep: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path


def with_bytes(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


BROKEN = {
    "missing": (lambda at: at / "gone.mp4", "no file"),
    "folder": (lambda at: folder(at / "folder.mp4"), "no file"),
    "empty": (lambda at: with_bytes(at / "a.mp4", b""), "cannot be read"),
    "garbage": (lambda at: with_bytes(at / "a.mp4", bytes(range(256)) * 40), "cannot be read"),
    "cut off, without index": (lambda at: cut(written(at / "a.mp4"), 0.7), "cannot be read"),
    "cut off, with index": (
        lambda at: cut(written(at / "a.mp4", muxing={"movflags": "faststart"}), 0.7),
        "of its 40 frames",
    ),
    "no video stream": (lambda at: sound(at / "a.mp4"), "no video stream"),
    "no packet": (lambda at: written(at / "a.mp4", count=0), "cannot be read"),
    "no frame": (lambda at: sound(at / "a.mkv", video=True), "holds no frame"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("reader", [None, "pyav"])
def test_what_cannot_be_read_is_named(tmp_path, name, reader):
    make, cause = BROKEN[name]
    path = make(tmp_path)
    with pytest.raises(VideoError, match=cause) as caught:
        read_clip(path, FrameRule(), reader)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong", [{"size": 0}, {"frames": 0}, {"fps": 0.0}, {"fps": float("nan")}, {"fps": -1.0}, {"frames": -2}]
)
def test_a_rule_that_takes_nothing_is_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        FrameRule(**wrong)


def test_the_suffix_tells_images_from_videos(tmp_path):
    assert read_media(written(tmp_path / "a.MP4", count=3), FrameRule(fps=None)).frames.shape == (3, 224, 224, 3)
    Image.fromarray(numbered(5)).save(tmp_path / "a.JPG")
    assert read_media(tmp_path / "a.JPG", FrameRule()).frames.shape == (1, 224, 224, 3)
