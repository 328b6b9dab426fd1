"""Tell from the bytes of a key frame whether decoding may begin with it.

Containers mark more as key frames than what decoding can begin with: pictures after which the others become whole step
by step, or which only show what was decoded before.
"""

import re
from collections.abc import Iterator
from typing import Literal

Start = Literal["closed", "open", "none"]
H264_IDR, H264_MESSAGE = 5, 6  # types of units
HEVC_IDR, HEVC_START = range(19, 21), range(16, 22)
RECOVERY_POINT = 6  # the type of H.264's message that says from which picture on all are whole
AV1_FRAMES = (3, 6)  # types of units that begin a frame


def find_start(codec: str, packet: bytes, extradata: bytes) -> Start:
    """Return what may be decoded when decoding begins with a packet that a container marks as a key frame.

    ``closed``: all that follows. ``open``: all that is shown after it; what is stored after it and shown before it may
    need earlier pictures. ``none``: the file has to be decoded from its beginning. Codecs whose every key frame is a
    start are not looked into.

    Args:
        codec: FFmpeg's name.
        packet: its bytes.
        extradata: the stream's; they say how units are told apart.
    """
    if codec == "h264":
        return _find_h264_start(list(_split_units(packet, extradata, 4)))
    if codec == "hevc":
        types = [unit[0] >> 1 & 63 for unit in _split_units(packet, extradata, 21)]
        pictures = [one for one in types if one < 32]
        if any(one in HEVC_IDR for one in pictures):
            return "closed"
        return "open" if any(one in HEVC_START for one in pictures) else "none"
    return "closed" if codec != "av1" or _shows_key_frame(packet) else "none"


def _split_units(packet: bytes, extradata: bytes, place: int) -> Iterator[bytes]:
    """Yield the units of H.264 or HEVC, which each follow their length or a start code, but for empty ones.

    Where ``extradata`` begin with 1, units follow their length, whose own bytes the byte at ``place`` tells.
    """
    if extradata[:1] != b"\1" or len(extradata) <= place:
        yield from filter(None, re.split(b"\0\0\1", packet)[1:])
        return
    at, width = 0, (extradata[place] & 3) + 1
    while at + width < len(packet):
        size = int.from_bytes(packet[at : at + width], "big")
        if size:
            yield packet[at + width : at + width + size]
        at += width + size


def _find_h264_start(units: list[bytes]) -> Start:
    if any(unit[0] & 31 == H264_IDR for unit in units):
        return "closed"
    return "open" if any(_recovers_at_once(unit) for unit in units if unit[0] & 31 == H264_MESSAGE) else "none"


def _recovers_at_once(unit: bytes) -> bool:
    """Return whether a unit of messages says that all pictures shown from its own on are whole."""
    messages = unit[1:].replace(b"\0\0\3", b"\0\0")  # the 3 only keeps numbers from looking like a start code
    at = 0
    while at + 2 < len(messages):
        kind_and_size = []
        for _ in range(2):  # each number is the sum of bytes up to the first below 255
            number = 0
            while at < len(messages) and messages[at] == 255:
                number, at = number + 255, at + 1
            kind_and_size.append(number + (messages[at] if at < len(messages) else 0))
            at += 1
        kind, size = kind_and_size
        if kind == RECOVERY_POINT and at < len(messages):
            # Pictures to wait for, 0 being the bit 1; then whether what follows is exact.
            return messages[at] >> 6 == 0b11
        at += size
    return False


def _shows_key_frame(packet: bytes) -> bool:
    """Return whether the first frame of a packet of AV1 is a key frame that is shown, after which all begins anew."""
    at = 0
    while at < len(packet):
        header = packet[at]
        at += 1 + (header >> 2 & 1)
        size = len(packet) - at
        if header >> 1 & 1:
            size, shift = 0, 0
            while at < len(packet):  # seven bits a byte, the lowest first
                size |= (packet[at] & 127) << shift
                shift, at = shift + 7, at + 1
                if not packet[at - 1] & 128:
                    break
        if header >> 3 & 15 in AV1_FRAMES and at < len(packet):
            # One bit: it only shows an earlier frame. Two: its kind, 0 for a key frame. One: it is shown.
            return packet[at] >> 4 == 0b0001
        at += size
    return False
