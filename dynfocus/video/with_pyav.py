"""Read videos with PyAV: every frame in its order, whatever the codec; what its decoder reports is an error."""

import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import av
import numpy as np
import torch
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from torch import Tensor

from dynfocus.errors import VideoError
from dynfocus.records.rows import VideoSegment
from dynfocus.settings import FrameRule
from dynfocus.video.clip import Clip, pick_segment_frames, unreadable_error
from dynfocus.video.containers import collect_pyav_errors, open_container
from dynfocus.video.packets import CONTAINERS, Packets, join_clocks, split_clocks, video_stream
from dynfocus.video.resizing import resize_frame, stack_frames
from dynfocus.video.time_limit import find_deadline, seconds_left, share_limit

# A picture that H.264 need not remember any longer is not there. That hurts none: one that is predicted from a missing
# picture is reported by itself.
UNMARKED = "mmco: unref short failure"
NEAR = 4  # frames; decoding so many is faster than jumping over them
LONGEST = 100  # frames after which a run ends at the next key frame, where several threads share the work
AHEAD = 2  # runs a thread that may be decoded before they are asked for
Made = TypeVar("Made")


def read_with_pyav(segment: VideoSegment, rule: FrameRule, packets: Packets, threads: int = 1) -> Clip:
    """Read a clip by jumping to the key frame before each frame where that is known to be right, else once through the
    file, or twice where packets do not give the times of all frames.

    Raises:
        VideoError: if no frame is there, or the decoder reports damage in one that is asked for.
    """
    pixel = shown_pixel(segment, packets)

    def resize(frame: NDArray[np.uint8]) -> Tensor:
        return resize_frame(frame, rule, pixel)

    if packets.stamps is not None and packets.times is not None:
        times, indices = packets.times, pick_segment_frames(packets.times, rule, segment)
        for attempt in plan_decoding(segment, packets.stamps, packets, indices, resize, threads):
            frames = stack_frames(attempt, len(indices), rule)
            if frames is not None:
                return Clip(frames, torch.tensor(times[indices], dtype=torch.float32), "pyav")
    times = decode_times(segment, packets)
    indices = pick_segment_frames(times, rule, segment)
    frames = stack_frames(map(resize, decode_indices(segment, set(indices))), len(indices), rule)
    if frames is None:
        raise unreadable_error(segment.path, "it holds other frames when it is read again")
    return Clip(frames, torch.tensor(times[indices], dtype=torch.float32), "pyav")


def shown_pixel(segment: VideoSegment, packets: Packets) -> float:
    """Return the width of a pixel over its height, of frames that are turned as the file asks for."""
    return 1 / packets.pixel if packets.pixel != 1 and read_turn(segment).transpose else packets.pixel


def plan_decoding(
    segment: VideoSegment,
    stamps: NDArray[np.int64],
    packets: Packets,
    indices: list[int],
    make: Callable[[NDArray[np.uint8]], Made],
    threads: int = 1,
) -> Iterator[Iterator[Made]]:
    """Yield ways to decode the frames of these numbers, the fastest first; one that fails yields too few frames.

    What ``make`` makes of each frame is handed on. Each of the ``threads`` decodes from key frames of its own, by a
    decoder of one thread, so that frames and errors are the same as with one; a file where no jump is right has one.
    """
    if packets.seekable and packets.keys is not None:
        runs = plan_runs(stamps, packets.keys, indices, math.inf if threads == 1 else LONGEST)
        threads = min(threads, len(runs))
        yield _jump(segment, runs, make) if threads < 2 else _jump_in_threads(segment, runs, make, threads)
    yield _decode_from_start(segment, Run(int(stamps[0]), stamps[indices].tolist()), make)


def decode_times(segment: VideoSegment, packets: Packets) -> NDArray[np.float64]:
    """Decode all of a video for the seconds of its frames, the first at 0.

    Raises:
        VideoError: if there is no frame, frames have no time stamps, or packets say that some were lost.
    """
    stamps, unit = [], 0.0
    for frame in _decode_all(segment):
        if frame.pts is None or frame.time_base is None:
            raise unreadable_error(segment.path, "its frames have no time stamps")
        stamps.append(frame.pts)
        unit = float(frame.time_base)
    if not stamps:
        raise unreadable_error(segment.path, "it holds no frame")
    if packets.stamps is not None and packets.shows_all:
        lost = (packets.stamps >= stamps[0]).sum() - len(stamps)
        if lost > 0:
            raise unreadable_error(segment.path, f"{lost} of its frames cannot be decoded")
    ticks = join_clocks(split_clocks(stamps))
    return (ticks - ticks[0]) * unit


