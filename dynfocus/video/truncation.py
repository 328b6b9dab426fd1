"""Files that end before the end that they themselves tell, which FFmpeg reads as shorter ones without a word."""

import os
from pathlib import Path
from typing import BinaryIO

EBML, SEGMENT, UNKNOWN = 0x1A45DFA3, 0x18538067, 0x7F
LONG = 1  # the size of an MP4 box that is told in eight bytes more; 0 is that of one that goes on to the end


def missing_bytes(path: Path) -> int:
    """How many bytes, at the least, are cut off from the end of an MP4 in fragments, an AVI, Matroska or WebM file.

    0 for all other files, for those whose writer never told a length, and for those that are cut at a border: between
    two fragments of an MP4 file, or between the parts of an AVI file above 1 GB.
    """
    size = os.stat(path).st_size
    with open(path, "rb") as file:
        head = file.read(12)
        if head[:4] == b"RIFF":
            return max(0, _riff_end(file, size) - size)
        if int.from_bytes(head[:4], "big") == EBML:
            return max(0, _segment_end(file, size) - size)
        if head[4:8] in (b"ftyp", b"styp", b"moov"):
            return max(0, _boxes_end(file, size) - size)
    return 0


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Where the last box ends; the file's own end if it is not in fragments, whose frames are counted elsewhere."""
    at, fragments = 0, False
    while at < size:
        file.seek(at)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        fragments |= kind == b"moof"
        if length == LONG:
            length = int.from_bytes(head[8:], "big")
        if len(head) < 8:
            at += 8
        elif length < 8 or not kind.isalnum():
            break
        else:
            at += length
    return at if fragments else size


def _riff_end(file: BinaryIO, size: int) -> int:
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] != b"RIFF" or not length:
            break
        at += 8 + length
    return at


def _segment_end(file: BinaryIO, size: int) -> int:
    at = 0
    while at < size:
        file.seek(at)
        name = int.from_bytes(file.read(4), "big")
        first = int.from_bytes(file.read(1), "big")
        more = 8 - first.bit_length()  # the leading zeros tell how many bytes follow
        if name not in (EBML, SEGMENT) or more > 7:
            break
        told = int.from_bytes(bytes([first & (UNKNOWN >> more)]) + file.read(more), "big")
        if told == 2 ** (7 * (more + 1)) - 1:
            break  # that is: unknown
        at += 5 + more + told
    return at
