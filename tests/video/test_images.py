"""Still images: every mode and orientation, names that lie, limits, and the resizing that videos share."""

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from make_heif import write_heif
from make_videos import EVERY, VP9, X264, numbered_frame, numbers, with_bytes, write_video
from PIL import Image

from dynfocus.errors import VideoError
from dynfocus.records.rows import VideoSegment
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


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_sixteen_bits_are_scaled(tmp_path, name):
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    frame = read_image(saved(tmp_path / name, ramp), FrameRule(size=64)).frames[0, ..., 0].numpy()
    assert np.abs(frame - ramp / 257).max() <= 1


def test_twelve_bits_are_scaled(tmp_path):
    """A TIFF of 2 x 1 pixels, 0 and 4095, in three bytes."""
    entries = [(256, 3, 2), (257, 3, 1), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 3, 1)]
    report = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in [*entries, (279, 4, 3)])
    data = b"II*\0" + struct.pack("<I", 12) + b"\0\x0f\xff\0" + struct.pack("<H", 9) + report + bytes(4)
    frame = read_image(with_bytes(tmp_path / "a.tif", data), FrameRule(size=2)).frames[0, 0, :, 0]
    assert frame.tolist() == [0, 255]


@pytest.mark.parametrize("most", [255, 65535, 2**31 - 1])
def test_numbers_whose_white_is_unknown_are_refused(tmp_path, most):
    path = saved(tmp_path / "a.tif", np.full((4, 4), most, np.int32))
    with pytest.raises(VideoError, match="whole numbers of 32 bits"):
        read_image(path, FrameRule())


LOSSLESS = {"a.png": {}, "a.webp": {"lossless": True}, "a.tif": {}, "b.tif": {"compression": "tiff_lzw"}}


@pytest.mark.parametrize("name", [*LOSSLESS, "a.jpg", "a.avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_upright(tmp_path, orientation, name):
    exif, stored = Image.Exif(), smooth(64, 64)
    exif[0x0112] = orientation
    shown = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.swapaxes(0, 1),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(stored),
    }[orientation]
    path = saved(tmp_path / name, stored, exif=exif, **LOSSLESS.get(name, {"quality": 98, "subsampling": "4:4:4"}))
    frame = read_image(path, FrameRule(size=64)).frames[0].numpy().astype(int)
    assert np.abs(frame - shown).mean() < (2 if name in ("a.jpg", "a.avif") else 1e-9)
    assert np.array_equal(shown, stored) == (orientation == 1)


@pytest.mark.parametrize(
    "exif", [b"MM\0*\0\0\0\x08\0\xff\x01\x12\0\x03", b"garbage", b"II*\0\x08\0\0\0\x01\0\x12\1", b""]
)
def test_broken_exif_data_break_no_photograph(tmp_path, exif):
    path = saved(tmp_path / "a.jpg", np.full((16, 32, 3), 90, np.uint8), exif=b"Exif\0\0" + exif)
    assert (read_image(path, FrameRule(size=64)).frames == 90).all()


def jpeg(path: Path) -> bytes:
    Image.fromarray(smooth()).save(path, "JPEG", quality=95)
    return path.read_bytes()


BROKEN = {
    "missing": (lambda path: path, "no file"),
    "empty": (lambda path: with_bytes(path, b""), "cannot be read"),
    "garbage": (lambda path: with_bytes(path, b"no image" * 99), "cannot be read"),
    "no data": (lambda path: with_bytes(path, saved(path, smooth()).read_bytes()[:20]), "cannot be read"),
    "cut off JPEG": (lambda path: with_bytes(path, jpeg(path)[:-2000]), "cannot be read"),
    "cut off": (lambda path: with_bytes(path, saved(path, smooth()).read_bytes()[:-2000]), "cannot be read"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_is_named(tmp_path, name):
    make, cause = BROKEN[name]
    path = make(tmp_path / "a.png")
    with pytest.raises(VideoError, match=cause) as caught:
        read_media(path, FrameRule())
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "La", "RGB"])
def test_clear_pixels_lie_on_white(tmp_path, mode):
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:, :32] = (0, 255, 0, 0)
    pixels[:, 32:] = (0, 0, 0, 255)
    image, more = Image.fromarray(pixels), {}
    if mode == "P":
        image, more = image.convert("RGB").quantize(4), {}
        more["transparency"] = image.getpixel((0, 0))
    elif mode == "RGB":
        image, more = image.convert("RGB"), {"transparency": (0, 255, 0)}
    else:
        image = image.convert("LA" if mode == "La" else mode)
    image.save(tmp_path / "a.png", **more)
    frame = read_media(tmp_path / "a.png", FrameRule(size=64)).frames[0]
    assert (frame[:, :32] == 255).all()
    assert (frame[:, 32:] == 0).all()


