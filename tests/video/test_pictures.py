"""Pictures in memory become the frames that the same pictures become as files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dynfocus.errors import VideoError
from dynfocus.settings import FrameRule
from dynfocus.video import read_image
from dynfocus.video.pictures import read_pictures

RULE = FrameRule(size=12, frames=None, interpolation="box")
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 20, 30, 3), dtype=np.uint8)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    for n, frame in enumerate(PIXELS):
        Image.fromarray(frame).save(tmp_path / f"{n}.png")
    return sorted(tmp_path.glob("*.png"))


FORMS: dict[str, Any] = {
    "array": lambda: PIXELS,
    "tensor": lambda: torch.from_numpy(PIXELS),
    "channels first": lambda: torch.from_numpy(PIXELS).permute(0, 3, 1, 2),
    "list of arrays": lambda: list(PIXELS),
    "list of images": lambda: [Image.fromarray(frame) for frame in PIXELS],
    "tuple of both": lambda: (Image.fromarray(PIXELS[0]), *PIXELS[1:]),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_what_the_files_give(form: str, files: list[Path]) -> None:
    exact = torch.cat([read_image(file, RULE).frames for file in files])
    clip = read_pictures(FORMS[form](), RULE)
    assert torch.equal(clip.frames, exact)
    assert clip.seconds.tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(read_pictures(files, RULE).frames, exact)


def test_a_long_video_is_thinned_and_an_album_is_not() -> None:
    rule = FrameRule(size=12, frames=2, fps=0.1, interpolation="box")
    every = read_pictures(PIXELS, RULE).frames
    assert torch.equal(read_pictures(PIXELS, rule).frames, every[[1, 3]])
    assert torch.equal(read_pictures(PIXELS, rule, is_album=True).frames, every)


def test_a_clear_picture_lies_on_white_as_in_a_file(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    assert torch.equal(read_pictures([clear], RULE).frames, read_image(tmp_path / "clear.png", RULE).frames)
    assert read_pictures([clear], RULE).frames.unique().tolist() == [255]


WRONG: dict[str, tuple[Any, str]] = {
    "nothing": ([], "without any frame"),
    "floats": (PIXELS / 255, r"picture 0.*float64.*as uint8"),
    "grey": (PIXELS[..., 0], r"shape \[20, 30\]"),
    "no width": (PIXELS[:, :, :0], r"shape \[20, 0, 3\]"),
    "too large": ([Image.new("RGB", (40, 40))], r"picture 0 is 40 x 40 pixels"),
    "no such file": (["none.png"], "none.png"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_picture_is_refused(name: str) -> None:
    pictures, words = WRONG[name]
    with pytest.raises(VideoError, match=words):
        read_pictures(pictures, FrameRule(size=12, max_pixels=1000))
