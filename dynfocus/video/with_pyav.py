"""PyAV: every frame in its order, whatever the codec; what its decoder complains of is an error."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from dynfocus.records.rows import VideoSegment
from dynfocus.settings import FrameRule
from dynfocus.video.clip import Clip, chosen, unreadable
from dynfocus.video.packets import Packets, video_stream
from dynfocus.video.resizing import resized_all

NEAR = 4  # frames; to decode so many is quicker than to jump over them


def read_with_pyav(stretch: VideoSegment, rule: FrameRule, packets: Packets) -> Clip:
    """The clip as PyAV reads it: by jumping to the key frame before each where that is known to be right, else once
    through the file, or twice where packets do not tell the times of all frames.

    Raises:
        VideoError: if no frame is there, or the decoder conceals damage in one that is asked for.
    """
    if packets.stamps is not None and packets.times is not None:
        times, indices = packets.times, chosen(packets.times, rule, stretch)
        ways = {False: [Run(int(packets.stamps[0]), packets.stamps[indices].tolist())]}
        if packets.seekable and packets.keys is not None:
            ways = {True: runs(packets.stamps, packets.keys, indices)} | ways
        for jumps, way in ways.items():
            frames = resized_all(_at(stretch, way, jumps), len(indices), rule)
            if frames is not None:
                return Clip(frames, torch.tensor(times[indices], dtype=torch.float32), "pyav")
    stamps, seconds = [], []
    for frame in _all(stretch):
        if frame.time is None or frame.pts is None:
            raise unreadable(stretch.path, "its frames have no time stamps")
        stamps.append(frame.pts)
        seconds.append(frame.time)
    if not stamps:
        raise unreadable(stretch.path, "it holds no frame")
    if packets.stamps is not None and packets.shows_all:
        lost = (packets.stamps >= stamps[0]).sum() - len(stamps)
        if lost > 0:
            raise unreadable(stretch.path, f"{lost} of its frames cannot be decoded")
    times = np.array(seconds) - seconds[0]
    indices = chosen(times, rule, stretch)
    frames = resized_all(_numbered(stretch, set(indices)), len(indices), rule)
    if frames is None:
        raise unreadable(stretch.path, "it holds other frames when it is read again")
    return Clip(frames, torch.tensor(times[indices], dtype=torch.float32), "pyav")


@dataclass(frozen=True)
class Run:
    """Frames that are decoded one after another.

    Attributes:
        begins: the stamp of the frame that decoding begins with.
        wanted: stamps of those that are asked for, ascending.
    """

    begins: int
    wanted: list[int]


def runs(stamps: NDArray[np.int64], keys: NDArray[np.int64], indices: list[int]) -> list[Run]:
    """The frames in runs from the last key frame before each on; what lies between two near ones is decoded too."""
    found: list[Run] = []
    last = -1
    for index, key in zip(indices, keys[np.searchsorted(keys, indices, side="right") - 1].tolist(), strict=True):
        if not found or key > last + NEAR:
            found.append(Run(int(stamps[key]), []))
        found[-1].wanted.append(int(stamps[index]))
        last = index
    return found


def _at(stretch: VideoSegment, way: list[Run], jumps: bool) -> Iterator[NDArray[np.uint8]]:
    """The frames of these runs; fewer where the file shows others than its packets say, or a jump misses."""
    turn = Upright(stretch)
    with _opened(stretch) as (container, stream):
        for run in way:
            if jumps:
                try:
                    container.seek(run.begins, stream=stream)
                except av.FFmpegError:
                    return
            given = 0
            for frame in _run(container, stream, run):
                given += 1
                yield turn(frame)
            if given < len(run.wanted):
                return


def _run(container: Any, stream: Any, run: Run) -> Iterator[av.VideoFrame]:
    kept, context, given, begun = {run.begins, *run.wanted}, stream.codec_context, 0, False
    for packet in container.demux(stream):
        # What no other frame is predicted from need not be decoded: in most files, every second frame.
        context.skip_frame = "DEFAULT" if packet.pts is None or packet.pts in kept else "NONREF"
        for frame in packet.decode():
            if not begun and frame.pts != run.begins:
                return
            begun = True
            if frame.pts == run.wanted[given]:
                yield frame
                given += 1
                if given == len(run.wanted):
                    return


def _all(stretch: VideoSegment) -> Iterator[av.VideoFrame]:
    with _opened(stretch) as (container, stream):
        yield from container.decode(stream)


def _numbered(stretch: VideoSegment, wanted: set[int]) -> Iterator[NDArray[np.uint8]]:
    turn, last = Upright(stretch), max(wanted)
    for number, frame in enumerate(_all(stretch)):
        if number in wanted:
            yield turn(frame)
        if number == last:
            return


@contextmanager
def _opened(stretch: VideoSegment) -> Iterator[tuple[Any, Any]]:
    with av.open(str(stretch.path.absolute())) as container:
        stream = video_stream(container, stretch.path)
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"err_detect": "explode"}  # else damage is painted over, without a word
        yield container, stream


class Upright:
    """Pixels ``[H, W, 3]`` of frames, turned as the file asks for (which decord does by itself), on white.

    Raises:
        VideoError: if a frame is marked as damaged.
    """

    def __init__(self, stretch: VideoSegment) -> None:
        self.path = stretch.path
        # One for all frames: frame.to_ndarray makes its own each time, which takes longer.
        self.converter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        if frame.is_corrupt:
            raise unreadable(self.path, f"its frame at {frame.time} s is damaged")
        clear = any(part.is_alpha for part in frame.format.components) or frame.format.name == "pal8"
        pixels = np.asarray(self.converter.reformat(frame, format="rgba" if clear else "rgb24").to_ndarray(), np.uint8)
        if clear:
            opacity = pixels[..., 3:].astype(np.uint16)
            pixels = ((pixels[..., :3] * opacity + 255 * (255 - opacity) + 127) // 255).astype(np.uint8)
        return np.rot90(pixels, round(frame.rotation / 90))
