"""PyAV: every frame in its order, whatever the codec; what its decoder complains of is an error."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from dynfocus.records import Excerpt
from dynfocus.settings import FrameRule
from dynfocus.video.clip import Clip, chosen, unreadable
from dynfocus.video.packets import Packets, video_stream
from dynfocus.video.resizing import resized_all


def read_with_pyav(stretch: Excerpt, rule: FrameRule, packets: Packets) -> Clip:
    """The clip as PyAV reads it: once through the file, or twice where packets do not tell the times of all frames.

    Raises:
        VideoError: if no frame is there, or the decoder conceals damage in one that is asked for.
    """
    if packets.stamps is not None and packets.times is not None:
        times, indices = packets.times, chosen(packets.times, rule, stretch)
        frames = resized_all(_at(stretch, packets.stamps[indices], packets.stamps[0]), len(indices), rule)
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


def _at(stretch: Excerpt, stamps: NDArray[np.int64], first: np.int64) -> Iterator[NDArray[np.uint8]]:
    """Frames with these stamps, in this order; fewer where the file shows others than its packets say."""
    wanted, turn = stamps.tolist(), Upright(stretch)
    kept = {*wanted, int(first)}
    with _opened(stretch) as (container, stream):
        context, begun = stream.codec_context, False
        for packet in container.demux(stream):
            # What no other frame is predicted from need not be decoded: in most files, every second frame.
            context.skip_frame = "DEFAULT" if packet.pts is None or packet.pts in kept else "NONREF"
            for frame in packet.decode():
                if not begun and frame.pts != first:
                    return
                begun = True
                if frame.pts == wanted[0]:
                    yield turn(frame)
                    wanted.pop(0)
                    if not wanted:
                        return


def _all(stretch: Excerpt) -> Iterator[av.VideoFrame]:
    with _opened(stretch) as (container, stream):
        yield from container.decode(stream)


def _numbered(stretch: Excerpt, wanted: set[int]) -> Iterator[NDArray[np.uint8]]:
    turn, last = Upright(stretch), max(wanted)
    for number, frame in enumerate(_all(stretch)):
        if number in wanted:
            yield turn(frame)
        if number == last:
            return


@contextmanager
def _opened(stretch: Excerpt) -> Iterator[tuple[Any, Any]]:
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

    def __init__(self, stretch: Excerpt) -> None:
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
