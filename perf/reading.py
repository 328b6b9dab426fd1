"""Measure reading a video or an image beside the plain way: all at the file's own size, then Pillow's resize."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dynfocus.device import one_thread
from dynfocus.settings import FrameRule
from dynfocus.video import read_media
from dynfocus.video.clip import find_media, pick_segment_frames
from dynfocus.video.packets import read_packets
from dynfocus.video.resizing import resize_frame
from dynfocus.video.with_decord import has_decord
from perf.peak_memory import extra_peak, run_apart

SECONDS, RATE, WIDE, HIGH = 30, 30, 1280, 720
BLOCK = 8  # pixels; noise of this grain costs a decoder about what a film does
REPEATS = 5


@dataclass(frozen=True)
class Case:
    """A file, the rule that it is read by, and what it is called in a table."""

    name: str
    file: str
    rule: FrameRule


CASES = (
    Case("video 720p 30 s, 1 frame/s", "video.mp4", FrameRule()),
    Case("video 720p 30 s, 4 frames", "video.mp4", FrameRule(fps=None, frames=4)),
    Case("image 640x480 JPEG", "image.jpg", FrameRule()),
)
WAYS: dict[str, Callable[[Path, FrameRule], object]] = {
    "plainly": lambda path, rule: plain_image(path, rule) if path.suffix == ".jpg" else plain_video(path, rule),
    "as we do": read_media,
}


def bench_reading(folder: Path, repeats: int = REPEATS, seconds: int = SECONDS) -> list[dict[str, Any]]:
    """Time and weigh each way on the same files in one run, with one thread; the ways take turns.

    Args:
        folder: where a video of about 8 MB and an image are made, if they are not there.
        repeats: how often each case is timed.
        seconds: length of the video.

    Returns:
        Rows of a table with ``seconds`` (best), ``seconds_median``, ``rows_per_second`` of one worker, ``extra_bytes``
        at the peak in a process of its own, and ``times_faster`` than the plain way, of the medians.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "video.mp4").exists():
        write_video(folder / "video.mp4", seconds)
    if not (folder / "image.jpg").exists():
        Image.fromarray(noise(480, 640)).save(folder / "image.jpg")
    rows: list[dict[str, Any]] = []
    with one_thread():
        for case in CASES:
            path = folder / case.file
            ways: dict[str, Callable[[], object]] = {
                way: lambda read=read, path=path, case=case: read(path, case.rule)  # type: ignore[misc]
                for way, read in WAYS.items()
                if way != "plainly" or path.suffix == ".jpg" or has_decord()
            }
            measured = taking_turns(ways, repeats if path.suffix == ".mp4" else 20 * repeats)
            for way, row in measured.items():
                row |= {"case": case.name, "pass": way, "extra_bytes": run_apart(weigh, folder, way, CASES.index(case))}
            rows += measured.values()
        frame = noise(HIGH, WIDE)
        measured = taking_turns(
            {"plainly": lambda: pillows(frame, FrameRule()), "as we do": lambda: resize_frame(frame, FrameRule())},
            20 * repeats,
        )
        for way, row in measured.items():
            row |= {"case": "one 720p frame to 224 x 224", "pass": way}
        rows += measured.values()
    return rows


def taking_turns(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, dict[str, Any]]:
    """Time several ways to do the same, one after another and again; each is done once before."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for work in ways.values():
        work()
    for _ in range(repeats):
        for way, work in ways.items():
            began = time.perf_counter()
            work()
            seconds[way].append(time.perf_counter() - began)
    rows: dict[str, dict[str, Any]] = {}
    for way, times in seconds.items():
        typical = median(times)
        rows[way] = {"device": "cpu", "seconds": min(times), "seconds_median": typical, "rows_per_second": 1 / typical}
    if "plainly" in rows:
        rows["as we do"]["times_faster"] = rows["plainly"]["seconds_median"] / rows["as we do"]["seconds_median"]
    return rows


def weigh(folder: Path, way: str, case: int) -> int | None:
    """Bytes that reading needs at its peak, its result included, after libraries and decoders have been used once."""
    read, rule = WAYS[way], CASES[case].rule
    small = folder / "small.jpg", folder / "small.mp4"
    Image.fromarray(noise(16, 16)).save(small[0])
    write_video(small[1], 1, 128, 64)
    with one_thread():
        read(small[CASES[case].file == "video.mp4"], rule)
        return extra_peak(lambda: read(folder / CASES[case].file, rule))


def plain_video(path: Path, rule: FrameRule) -> NDArray[np.uint8]:
    """All frames by decord at their own size, then each by Pillow; the right ones, by time."""
    import decord

    stretch = find_media(path)
    times = read_packets(stretch.path, rule).times
    assert times is not None  # the file is ours
    video = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
    frames = video.get_batch(pick_segment_frames(times, rule, stretch)).asnumpy()
    return np.stack([pillows(frame, rule) for frame in frames])


def plain_image(path: Path, rule: FrameRule) -> NDArray[np.uint8]:
    """Pillow alone."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((rule.size, rule.size), Image.Resampling.BICUBIC))


def pillows(frame: NDArray[np.uint8], rule: FrameRule) -> NDArray[np.uint8]:
    """A frame as Pillow resizes it."""
    return np.asarray(Image.fromarray(frame).resize((rule.size, rule.size), Image.Resampling.BICUBIC))


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Random colours, blurred a little by their grain."""
    shape = (-(-height // BLOCK), -(-width // BLOCK), 3)
    grains = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return np.ascontiguousarray(grains.repeat(BLOCK, 0).repeat(BLOCK, 1)[:height, :width])


def write_video(path: Path, seconds: int, width: int = WIDE, height: int = HIGH) -> None:
    """Noise that moves, in H.264 as x264 makes it by default."""
    picture = noise(height, width)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "fast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(seconds * RATE):
            moved = np.roll(picture, (3 * number, number), (1, 0))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(moved, "rgb24")))
        container.mux(stream.encode())
