"""Read what the packets of a video file say of its frames, before any is decoded.

A packet is one compressed piece of the file. Its header holds the time stamp and whether decoding can begin there (a
key frame), so reading packets costs little beside decoding frames. From them follow the times of all frames, whether
the file is whole, and whether a reader may jump to a key frame and decode from there.
"""

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

from dynfocus.settings import FrameRule
from dynfocus.video.clip import check_pixels, unreadable_error
from dynfocus.video.containers import collect_pyav_errors, open_container
from dynfocus.video.starts import find_start
from dynfocus.video.time_limit import seconds_left
from dynfocus.video.truncation import missing_bytes

# In containers with an index of frames, PyAV finds the right ones of these by jumping to a key frame, also where
# pictures shown before it are stored after it (open GOPs). decord jumps, without an error, to wrong frames of open GOPs
# and HEVC. So each has its list of what was tested to be right; the rest is decoded from its beginning.
SEEKABLE = frozenset({"h264", "mjpeg", "mpeg4", "vp9", "hevc", "av1"})  # a packet holds one frame, and its time
FOR_DECORD = frozenset({"h264", "mjpeg", "mpeg4", "vp9"})
MAY_HIDE = frozenset({"mpeg4"})  # packets that show nothing new give no frame
# Brands of the MP4 container.
PHOTOGRAPHS = frozenset({"avif", "avis", "heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1", "miaf"})
CONTAINERS = frozenset({"mp4", "matroska"})
MAX_REORDER = 16  # frames; in no codec are more stored between a frame and the place where it is shown
MAX_DELAY = 1 << 27  # units of time from decoding to showing; decord's FFmpeg drops all delays where one is 2^28
MAX_EARLY_END = 1.0  # seconds that all of a file's streams may end before the length in its header


@dataclass(frozen=True)
class Packets:
    """The facts about a file's frames that its packets give.

    Attributes:
        stamps: of all frames, in the stream's unit of time, ascending; None where packets do not give them reliably.
        times: float64 seconds since the first frame; None likewise.
        keys: which of the frames can be decoded without another, ascending; None likewise.
        seekable: whether the right frames are found in this file by jumping to the key frame before them.
        for_decord: whether decord finds them too, where it need not turn them.
        bulk: bytes of the most frames, at their own size, that are decoded to reach one of them; 0 if unknown.
        shows_all: whether every packet, once there is a picture, must give a frame.
        pixel: width of a stored pixel as it is shown, over its height.
    """

    stamps: NDArray[np.int64] | None
    times: NDArray[np.float64] | None
    keys: NDArray[np.int64] | None
    seekable: bool
    for_decord: bool
    bulk: int
    shows_all: bool
    pixel: float = 1.0