@dataclass(frozen=True)
class Run:
    """Frames that are decoded one after another.

    Attributes:
        start: the stamp of the frame that decoding begins with.
        stamps: of the frames that are asked for, ascending.
    """

    start: int
    stamps: list[int]


def plan_runs(
    stamps: NDArray[np.int64], keys: NDArray[np.int64], indices: list[int], longest: float = math.inf
) -> list[Run]:
    """Group the frames into runs, each from the last key frame before its first; near frames share a run.

    After ``longest`` frames a run ends at the next key frame.
    """
    result: list[Run] = []
    first, last = -1, -1
    for index, key in zip(indices, keys[np.searchsorted(keys, indices, side="right") - 1].tolist(), strict=True):
        if not result or key > last + NEAR or key >= first + longest:
            result.append(Run(int(stamps[key]), []))
            first = key
        result[-1].stamps.append(int(stamps[index]))
        last = index
    return result


@dataclass(frozen=True)
class Decoder:
    """An open file, and what makes pixels of its frames."""

    container: Any
    stream: Any
    path: Path
    convert: "FrameConverter"

    def jump(self, run: Run) -> Iterator[NDArray[np.uint8]]:
        """Yield the frames of a run; fewer where the jump misses, or what is there cannot be decoded by itself."""
        with suppress(av.FFmpegError, VideoError):
            self.container.seek(run.start, stream=self.stream)
            yield from self.decode(run)

    def decode(self, run: Run) -> Iterator[NDArray[np.uint8]]:
        """Yield the frames of a run that follow; fewer where the file shows others than its packets say."""
        yield from map(self.convert, _decode_run(self.container, self.stream, run, self.path))


@contextmanager
def _open_decoder(segment: VideoSegment) -> Iterator[Decoder]:
    with _open_video(segment) as (container, stream):
        yield Decoder(container, stream, segment.path, FrameConverter(segment))


def _decode_from_start(segment: VideoSegment, run: Run, make: Callable[[NDArray[np.uint8]], Made]) -> Iterator[Made]:
    with _open_decoder(segment) as decoder:
        yield from map(make, decoder.decode(run))


def _jump(segment: VideoSegment, runs: list[Run], make: Callable[[NDArray[np.uint8]], Made]) -> Iterator[Made]:
    with _open_decoder(segment) as decoder:
        for run in runs:
            count = 0
            for frame in decoder.jump(run):
                count += 1
                yield make(frame)
            if count < len(run.stamps):
                return


def _jump_in_threads(
    segment: VideoSegment, runs: list[Run], make: Callable[[NDArray[np.uint8]], Made], threads: int
) -> Iterator[Made]:
    with ExitStack() as stack:
        deadline, idle = find_deadline(), SimpleQueue[Decoder]()
        for _ in range(threads):
            idle.put(stack.enter_context(_open_decoder(segment)))

        def work(run: Run) -> list[Made]:
            decoder = idle.get()
            try:
                with share_limit(deadline):
                    return [make(frame) for frame in decoder.jump(run)]
            finally:
                idle.put(decoder)

        pool = ThreadPoolExecutor(threads)
        stack.callback(pool.shutdown, cancel_futures=True)  # before the files are closed
        pending: deque[tuple[Run, Future[list[Made]]]] = deque()
        rest = iter(runs)
        while True:
            pending.extend((run, pool.submit(work, run)) for run in islice(rest, AHEAD * threads - len(pending)))
            if not pending:
                return
            run, future = pending.popleft()
            made = future.result()
            yield from made
            if len(made) < len(run.stamps):
                return


def _decode_run(container: Any, stream: Any, run: Run, path: Path) -> Iterator[av.VideoFrame]:
    count, in_run = 0, False
    for frame in _decode_frames(container, stream, path, {run.start, *run.stamps}):
        if not in_run and frame.pts is not None and frame.pts < run.start:
            continue  # it is stored after the key frame, shown before it, and can be decoded without others
        if not in_run and frame.pts != run.start:
            return
        in_run = True
        if frame.pts == run.stamps[count]:
            yield frame
            count += 1
            if count == len(run.stamps):
                return


