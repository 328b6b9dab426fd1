"""A small sketch cache and things to sketch; and a count of what sketching costs."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from PIL import Image

from dynfocus import video
from dynfocus.data.sketches.cache import SketchCache
from dynfocus.data.sketches.encoder_folder import EncoderFolder
from dynfocus.data.sketches.sketcher import Sketcher
from dynfocus.models.towers import VisionTower
from dynfocus.settings import FrameRule
from dynfocus.types import FrameSketch
from dynfocus.video.media import Media

RULE = FrameRule(size=tiny.SIDE, interpolation="box")


def some_media(place: Path, folder: Path) -> list[Path | None]:
    """Two videos and two images of one's own, each image after a video, and the blank frame."""
    folder.mkdir()
    for n in range(2):
        shutil.copy(place / "data" / "videos" / f"train_{n:06}.mp4", folder / f"{n}.mp4")
        Image.fromarray(tiny.frames(1, n)[0].numpy()).save(folder / f"{n}.png")
    return [*sorted(folder.iterdir()), None]


def small_cache(place: Path, folder: Path, **changes: Any) -> SketchCache:
    options = {"settings": tiny.SETTINGS, "rule": RULE, "source": EncoderFolder(place / "towers" / "encoders")}
    return SketchCache(**{"folder": folder, "device": torch.device("cpu"), **options, **changes})


def small_sketcher(place: Path, **changes: Any) -> Sketcher:
    options = {"settings": tiny.SETTINGS, "rule": RULE, "source": EncoderFolder(place / "towers" / "encoders")}
    return Sketcher(**{"device": torch.device("cpu"), **options, **changes})


def meanwhile(place: Path, number: int, do: Callable[[], object]) -> Sketcher:
    """A sketcher that does something else before it makes the sketch of that number."""
    made = small_sketcher(place)
    calls, load = [0], made.load_entry

    def load_entry(media: Media) -> bytes | None:
        calls[0] += 1
        if calls[0] == number:
            do()
        return load(media)

    made.load_entry = load_entry  # type: ignore[method-assign]
    return made


def list_videos(place: Path) -> list[tuple[str, Path]]:
    """Some videos of the miniature world under their addresses."""
    return [(f"videos/{path.name}", path) for path in sorted((place / "data" / "videos").iterdir())[:8]]


def same(one: FrameSketch, other: FrameSketch) -> bool:
    """Whether two sketches hold the same bits in the same precision."""
    pairs = [(getattr(one, field.name), getattr(other, field.name)) for field in fields(FrameSketch)]
    both = [pair for pair in pairs if pair != (None, None)]
    return all(a is not None and b is not None and torch.equal(a, b) and a.dtype == b.dtype for a, b in both)


@contextmanager
def count_calls() -> Iterator[Counter]:
    """Count in this process, whatever road a call takes, and let every call through."""
    calls: Counter = Counter()

    def count_encoder(module: torch.nn.Module, *_: Any) -> None:
        if isinstance(module, VisionTower):
            calls["encoder"] += 1

    def counting(function: Any) -> Any:
        def reader(*args: Any, **options: Any) -> Any:
            calls["reader"] += 1
            return function(*args, **options)

        return reader

    hook = torch.nn.modules.module.register_module_forward_pre_hook(count_encoder)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("read_clip", "read_image"):
            patch.setattr(video, name, counting(getattr(video, name)))
        yield calls
    hook.remove()
