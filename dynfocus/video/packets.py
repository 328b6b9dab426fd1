"""What the packets of a video file say of its frames, before any is decoded."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.logging
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

from dynfocus.settings import FrameRule
from dynfocus.video.clip import check_pixels, unreadable
from dynfocus.video.truncation import missing_bytes

# decord seeks, silently, to wrong frames where pictures shown before a key frame are stored after it (HEVC, open GOPs),
# and in containers without an index of frames (MPEG-TS). What is known to be right goes to it, the rest to PyAV.
SEEKABLE = frozenset({"h264", "mjpeg", "mpeg4", "vp9"})
TIMED = SEEKABLE | {"hevc", "av1"}  # a packet holds one frame, and its time
MAY_HIDE = frozenset({"mpeg4"})  # packets that show nothing new give no frame
CONTAINERS = frozenset({"mp4", "matroska"})
IDR = 5  # the kind of a unit of H.264
CUT = 1.0  # seconds that all of a file's streams may end before the length in its header


@dataclass(frozen=True)
class Packets:
    """What a file's packets tell.

    Attributes:
        stamps: of all frames, in the stream's unit of time, ascending; None where packets do not tell them reliably.
        times: float64 seconds since the first frame; None likewise.
        keys: which of the frames can be decoded without another, ascending; None likewise.
        seekable: whether the right frames are found in this file by jumping to the key frame before them.
        bulk: bytes of the most frames, at their own size, that are decoded to reach one of them; 0 if unknown.
        shows_all: whether every packet, once there is a picture, must give a frame.
    """

    stamps: NDArray[np.int64] | None
    times: NDArray[np.float64] | None
    keys: NDArray[np.int64] | None
    seekable: bool
    bulk: int
    shows_all: bool


def read_packets(path: Path, rule: FrameRule) -> Packets:
    """Read all packets of a video.

    Raises:
        VideoError: if it has no video stream, is larger than the rule allows, is cut off, or damaged between packets.
    """
    with av.open(str(path.absolute())) as container:
        stream = video_stream(container, path)
        if container.format.name == "tty":
            raise unreadable(path, "it is text, which FFmpeg would draw")
        codec, names = stream.codec_context, set(container.format.name.split(","))
        indexed = not CONTAINERS.isdisjoint(names)
        check_pixels(path, codec.width, codec.height, rule)
        stamps: list[int | None] = []
        keys: list[int] = []
        reached, ordered, whole = 0.0, True, True
        with complaints() as said:
            for packet in container.demux([stream, *(container.streams.audio if "matroska" in names else ())]):
                if packet.size == 0:
                    continue
                if packet.pts is not None:
                    reached = max(reached, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                if packet.stream.index != stream.index:
                    continue
                stamps.append(packet.pts)
                whole &= not packet.is_discard
                if packet.pts is not None and packet.is_keyframe:
                    keys.append(packet.pts)
                    ordered &= codec.name != "h264" or begins_anew(bytes(packet), codec.extradata or b"")
                elif not keys or packet.pts is None or packet.pts < keys[-1]:
                    ordered = False
        if "mp4" in names and len(stamps) < stream.frames:
            raise unreadable(path, f"only {len(stamps)} of its {stream.frames} frames are there")
        promised = (container.duration or 0) / av.time_base
        if "matroska" in names and reached < promised - CUT:
            raise unreadable(path, f"it ends after {reached:.1f} of {promised:.1f} s")
        if lost := missing_bytes(path):
            raise unreadable(path, f"at least {lost} bytes are cut off from its end")
        if said and indexed:
            raise unreadable(path, said[0])
        known = sorted(stamp for stamp in stamps if stamp is not None)
        if not (known and whole and indexed and codec.name in TIMED) or len(set(known)) < len(stamps):
            return Packets(None, None, None, False, 0, False)
        ticks = np.array(known, np.int64)
        eight = codec.format is not None and all(part.bits == 8 for part in codec.format.components)
        alone = len(container.streams.video) == 1
        seekable = ordered and eight and alone and codec.name in SEEKABLE
        times = (ticks - ticks[0]) * float(stream.time_base)
        begins = np.searchsorted(ticks, sorted(keys))
        bulk = 3 * codec.width * codec.height * int(np.diff(begins, append=len(ticks)).max(initial=0))
        return Packets(ticks, times, begins, seekable, bulk, codec.name not in MAY_HIDE)


def begins_anew(packet: bytes, told: bytes) -> bool:
    """Whether a packet of H.264 holds an IDR picture: others marked as keys may only begin to build up a whole one.

    Args:
        packet: units that each follow their length, or a start code.
        told: the stream's extradata, which tells which.
    """
    if told[:1] != b"\1":
        return any(packet[found.end()] & 31 == IDR for found in re.finditer(b"\0\0\1(?=.)", packet, re.DOTALL))
    at, width = 0, (told[4] & 3) + 1
    while at + width < len(packet):
        if packet[at + width] & 31 == IDR:
            return True
        at += width + int.from_bytes(packet[at : at + width], "big")
    return False


def passed(indices: Sequence[int], keys: NDArray[np.int64]) -> int:
    """How many frames are decoded for these, ascending, by a reader that jumps to the last key before each."""
    groups = np.searchsorted(keys, indices, side="right") - 1
    last = dict(zip(groups.tolist(), indices, strict=True))
    return sum(index - int(keys[group]) + 1 for group, index in last.items())


def video_stream(container: Any, path: Path) -> Any:
    """The first video stream that is no cover picture; raises VideoError if there is none."""
    streams = [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]
    if not streams:
        raise unreadable(path, "it has no video stream")
    if streams[0].codec_context is None:
        raise unreadable(path, "there is no decoder for its video")
    return streams[0]


@contextmanager
def complaints() -> Iterator[list[str]]:
    """A list that, after the block, holds the errors that PyAV's FFmpeg reported without raising them."""
    said: list[str] = []
    level, repeats = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)  # else a file that is read again has nothing to say
    try:
        with av.logging.Capture() as logs:
            yield said
        said += [text for severity, _, text in logs if severity <= av.logging.ERROR]
    finally:
        av.logging.set_skip_repeated(repeats)
        av.logging.set_level(level)
