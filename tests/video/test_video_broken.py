"""Videos that are broken in every way: one error each, with the path and the cause, and never a wrong frame."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event

import av
import numpy as np
import pytest
import torch
from make_videos import EVERY, READERS, VP9, X264, X264_OPEN, cut, folder, numbers, sound, with_bytes, write_video
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from dynfocus.data.sketches.media import media_stamp
from dynfocus.errors import MissingFileError, VideoError
from dynfocus.settings import FrameRule
from dynfocus.video import read_clip, read_media
from dynfocus.video.packets import collect_pyav_errors


def holed(path: Path, share: float = 0.5, length: int = 3000) -> Path:
    """A file whose middle was never written."""
    data = path.read_bytes()
    at = int(len(data) * share)
    return with_bytes(path, data[:at] + bytes(length) + data[at + length :])


def noisy(path: Path, codec: str = "libx264", options: dict | None = None, seed: int = 0) -> Path:
    """Pictures that take many bytes, so that damage hits them and not the container."""
    blocks = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options=options or X264)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(40):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(blocks, 3 * number, 1), "rgb24")))
        container.mux(stream.encode())
    return path


BROKEN = {
    "missing": (lambda at: at / "gone.mp4", "no file"),
    "folder": (lambda at: folder(at / "folder.mp4"), "no file"),
    "empty": (lambda at: with_bytes(at / "a.mp4", b""), "cannot be read"),
    "garbage": (lambda at: with_bytes(at / "a.mp4", bytes(range(256)) * 40), "cannot be read"),
    "cut off, without index": (lambda at: cut(write_video(at / "a.mp4"), 0.7), "cannot be read"),
    "cut off, with index": (
        lambda at: cut(write_video(at / "a.mp4", muxing={"movflags": "faststart"}), 0.7),
        "of its 40 frames",
    ),
    "a name too long for any file": (lambda at: at / f"{'x' * 300}.mp4", "no file"),
    "no video stream": (lambda at: sound(at / "a.mp4"), "no video stream"),
    "cut off, WebM": (
        lambda at: cut(write_video(at / "a.webm", codec="libvpx-vp9", options=VP9), 0.6),
        r"ends after 2\.\d of 4\.0 s",
    ),
    "cut off, AVI": (lambda at: cut(write_video(at / "a.avi", codec="mpeg4"), 0.6), "cannot be read"),
    "a hole": (lambda at: holed(noisy(at / "a.mp4")), "cannot be read"),
    "a hole in open GOPs": (lambda at: holed(noisy(at / "a.mp4", options=X264_OPEN)), "cannot be read"),
    "a hole in WebM": (lambda at: holed(noisy(at / "a.webm", "libvpx-vp9", VP9)), "cannot be read"),
    "a hole in Matroska": (lambda at: holed(noisy(at / "a.mkv")), "cannot be read"),
    "a page of text": (lambda at: with_bytes(at / "a.mp4", b"<html>404</html>\n" * 99), "cannot be read"),
    "a text": (lambda at: with_bytes(at / "a.txt", b"no video\n" * 99), "it is text"),
    "no packet": (lambda at: write_video(at / "a.mp4", count=0), "cannot be read"),
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


@pytest.mark.parametrize("name", ["gone.mp4", f"{'x' * 300}.mp4", "a\0b.mp4"])
def test_an_absent_file_is_named_alike_by_all(tmp_path, name):
    with pytest.raises(MissingFileError, match="no file") as one:
        read_media(tmp_path / name, FrameRule())
    with pytest.raises(MissingFileError) as other:
        media_stamp(tmp_path / name)
    assert str(one.value) == str(other.value)


@pytest.mark.parametrize("name", ["a.mkv", "a.webm"])
def test_a_broken_file_is_as_broken_when_it_is_read_again(tmp_path, name):
    path = noisy(tmp_path / name) if name == "a.mkv" else noisy(tmp_path / name, "libvpx", VP9)
    whole, broken = path.read_bytes(), 0
    for share in np.linspace(0.2, 0.9, 15):
        holed(path, share, 200)
        result = []
        for _ in range(2):
            try:
                result.append(read_clip(path, EVERY).frames.float().sum().item())
            except VideoError as error:
                result.append(str(error))
        assert result[0] == result[1]
        broken += isinstance(result[0], str)
        with_bytes(path, whole)
    assert broken


FEW = FrameRule(size=64, fps=None, frames=3, interpolation="box")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize(("reader", "rule", "least"), [("pyav", EVERY, 16), ("pyav", FEW, 12), ("decord", EVERY, 16)])
def test_damage_that_the_decoder_notices_is_an_error(tmp_path, name, reader, rule, least):
    """Frames are right or an error, but for wrong bits that still make sense: those go on into what follows."""
    if reader not in READERS:
        pytest.skip("decord exists for Linux on x86-64 only")
    path = noisy(tmp_path / name)
    whole, right = path.read_bytes(), read_clip(path, rule, reader).frames
    errors, wrong = 0, 0
    for seed in range(20):
        draw = np.random.default_rng(seed)
        at = int(len(whole) * draw.uniform(0.2, 0.8))
        junk = draw.integers(0, 256, 1000, dtype=np.uint8).tobytes()
        with_bytes(path, whole[:at] + junk + whole[at + len(junk) :])
        try:
            frames = read_clip(path, rule, reader).frames
            assert len(frames) == len(right)
            wrong += not torch.equal(frames, right)
        except VideoError:
            errors += 1
    assert errors >= least
    assert wrong <= 4  # the encoder writes other bytes on other CPUs: 2 and 3 of 20 were seen


def test_a_thread_that_ends_leaves_the_reports_of_others(tmp_path):
    """FFmpeg's log belongs to the whole process."""
    path = noisy(tmp_path / "a.mp4")
    with av.open(str(path)) as container:
        packet = bytes(next(container.demux(video=0)))

    def decode_half() -> list[str]:
        with collect_pyav_errors() as errors:
            began.set()
            assert ended.wait(60)
            with suppress(av.FFmpegError):
                av.CodecContext.create("h264", "r").decode(av.Packet(packet[: len(packet) // 2]))
        return errors

    began, ended = Event(), Event()
    with ThreadPoolExecutor(1) as pool:
        with collect_pyav_errors() as own:
            other = pool.submit(decode_half)
            assert began.wait(60)
        ended.set()
        assert other.result()
    assert not own


def test_more_pixels_than_allowed_are_refused(tmp_path):
    path = write_video(tmp_path / "a.mp4", count=3)
    assert len(read_media(path, FrameRule(fps=None, max_pixels=64 * 128)).frames) == 3
    with pytest.raises(VideoError, match="128 x 64 pixels"):
        read_media(path, FrameRule(fps=None, max_pixels=64 * 128 - 1))


FOUR = FrameRule(size=64, fps=None, frames=4, interpolation="box")


class Media(Dataset):
    """Files as a data set reads them: an error is handed on, for raising would end the worker's epoch."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> list[int] | VideoError:
        try:
            return numbers(read_media(self.files[index], FOUR).frames)
        except VideoError as error:
            return error


def test_workers_outlive_broken_files(tmp_path):
    before = write_video(tmp_path / "before.mp4", count=120, options=X264)
    if "decord" in READERS:
        assert read_media(before, FOUR).reader == "decord"  # the parent has read one itself, and the workers will
    good = [before, write_video(tmp_path / "b.webm", count=120, codec="libvpx-vp9", options=VP9)]
    bad = []
    for name in ("missing", "empty", "garbage", "cut off, with index", "a hole", "a hole in WebM", "no video stream"):
        place = folder(tmp_path / name.replace(" ", "_"))
        bad.append(BROKEN[name][0](place))
    bad.append(with_bytes(tmp_path / "a.jpg", b"no image"))
    Image.new("RGB", (64, 128), "white").save(tmp_path / "b.jpg")
    files = [file for pair in zip(bad, good * 4, strict=True) for file in pair] + [tmp_path / "b.jpg"]
    read = list(DataLoader(Media(files), batch_size=None, num_workers=2, timeout=60))
    assert len(read) == len(files)
    for file, result in zip(files, read, strict=True):
        if file in bad:
            assert isinstance(result, VideoError)
            assert str(file) in str(result)
        else:
            assert result == ([255] if file.suffix == ".jpg" else [15, 45, 75, 105])


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_damage_before_an_unharmed_key_frame_is_not_left_out(tmp_path, name):
    """The beginning of a file is damaged, up to its marks of key frames: the rest is not all of the video."""
    path = write_video(tmp_path / name, count=40, options={"g": "4"})
    whole = bytearray(path.read_bytes())
    start = whole.index(b"mdat") + 8 if name.endswith("mp4") else len(whole) // 4
    for end in (start + len(whole) // 3, start + len(whole) // 2):
        harmed = bytes(whole[:start]) + np.random.default_rng(0).bytes(end - start) + bytes(whole[end:])
        with pytest.raises(VideoError):
            read_clip(with_bytes(path, harmed), EVERY, "pyav")
