"""Detect truncated MP4, AVI, Matroska, Ogg and ASF (WMV) files from the sizes in their headers.

FFmpeg reads such a file as a shorter video, without an error.
"""

import os
from pathlib import Path
from typing import BinaryIO

EBML, SEGMENT, UNKNOWN = 0x1A45DFA3, 0x18538067, 0x7F
PAGE = b"OggS\0"  # begins a page of Ogg, whose header has 27 bytes and a length for each of at most 255 segments
MAX_PAGE = 27 + 255 + 255 * 255
ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")  # begins the object of ASF that holds the file's size
LONG = 1  # in place of an MP4 box's size: eight bytes more hold it; 0 means that the box goes on to the file's end


def missing_bytes(path: Path) -> int:
    """Count the bytes, at least, that are cut off from the end of an MP4 in fragments, an AVI, Matroska, WebM, Ogg or
    ASF (WMV) file.

    0 for all other files, for those whose writer never stored a length, and for those that are cut at a border: between
    two fragments of an MP4 file, two pages of Ogg, or the parts of an AVI file above 1 GB.
    """
    size = os.stat(path).st_size
    with open(path, "rb") as file:
        head = file.read(12)
        if head[:4] == b"RIFF":
            return max(0, _riff_end(file, size) - size)
        if int.from_bytes(head[:4], "big") == EBML:
            return max(0, _segment_end(file, size) - size)
        if head[:4] == PAGE[:4]:
            return max(0, _last_page_end(file, size) - size)
        if head == ASF[:12]:
            return max(0, _asf_size(file) - size)
        if head[4:8] in (b"ftyp", b"styp", b"moov"):
            return max(0, _boxes_end(file, size) - size)
    return 0


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Find where the last box ends. A file without fragments gives its own end: `read_packets` counts its frames."""
    at, fragments = 0, False
    while at < size:
        file.seek(at)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        fragments |= kind == b"moof"
        if length == LONG:
            length = int.from_bytes(head[8:], "big")
        if len(head) < 8:
            at += 8  # the cut goes through the box's own header
        elif length < 8 or not kind.isalnum():
            break  # this is no box: what lies behind it cannot be judged
        else:
            at += length
    return at if fragments else size


def _riff_end(file: BinaryIO, size: int) -> int:
    """Find where the last RIFF part ends; an AVI above 1 GB has several, one after the other."""
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
    """Find where the last top-level element of a Matroska file ends; each has a name of 4 bytes and a size."""
    at = 0
    while at < size:
        file.seek(at)
        name = int.from_bytes(file.read(4), "big")
        first = int.from_bytes(file.read(1), "big")
        more = 8 - first.bit_length()  # EBML: the leading zero bits say how many bytes of the size follow
        if name not in (EBML, SEGMENT) or more > 7:
            break
        length = int.from_bytes(bytes([first & (UNKNOWN >> more)]) + file.read(more), "big")
        if length == 2 ** (7 * (more + 1)) - 1:
            break  # all bits 1 stand for an unknown size, as live streams have
        at += 5 + more + length
    return at


def _last_page_end(file: BinaryIO, size: int) -> int:
    """Find where the last page of an Ogg file ends."""
    start = max(0, size - MAX_PAGE)
    file.seek(start)
    tail = file.read(MAX_PAGE)
    at = tail.rfind(PAGE)
    if at < 0:
        return size
    header = tail[at : at + 27]
    lengths = tail[at + 27 : at + 27 + header[26]] if len(header) == 27 else b""
    return start + at + 27 + (header[26] + sum(lengths) if len(header) == 27 else 0)


def _asf_size(file: BinaryIO) -> int:
    """Read the size that an ASF file's header states; 0 where a live recording has none."""
    file.seek(0)
    head = file.read(1 << 16)
    at = head.find(PROPERTIES)
    # Behind the object's name are its size and the file's name, of 8 and 16 bytes.
    is_live = at >= 0 and bool(head[at + 88 : at + 89]) and head[at + 88] & 1
    return 0 if at < 0 or is_live else int.from_bytes(head[at + 40 : at + 48], "little")
