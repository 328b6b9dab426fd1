"""Detect truncated files from the sizes and marks in them.

FFmpeg and Pillow read many such a file as a shorter video, or as an image, without an error.
"""

import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

EBML, SEGMENT, UNKNOWN = 0x1A45DFA3, 0x18538067, 0x7F
PAGE = b"OggS\0"  # begins a page of Ogg, whose header has 27 bytes and a length for each of at most 255 segments
MAX_PAGE = 27 + 255 + 255 * 255
ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")  # begins the object of ASF that holds the file's size
KINDS = {3: "H", 4: "I", 16: "Q"}  # of whole numbers in a TIFF
PIXELS = (273, 279, 324, 325)  # its tags with the places and lengths of strips and of tiles
LONG = 1  # in place of an MP4 box's size: eight bytes more hold it; 0 means that the box goes on to the file's end


def missing_bytes(path: Path) -> int:
    """Count the bytes, at least, that are cut off from the end of an MP4 in fragments, an AVI, Matroska, WebM, Ogg,
    ASF (WMV), FLV, SWF, IVF or Y4M file, a PNG (APNG), GIF, TIFF or WebP.

    0 for all other files, for those whose writer never stored a length, and for those that are cut at a border: between
    two fragments of an MP4 file, two pages of Ogg, the parts of an AVI file above 1 GB, two frames of IVF or Y4M, or
    two tags of an FLV that does not state its size.
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
        for mark, find_end in ENDS.items():
            if head.startswith(mark):
                file.seek(0)
                return max(0, find_end(file, size) - size)
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


def _swf_size(file: BinaryIO, size: int) -> int:
    return int.from_bytes(file.read(8)[4:], "little")


def _flv_end(file: BinaryIO, size: int) -> int:
    """Read the size that the metadata state; without it, look whether the file ends with a whole tag."""
    stated = re.search(rb"\x00\x08filesize\x00(.{8})", file.read(1 << 16), re.DOTALL)
    if stated is not None:
        (value,) = struct.unpack(">d", stated[1])
        return int(value) if 0 < value < 1 << 62 else size
    file.seek(max(0, size - 4))
    length = int.from_bytes(file.read(4), "big")  # of the last tag, with its header of eleven bytes
    if not 0 < length < size:
        return size + (length > 0)
    file.seek(max(0, size - 4 - length))
    tag = file.read(4)
    return size if tag[0] in (8, 9, 18) and int.from_bytes(tag[1:], "big") == length - 11 else size + 1


def _ivf_end(file: BinaryIO, size: int) -> int:
    at = int.from_bytes(file.read(8)[6:], "little")
    while at < size:
        file.seek(at)
        length = int.from_bytes(file.read(4), "little")
        if not length:
            return size  # this is no frame: what lies behind it cannot be judged
        at += 12 + length
    return at


def _y4m_end(file: BinaryIO, size: int) -> int:
    """Find where the last frame ends; the file's own end where its frames have a size that is not known here."""
    header = file.readline(1 << 10)
    words = {word[:1]: word[1:].decode("ascii", "replace") for word in header.split()[1:]}
    colours = re.fullmatch(r"(mono|4\d\d)(?:p?(9|1\d)|jpeg|mpeg2|paldv|alpha)?", words.get(b"C", "420jpeg"))
    try:
        width, height = int(words[b"W"]), int(words[b"H"])
    except (KeyError, ValueError):
        return size
    narrow, low = {"420": (2, 2), "422": (2, 1), "411": (4, 1), "410": (4, 4), "444": (1, 1)}.get(
        colours[1] if colours else "", (0, 0)
    )
    if colours is None or (not narrow and colours[1] != "mono"):
        return size
    samples = width * height
    if narrow:
        samples += 2 * -(-width // narrow) * -(-height // low) + samples * words.get(b"C", "").endswith("alpha")
    length, at = samples * (2 if colours[2] else 1), len(header)
    while at < size:
        file.seek(at)
        mark = file.readline(1 << 10)
        if not b"FRAME".startswith(mark[:5]):
            return size  # this is no frame: what lies behind it cannot be judged
        at += len(mark) + length
    return at


def _png_end(file: BinaryIO, size: int) -> int:
    """Find where the mark of a PNG's end ends."""
    at = 8
    while True:
        file.seek(at)
        head = file.read(8)
        at += 12 + int.from_bytes(head[:4], "big")
        if len(head) < 8 or head[4:] == b"IEND":
            return at
        if not head[4:].isalpha():
            return size


def _gif_end(file: BinaryIO, size: int) -> int:
    """Find where the mark of a GIF's end ends."""

    def skip_colours(packed: int) -> None:
        file.seek(3 << (packed & 7) + 1 if packed & 128 else 0, os.SEEK_CUR)

    skip_colours((file.read(13) + bytes(13))[10])
    while block := file.read(1):
        if block == b";":
            return file.tell()
        if block == b",":
            skip_colours((file.read(9) + bytes(9))[8])
        elif block == b"\0":
            continue
        elif block != b"!":
            return size  # this is no block: what lies behind it cannot be judged
        file.seek(1, os.SEEK_CUR)
        while (length := file.read(1)) not in (b"", b"\0"):
            file.seek(length[0], os.SEEK_CUR)
    return max(size, file.tell()) + 1


def _tiff_end(file: BinaryIO, size: int) -> int:
    """Find where the last part of any page ends: its tags, or its strips or tiles of pixels."""
    order = "<" if file.read(2) == b"II" else ">"
    wide = file.read(2) in (b"+\0", b"\0+")  # BigTIFF
    place, many, tag = ("Q", "Q", 20) if wide else ("I", "H", 12)

    def read(kinds: str, at: int, count: int = 1) -> tuple[int, ...]:
        length = count * struct.calcsize(order + kinds)
        if at + length > size:
            return ()
        file.seek(at)
        return struct.unpack(order + count * kinds, file.read(length))

    def read_tag(at: int) -> tuple[int, tuple[int, ...]]:
        name, kind, count = read("HH" + place, at)
        kinds, at = KINDS.get(kind, "B"), at + struct.calcsize(order + "HH" + place)
        if name not in PIXELS:
            return name, ()
        if count * struct.calcsize(order + kinds) > struct.calcsize(order + place):
            (at,) = read(place, at)
        return name, read(kinds, at, count)

    end, at, seen = size, read(place, 8 if wide else 4), set[int]()
    while at and at[0] and at[0] not in seen:
        seen.add(at[0])
        count, first = read(many, at[0]), at[0] + struct.calcsize(order + many)
        at = read(place, first + count[0] * tag) if count else ()
        if not at:
            return size + 1
        tags = dict(read_tag(first + n * tag) for n in range(count[0]))
        for where, length in (PIXELS[:2], PIXELS[2:]):
            end = max(end, *map(sum, zip(tags.get(where, ()), tags.get(length, ()), strict=False)), 0)
    return end if at else size + 1


ENDS: dict[bytes, Callable[[BinaryIO, int], int]] = {
    b"FWS": _swf_size,
    b"FLV": _flv_end,
    b"DKIF": _ivf_end,
    b"YUV4MPEG2 ": _y4m_end,
    b"\x89PNG": _png_end,
    b"GIF8": _gif_end,
    b"II*\0": _tiff_end,
    b"MM\0*": _tiff_end,
    b"II+\0": _tiff_end,
    b"MM\0+": _tiff_end,
}