def _decode_frames(container: Any, stream: Any, path: Path, needed: set[int] | None = None) -> Iterator[av.VideoFrame]:
    """Yield the frames that follow; with ``needed``, only those that others are predicted from, and those.

    A clip that was cut without encoding has pictures before its first key frame, or stored after it and shown before
    it, that refer to others which are not there: damage in them is none, and they are not shown.

    Raises:
        VideoError: if the decoder reports damage in another one.
    """
    begin: float | None = None
    latest, is_cut = -math.inf, False
    has_index = not CONTAINERS.isdisjoint(stream.container.format.name.split(","))
    for packet in container.demux(stream):
        seconds_left()
        if needed is not None:
            # What no other frame is predicted from need not be decoded: in most files, every second frame.
            is_needed = packet.pts is None or packet.pts in needed
            stream.codec_context.skip_frame = "DEFAULT" if is_needed else "NONREF"
        if begin is None and packet.is_keyframe:
            begin = -math.inf if packet.pts is None else packet.pts
        latest = max(latest, -math.inf if packet.pts is None else packet.pts)
        if begin is None:
            precedes = not has_index  # whoever cuts files with an index of frames begins at a key frame
        elif packet.pts is None:  # Matroska has no stamps for what is shown before 0 s
            precedes = -math.inf < latest <= begin
        else:
            precedes = packet.pts < begin
        frames: list[av.VideoFrame] = []
        with collect_pyav_errors() as errors:
            try:
                frames = packet.decode()
            except av.InvalidDataError as error:
                errors.append(str(error))
        errors = [error for error in errors if UNMARKED not in error]
        if errors and not precedes:
            raise unreadable_error(path, errors[0])
        is_cut |= bool(errors)
        for frame in frames:
            is_shown = begin is not None and (frame.pts is None or frame.pts >= begin)
            if is_shown or not (is_cut or frame.is_corrupt):
                yield frame
    if begin is None and is_cut:
        raise unreadable_error(path, "none of its pictures can be decoded without others, which are not there")


def _decode_all(segment: VideoSegment) -> Iterator[av.VideoFrame]:
    with _open_video(segment) as (container, stream):
        yield from _decode_frames(container, stream, segment.path)


def decode_indices(segment: VideoSegment, indices: set[int]) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of these numbers, going once through the file from its beginning."""
    convert, last = FrameConverter(segment), max(indices)
    for number, frame in enumerate(_decode_all(segment)):
        if number in indices:
            yield convert(frame)
        if number == last:
            return


@contextmanager
def _open_video(segment: VideoSegment) -> Iterator[tuple[Any, Any]]:
    with open_container(segment.path) as container:
        stream = video_stream(container, segment.path)
        stream.codec_context.thread_count = 1  # so that what the decoder reports is of the packet just read
        yield container, stream


@dataclass(frozen=True)
class Turn:
    """How stored pixels become those that are shown: transposed where it says so, then mirrored.

    Attributes:
        transpose: whether rows and columns change places.
        mirror_x: whether left and right change places, after that.
        mirror_y: whether top and bottom do.
    """

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        pixels = pixels.swapaxes(0, 1) if self.transpose else pixels
        return pixels[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1]


def find_turn(frame: av.VideoFrame) -> Turn:
    """Return the turn that a frame asks for; one that is not by right angles counts as the nearest that is."""
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return Turn()
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()  # (x, y) goes to (a x + c y, b x + d y)
    transpose = abs(b) + abs(c) > abs(a) + abs(d)
    return Turn(transpose, *((c < 0, b < 0) if transpose else (a < 0, d < 0)))


def read_turn(segment: VideoSegment) -> Turn:
    """Return the turn of all of a video: its first frame's, for where pictures ask for it only key frames do."""
    with suppress(av.FFmpegError, StopIteration), open_container(segment.path) as container:
        return find_turn(next(container.decode(video_stream(container, segment.path))))
    return Turn()  # a first frame that is damaged matters only where it is asked for


class FrameConverter:
    """Converts frames to pixels ``[H, W, 3]``, turned as the file asks for, on white.

    Raises:
        VideoError: if a frame is marked as damaged.
    """

    def __init__(self, segment: VideoSegment) -> None:
        self.path, self.turn = segment.path, read_turn(segment)
        # One for all frames: frame.to_ndarray makes its own each time, which takes longer.
        self.converter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        if frame.is_corrupt:
            raise unreadable_error(self.path, f"its frame at {frame.time} s is damaged")
        clear = any(part.is_alpha for part in frame.format.components) or frame.format.name == "pal8"
        pixels = np.asarray(self.converter.reformat(frame, format="rgba" if clear else "rgb24").to_ndarray(), np.uint8)
        if clear:
            opacity = pixels[..., 3:].astype(np.uint16)
            pixels = ((pixels[..., :3] * opacity + 255 * (255 - opacity) + 127) // 255).astype(np.uint8)
        return self.turn(pixels)