def read_packets(path: Path, rule: FrameRule) -> Packets:
    """Read all packets of a video.

    Raises:
        VideoError: if it has no video stream, is larger than the rule allows, is cut off, or damaged between packets.
    """
    with open_container(path) as container:
        stream = video_stream(container, path)
        if container.format.name == "tty":
            raise unreadable_error(path, "it is text, which FFmpeg would draw")
        codec, names = stream.codec_context, set(container.format.name.split(","))
        kind = codec.codec.canonical_name  # the decoder of AV1 has a name of its own
        has_index = not CONTAINERS.isdisjoint(names)
        check_pixels(path, codec.width, codec.height, rule)
        pixel = float(stream.sample_aspect_ratio or 1)
        stamps: list[int | None] = []
        keys: list[int] = []
        last_second, longest_delay, nothing_discarded = 0.0, 0, True
        closed, keys_begin = True, True  # no picture needs one before the last key frame; none shown after it does
        with collect_pyav_errors() as errors:
            # Matroska's header holds one length for all streams, so sound and subtitles count when its end is checked.
            for packet in container.demux(list(container.streams) if "matroska" in names else [stream]):
                seconds_left()
                if packet.size == 0:  # the mark at a stream's end
                    continue
                if packet.pts is not None:
                    last_second = max(last_second, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                if packet.stream.index != stream.index:
                    continue
                stamps.append(packet.pts)
                nothing_discarded &= not packet.is_discard
                if packet.pts is not None and packet.dts is not None:
                    longest_delay = max(longest_delay, packet.pts - packet.dts)
                if packet.pts is not None and packet.is_keyframe:
                    keys.append(packet.pts)
                    start = find_start(kind, bytes(packet), codec.extradata or b"")
                    closed &= start == "closed"
                    keys_begin &= start != "none"
                # Stored after a key frame and shown before it: an open GOP.
                elif not keys or packet.pts is None or packet.pts < keys[-1]:
                    closed = False
        if "mp4" in names and len(stamps) < stream.frames and (count := count_stored_frames(path)) < stream.frames:
            raise unreadable_error(path, f"only {count} of its {stream.frames} frames are there")
        header_seconds = (container.duration or 0) / av.time_base
        if "matroska" in names and last_second < header_seconds - MAX_EARLY_END:
            raise unreadable_error(path, f"it ends after {last_second:.1f} of {header_seconds:.1f} s")
        if missing_end := missing_bytes(path):
            raise unreadable_error(path, f"at least {missing_end} bytes are cut off from its end")
        if errors and has_index:
            raise unreadable_error(path, errors[0])
        # Packets come in the order in which they are decoded; frames are shown in the order of their stamps.
        in_order = [stamp for stamp in stamps if stamp is not None]
        ordered_stamps = sorted(in_order)
        is_timed = has_index and nothing_discarded and kind in SEEKABLE
        # A frame without a stamp, two with the same one, or a clock that starts again: then packets do not give the
        # times of all frames.
        is_timed = is_timed and len(set(in_order)) == len(stamps) and len(split_clocks(in_order)) == 1
        if not is_timed:
            return Packets(None, None, None, False, False, 0, False, pixel)
        ticks = np.array(ordered_stamps, np.int64)
        is_8_bit = codec.format is not None and all(part.bits == 8 for part in codec.format.components)
        has_one_stream = len(container.streams.video) == 1
        times = (ticks - ticks[0]) * float(stream.time_base)
        key_indices = np.searchsorted(ticks, sorted(keys))
        seekable = keys_begin and key_indices[:1].tolist() == [0]
        bulk = 3 * codec.width * codec.height * int(np.diff(key_indices, append=len(ticks)).max(initial=0))
        for_decord = closed and is_8_bit and has_one_stream and longest_delay < MAX_DELAY and kind in FOR_DECORD
        shows_all = kind not in MAY_HIDE
        return Packets(ticks, times, key_indices, seekable, for_decord, bulk, shows_all, pixel)


def count_stored_frames(path: Path) -> int:
    """Count the frames in an MP4, those too of which its edit list says that they are not shown."""
    with open_container(path, ignore_editlist="1") as container:
        return sum(packet.size > 0 for packet in container.demux(video_stream(container, path)))


def split_clocks(stamps: Iterable[int]) -> list[list[int]]:
    """Split the stamps of frames where the clock starts again; within each part they are sorted.

    Frames may bear stamps that are slightly out of order: AVI stores none, and FFmpeg's count in the order of decoding.
    A stamp that comes later than any codec could hold it back, or a second time, begins a new part.
    """
    parts: list[list[int]] = []
    latest: list[int] = []  # of this part, ascending
    for stamp in stamps:
        if not latest or stamp in latest[:-1] or (len(latest) > MAX_REORDER and stamp < latest[0]):
            parts.append([])
            latest = []
        parts[-1].append(stamp)
        bisect.insort(latest, stamp)
        latest = latest[-MAX_REORDER - 1 :]
    return [sorted(part) for part in parts]


def join_clocks(parts: list[list[int]]) -> NDArray[np.int64]:
    """Join the parts of `split_clocks` to stamps that ascend: where a clock starts again, it counts on."""
    joined, gap = np.array(parts[0], np.int64), 1
    for number, part in enumerate(parts):
        ticks = np.array(part, np.int64)
        if number > 0:
            joined = np.append(joined, ticks - ticks[0] + joined[-1] + gap)
        gaps = np.diff(ticks)
        gap = int(np.median(gaps[gaps > 0])) if gaps.any() else gap
    return joined


def count_decoded_frames(indices: Sequence[int], keys: NDArray[np.int64]) -> int:
    """Count the frames that a reader decodes for these, ascending, if it jumps to the last key frame before each."""
    groups = np.searchsorted(keys, indices, side="right") - 1
    last = dict(zip(groups.tolist(), indices, strict=True))
    return sum(index - int(keys[group]) + 1 for group, index in last.items())


def holds_video(path: Path) -> bool:
    """Return whether a file is, by its content, a video, or a photograph in the container of one (HEIC)."""
    try:
        with open_container(path) as container:
            is_image = container.format.name.endswith("_pipe") or container.format.name == "image2"
            return bool(container.streams.video) and not is_image
    except Exception:  # reading the file then says why it fails
        return False


def video_stream(container: Any, path: Path) -> Any:
    """Return the first video stream that is no cover picture.

    Raises:
        VideoError: if there is none, or it is but a part of a photograph: FFmpeg gives the tiles, the transparency and
            the moving pictures of HEIC and AVIF each by itself.
    """
    streams = [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]
    if not streams:
        raise unreadable_error(path, "it has no video stream")
    is_photograph = container.metadata.get("major_brand") in PHOTOGRAPHS
    wholes = [one for one in streams if not is_photograph or not one.disposition & Disposition.dependent]
    if is_photograph and len(wholes) != 1:
        raise unreadable_error(path, "it is made of several pictures, of which FFmpeg gives one; JPEG holds it whole")
    if wholes[0].codec_context is None:
        raise unreadable_error(path, "there is no decoder for its video")
    return wholes[0]