def test_half_clear_pixels_are_mixed_with_white(tmp_path):
    saved(tmp_path / "a.png", np.full((8, 8, 4), (100, 0, 200, 128), np.uint8))
    frame = read_media(tmp_path / "a.png", FrameRule(size=8)).frames[0]
    assert np.abs(frame[0, 0].numpy().astype(int) - (177, 127, 227)).max() <= 1


def test_floating_point_counts_from_0_to_255(tmp_path):
    values = np.array([[-5, 0, 100, 254.9, 300, np.nan]], np.float32).repeat(6, 0)
    Image.fromarray(values).save(tmp_path / "a.tif")
    frame = read_media(tmp_path / "a.tif", FrameRule(size=6)).frames[0, 0, :, 0]
    assert frame.tolist() == [0, 0, 100, 254, 255, 0]


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1)])
def test_extreme_shapes(tmp_path, size):
    Image.new("RGB", size, (10, 20, 30)).save(tmp_path / "a.png")
    frame = read_media(tmp_path / "a.png", FrameRule()).frames[0]
    assert frame.reshape(-1, 3).unique(dim=0).tolist() == [[10, 20, 30]]


@pytest.mark.parametrize("content", ["PNG", "GIF", "JPEG", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.mp4", "a"])
def test_what_a_file_holds_counts_not_its_name(tmp_path, content, name):
    Image.fromarray(numbered_frame(77)).save(tmp_path / name, content)
    clip = read_media(tmp_path / name, FrameRule(size=64, interpolation="box"))
    assert clip.reader == "pillow"
    assert numbers(clip.frames) == [77]


@pytest.mark.parametrize("name", ["a.gif", "a.jpg", "a.png"])
def test_a_gif_that_moves_is_a_video(tmp_path, name):
    frames = [Image.fromarray(numbered_frame(number)) for number in range(12)]
    frames[0].save(tmp_path / name, "GIF", save_all=True, append_images=frames[1:], duration=200)
    clip = read_media(tmp_path / name, FrameRule(size=64, fps=1, interpolation="box"))
    assert clip.reader == "pyav"
    assert numbers(clip.frames) == [0, 5, 10]
    assert clip.seconds.tolist() == pytest.approx([0, 1, 2])


def test_pages_are_no_video(tmp_path):
    pages = [Image.fromarray(numbered_frame(number)) for number in (3, 4)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert numbers(read_media(tmp_path / "a.tif", FrameRule(size=64, interpolation="box")).frames) == [3]


MOVING = {
    "WEBP": {"lossless": True, "duration": [200] * 5 + [100] * 5},
    "AVIF": {"quality": 95, "duration": [200] * 5 + [100] * 5},
    "PNG": {"duration": [200] * 5 + [100] * 5},
}


@pytest.mark.parametrize("content", MOVING)
@pytest.mark.parametrize("name", ["a.webp", "a.mp4"])
def test_an_image_that_moves_gives_all_its_frames(tmp_path, content, name):
    images = [Image.fromarray(numbered_frame(number)) for number in range(10)]
    images[0].save(tmp_path / name, content, save_all=True, append_images=images[1:], **MOVING[content])
    seconds = [0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.1, 1.2, 1.3, 1.4]
    clip = read_media(tmp_path / name, EVERY)
    assert numbers(clip.frames) == list(range(10))
    assert clip.seconds.tolist() == pytest.approx(seconds)
    assert numbers(read_media(tmp_path / name, FrameRule(size=64, fps=2, interpolation="box")).frames) == [0, 3, 5]
    segment = read_media(VideoSegment(tmp_path / name, 0.5, 1.15), EVERY)
    assert numbers(segment.frames) == [3, 4, 5, 6]
    assert segment.seconds.tolist() == pytest.approx(seconds[3:7])


QUARTERS = [smooth(128, 128)[y : y + 64, x : x + 64] for y in (0, 64) for x in (0, 64)]


@pytest.mark.parametrize("name", ["a.avif", "a.jpg", "a.mp4"])
def test_an_avif_in_tiles_is_read_whole(tmp_path, name):
    path = write_heif(tmp_path / name, QUARTERS, 2, "libsvtav1")
    frame = read_media(path, FrameRule(size=128)).frames[0].numpy().astype(int)
    assert np.abs(frame - smooth(128, 128)).mean() < 12


CLEAR_HALF = np.zeros((64, 64, 3), np.uint8)
CLEAR_HALF[:, 32:] = 255


def test_clear_pixels_of_an_avif_lie_on_white(tmp_path):
    path = write_heif(tmp_path / "a.avif", [np.zeros((64, 64, 3), np.uint8), CLEAR_HALF], 1, "libsvtav1", alpha=True)
    frame = read_media(path, FrameRule(size=64)).frames[0]
    assert (frame[:, :24] > 245).all()
    assert (frame[:, 40:] < 10).all()


@pytest.mark.parametrize("name", ["a.heic", "a.jpg", "a.mp4"])
@pytest.mark.parametrize("alpha", [False, True])
def test_a_heic_that_ffmpeg_gives_in_parts_is_refused(tmp_path, name, alpha):
    pictures = [smooth(64, 64), CLEAR_HALF] if alpha else QUARTERS
    path = write_heif(tmp_path / name, pictures, 1 if alpha else 2, "libx265", alpha)
    with pytest.raises(VideoError, match="several pictures"):
        read_media(path, FrameRule())


@pytest.mark.parametrize("name", ["a.heic", "a.jpg", "a.gif", "a.mp4"])
def test_a_heic_of_one_picture_is_read(tmp_path, name):
    clip = read_media(write_heif(tmp_path / name, [smooth(64, 64)], 1, "libx265"), FrameRule(size=64))
    assert clip.seconds.tolist() == [0]
    assert np.abs(clip.frames[0].numpy().astype(int) - smooth(64, 64)).mean() < 12


@pytest.mark.parametrize("name", ["a.gif", "a.jpg", "a.webp"])
@pytest.mark.parametrize("content", ["mp4", "webm", "mpegts"])
def test_a_video_named_as_an_image_is_a_video(tmp_path, name, content):
    codec, options = ("libvpx-vp9", VP9) if content == "webm" else ("libx264", X264)
    path = write_video(tmp_path / f"a.{content.removeprefix('mpeg')}", codec=codec, options=options)
    assert numbers(read_media(path.rename(tmp_path / name), EVERY).frames) == list(range(40))


def empty_png(path: Path, width: int, height: int) -> Path:
    """A header that promises pixels, and none of them."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b""))
    return with_bytes(path, b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b""))


@pytest.mark.parametrize("width", [10_000, 20_000, 60_000])
def test_huge_images_are_refused_by_their_header(tmp_path, width):
    before = Image.MAX_IMAGE_PIXELS
    path = empty_png(tmp_path / "a.png", width, 10_000)
    with warnings.catch_warnings(record=True) as output:
        warnings.simplefilter("always")
        with pytest.raises(VideoError, match=f"{width} x 10000 pixels"):
            read_media(path, FrameRule())
    assert not output
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("limit", [None, 10**9])
def test_the_limit_is_an_option(tmp_path, limit):
    path = empty_png(tmp_path / "a.png", 20_000, 10_000)
    with pytest.raises(VideoError, match="truncated"):  # by now it is the pixels that are missing
        read_media(path, FrameRule(max_pixels=limit))
    image = saved(tmp_path / "b.png", smooth(10, 10))
    with pytest.raises(VideoError, match="10 x 10 pixels"):
        read_media(image, FrameRule(max_pixels=99))
    assert len(read_media(image, FrameRule(max_pixels=100)).frames) == 1
