"""How frames of any shape become squares."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from test_images import saved, smooth

from dynfocus.settings import FrameRule
from dynfocus.video import read_clip, read_image, read_media
from dynfocus.video.resizing import MAX_AREA, resize_frame
from dynfocus.video.thumbnails import Thumbnails

SHAPES = [(90, 120), (120, 90), (91, 120), (64, 64), (40, 300)]


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_a_frame_is_squeezed_cropped_or_padded_as_pillow_does(tmp_path: Path, height: int, width: int) -> None:
    path, size, cubic = saved(tmp_path / "a.png", smooth(height, width)), 32, Image.Resampling.BICUBIC
    image = Image.fromarray(smooth(height, width))
    side, grey = min(height, width), (128, 128, 128)
    left, top = (width - side) // 2, (height - side) // 2
    expected = {
        "squeeze": image.resize((size, size), cubic),
        "crop": image.crop((left, top, left + side, top + side)).resize((size, size), cubic),
        "pad": ImageOps.pad(image, (size, size), cubic, grey),
    }
    result = {}
    for fit, ours in expected.items():
        rule = FrameRule(size=size, fit=fit)  # type: ignore[arg-type]
        result[fit] = read_image(path, rule).frames[0].numpy().astype(int)
        assert np.abs(result[fit] - np.asarray(ours)).max() <= 1, fit
    assert len({one.tobytes() for one in result.values()}) == (1 if height == width else 3)
    assert FrameRule().fit == "squeeze"


def test_video_frames_fit_as_images_do(tmp_path: Path) -> None:
    frames = []
    for corner in range(3):  # white in the middle third, and a corner pixel that tells the frames apart
        pixels = np.zeros((64, 192, 3), np.uint8)
        pixels[:, 64:128] = 255
        pixels[0, corner] = 9
        frames.append(Image.fromarray(pixels))
    path = tmp_path / "wide.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
    means = {}
    for fit in ("squeeze", "crop", "pad"):
        frames = read_media(path, FrameRule(size=48, fps=None, fit=fit, interpolation="box")).frames.float()  # type: ignore[arg-type]
        assert frames.shape == (3, 48, 48, 3)
        means[fit] = frames.mean((0, 2, 3))  # of each line of pixels
    assert means["crop"].min() > 245
    assert (means["squeeze"] - 85).abs().max() < 10
    assert means["pad"][:16].eq(128).all()
    assert means["pad"][32:].eq(128).all()
    assert (means["pad"][16:32] - 85).abs().max() < 10


def write_wide_pixels(path: Path, turn: int = 0) -> Path:
    """Frames of 64 x 64 stored pixels, each shown three times as wide as high; white in the middle third."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, 21:43] = 255
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"qp": "0"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(3)
        for _ in range(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("reader", ["pyav", "decord"])
def test_pixels_that_are_no_squares_count_as_they_are_shown(tmp_path: Path, reader: str) -> None:
    path, means = write_wide_pixels(tmp_path / "a.mp4"), {}
    for fit in ("squeeze", "crop", "pad"):
        rule = FrameRule(size=48, fps=None, frames=2, fit=fit, interpolation="box")  # type: ignore[arg-type]
        means[fit] = read_clip(path, rule, reader).frames.float().mean((0, 2, 3))  # type: ignore[arg-type]
    assert means["crop"].min() > 235
    assert (means["squeeze"] - 85).abs().max() < 12
    assert means["pad"][:16].eq(128).all()
    assert means["pad"][32:].eq(128).all()


@pytest.mark.parametrize(("fit", "shape"), [("squeeze", (40, 120, 3)), ("pad", (40, 120, 3)), ("crop", (120, 120, 3))])
def test_thumbnails_show_what_the_model_sees(tmp_path: Path, fit: str, shape: tuple[int, ...]) -> None:
    path, rule = write_wide_pixels(tmp_path / "a.mp4"), FrameRule(size=48, fit=fit)  # type: ignore[arg-type]
    clip = read_media(path, rule)
    frame = Thumbnails(path, clip.seconds.tolist(), rule, size=120)[0]
    assert frame.shape == shape
    assert (frame.mean() > 235) == (fit == "crop")


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (720, 1280, 224),
        (479, 853, 224),
        (97, 201, 64),
        (64, 64, 64),
        (30, 300, 64),
        (5, 3, 8),
        (1, 1, 4),
        (257, 400, 1),
    ],
)
def test_box_gives_the_bits_of_the_mean_over_each_area(height: int, width: int, size: int) -> None:
    draw, rule = np.random.default_rng(height), FrameRule(size=size, interpolation="box")
    for frame in (draw.integers(0, 256, (height, width, 3), np.uint8), np.full((height, width, 3), 255, np.uint8)):
        ours = resize_frame(frame[::-1], rule)  # of frames that are turned rows do not follow each other
        planes = torch.from_numpy(frame[::-1].copy()).permute(2, 0, 1)[None].float()
        means = torch.nn.functional.adaptive_avg_pool2d(planes, (size, size))
        assert torch.equal(ours, means.round().byte()[0].permute(1, 2, 0))
        assert ours.is_contiguous()
    assert -(-height // size) * -(-width // size) <= MAX_AREA or size == 1  # larger areas are torch's own
