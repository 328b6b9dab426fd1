"""Frames of a file by their numbers, at full size, in their true shape and orientation, with the file's own times."""

from pathlib import Path

import numpy as np
import pytest
import torch
from make_videos import X264, X264_OPEN, X265, numbers, write_video
from PIL import Image

from dynfocus.bridge.picked import Picked, pick
from dynfocus.errors import DataError, VideoError
from dynfocus.settings import FrameRule
from dynfocus.video import pick_frames, read_clip
from dynfocus.video.numbered import NumberedFrames

KINDS = {
    "h264": ("a.mp4", "libx264", X264),
    "open": ("a.mp4", "libx264", X264_OPEN),
    "hevc": ("a.mp4", "libx265", X265),
    "mpeg4": ("a.avi", "mpeg4", {}),
    "webm": ("a.webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    "ts": ("a.ts", "libx264", X264),
}
MILLIS = [0, 40, 80, 400, 410, 900, 1500, 1501, 2750, 3000]


def shown_numbers(images: list[Image.Image]) -> list[int]:
    return numbers(torch.from_numpy(np.stack([np.asarray(image) for image in images])))


@pytest.mark.parametrize("kind", KINDS)
def test_the_frames_of_these_numbers_are_decoded_and_no_others(kind: str, tmp_path: Path) -> None:
    name, codec, options = KINDS[kind]
    video = NumberedFrames(write_video(tmp_path / name, codec=codec, options=options))
    picked = pick(video, [3, 38, 3, 17])
    images = picked.images()
    assert picked.frames == (3, 17, 38)
    assert shown_numbers(images) == [3, 17, 38]
    assert {image.size for image in images} == {(128, 64)}
    assert (picked.total, round(picked.fps, 3), round(picked.duration, 3)) == (40, 10, 4)
    assert np.allclose(picked.seconds, [0.3, 1.7, 3.8], atol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_and_times_are_those_of_the_clips_that_models_see(kind: str, tmp_path: Path) -> None:
    name, codec, options = KINDS[kind]
    path, rule = write_video(tmp_path / name, codec=codec, options=options), FrameRule(64, fps=3, interpolation="box")
    video, clip = NumberedFrames(path), read_clip(path, rule)
    indices = pick_frames(video.times, rule)
    assert numbers(clip.frames) == indices
    assert np.allclose(video.times[indices], clip.seconds, atol=1e-5)


def test_times_of_a_variable_rate_are_the_files_own(tmp_path: Path) -> None:
    video = NumberedFrames(write_video(tmp_path / "a.mkv", len(MILLIS), millis=MILLIS))
    picked = pick(video, [1, 4, 7])
    assert picked.seconds == pytest.approx((0.04, 0.41, 1.501))
    assert shown_numbers(picked.images()) == [1, 4, 7]
    assert picked.duration == pytest.approx(3.25)


def test_a_turned_video_is_upright(tmp_path: Path) -> None:
    picked = pick(NumberedFrames(write_video(tmp_path / "a.mp4", 6, turn=90)), [5])
    (image,) = picked.images()
    assert image.size == (64, 128)
    stored = np.rot90(np.asarray(image), -1)  # a turn of 90 degrees is against the clock
    assert numbers(torch.from_numpy(stored.copy())[None]) == [5]


def test_a_still_is_one_frame_in_its_true_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20), "red").save(tmp_path / "a.jpg", exif=exif)
    picked = pick(NumberedFrames(tmp_path / "a.jpg"), [0])
    assert picked == Picked((0,), (0.0,), 0.0, 1, 0.0, None, tmp_path / "a.jpg")
    assert [image.size for image in picked.images()] == [(20, 30)]


@pytest.mark.parametrize("frames", [[], [-1], [40], [3, 40]])
def test_numbers_outside_the_video_are_refused(frames: list[int], tmp_path: Path) -> None:
    video = NumberedFrames(write_video(tmp_path / "a.mp4"))
    with pytest.raises(DataError, match="from 0 to 39"):
        pick(video, frames)


def test_a_file_that_is_no_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"nothing")
    with pytest.raises(VideoError, match=r"a\.mp4 cannot be read"):
        pick(NumberedFrames(tmp_path / "a.mp4"), [0])
    with pytest.raises(VideoError, match="there is no file"):
        NumberedFrames(tmp_path / "b.mp4")
