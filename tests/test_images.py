"""video.py on still images: every mode and orientation, and the resizing that videos share."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dynfocus.errors import VideoError
from dynfocus.settings import FrameRule
from dynfocus.video import read_image, read_media


def saved(path: Path, pixels: np.ndarray, mode: str | None = None, **more) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **more)
    return path


def test_box_is_the_mean_of_each_area(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (96, 192, 3), dtype=np.uint8)
    clip = read_image(saved(tmp_path / "a.png", noise), FrameRule(size=48, interpolation="box"))
    mean = noise.reshape(48, 2, 48, 4, 3).mean((1, 3))
    assert np.abs(clip.frames[0].numpy() - mean).max() <= 0.5


def smooth(height: int = 90, width: int = 120) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([127 + 120 * np.sin(x / 5), 127 + 120 * np.cos(y / 7), x + y], -1).astype(np.uint8)


@pytest.mark.parametrize("size", [32, 224])
def test_bicubic_is_pillows(tmp_path, size):
    frame = read_image(saved(tmp_path / "a.png", smooth()), FrameRule(size=size)).frames[0].numpy().astype(int)
    expected = Image.fromarray(smooth()).resize((size, size), Image.Resampling.BICUBIC)
    assert np.abs(frame - np.asarray(expected)).max() <= 1


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK"])
def test_images_of_any_mode(tmp_path, mode):
    grey = np.zeros((64, 64, 3), np.uint8)
    grey[:, 32:] = 255
    suffix = ".tif" if mode == "CMYK" else ".png"
    clip = read_media(saved(tmp_path / f"a{suffix}", grey, mode), FrameRule(size=64))
    assert clip.reader == "pillow"
    assert clip.seconds.tolist() == [0]
    assert np.abs(clip.frames[0].numpy().astype(int) - grey).max() <= 1


def test_sixteen_bits_are_scaled(tmp_path):
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    frame = read_image(saved(tmp_path / "a.png", ramp), FrameRule(size=64)).frames[0, ..., 0].numpy()
    assert np.abs(frame - ramp / 257).max() <= 1


def test_photographs_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown rotated by a quarter, clockwise
    path = saved(tmp_path / "a.jpg", smooth(64, 64), exif=exif, quality=95)
    frame = read_image(path, FrameRule(size=64)).frames[0].numpy().astype(int)
    assert np.abs(frame - np.rot90(smooth(64, 64), -1)).mean() < 5


BROKEN = {
    "missing": (lambda path: path, "no file"),
    "empty": (lambda path: with_bytes(path, b""), "cannot be read"),
    "garbage": (lambda path: with_bytes(path, b"no image" * 99), "cannot be read"),
    "cut off": (lambda path: with_bytes(path, saved(path, smooth()).read_bytes()[:-2000]), "cannot be read"),
}


def with_bytes(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_is_named(tmp_path, name):
    make, cause = BROKEN[name]
    path = make(tmp_path / "a.png")
    with pytest.raises(VideoError, match=cause) as caught:
        read_media(path, FrameRule())
    assert str(path) in str(caught.value)
