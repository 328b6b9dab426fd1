"""Photographs of several pictures, as phones write them (ISO/IEC 23008-12): tiles, or colours and transparency."""

import struct
from pathlib import Path

import av
import numpy as np
from make_videos import same_scheduling

BRANDS = {"libx265": (b"heic", b"hvc1", b"hvcC"), "libsvtav1": (b"avif", b"av01", b"av1C")}
ALPHA = {b"heic": b"urn:mpeg:hevc:2015:auxid:1\0", b"avif": b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0"}


def box(kind: bytes, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return struct.pack(">I", 8 + len(data)) + kind + data


def full_box(kind: bytes, version: int, *parts: bytes) -> bytes:
    return box(kind, struct.pack(">I", version << 24), *parts)


@same_scheduling()
def encode_picture(path: Path, pixels: np.ndarray, codec: str) -> tuple[bytes, bytes]:
    """Return the box with the decoder's settings, and the data of one picture."""
    options = {"x265-params": "log-level=none:bframes=0"} if codec == "libx265" else {"preset": "12"}
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=10, options=options)
        stream.height, stream.width, stream.pix_fmt = *pixels.shape[:2], "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())
    data = path.read_bytes()
    at = data.index(BRANDS[codec][2]) - 4
    with av.open(str(path)) as container:
        picture = bytes(next(container.demux(video=0)))
    path.unlink()
    return data[at : at + int.from_bytes(data[at : at + 4], "big")], picture


def write_heif(path: Path, pictures: list[np.ndarray], columns: int, codec: str, alpha: bool = False) -> Path:
    """Write pictures of one size as the tiles of one, ``columns`` beside each other, or one picture alone.

    With ``alpha`` the second of two is the transparency of the first.
    """
    brand, kind, _ = BRANDS[codec]
    height, width = pictures[0].shape[:2]
    encoded = [encode_picture(path, picture, codec) for picture in pictures]
    rows = len(pictures) // columns
    items = [(kind, data) for _, data in encoded]
    references = box(b"auxl", struct.pack(">HHH", 2, 1, 1)) if alpha else b""
    if is_grid := len(pictures) > 1 and not alpha:
        size = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, columns * width, rows * height)
        items.append((b"grid", size))
        references = box(b"dimg", struct.pack(f">HH{len(encoded)}H", len(items), len(encoded), *range(1, len(items))))
    properties = [
        full_box(b"ispe", 0, struct.pack(">II", width, height)),
        encoded[0][0],
        full_box(b"pixi", 0, bytes([3, 8, 8, 8])),
        full_box(b"ispe", 0, struct.pack(">II", columns * width, rows * height)),
        full_box(b"auxC", 0, ALPHA[brand]),
    ]
    owned = [[1, 0x82, 3] for _ in encoded] + ([[4, 3]] if is_grid else [])
    if alpha:
        owned[1].append(0x85)
    lists = b"".join(struct.pack(">HB", n, len(one)) + bytes(one) for n, one in enumerate(owned, 1))

    def meta(start: int) -> bytes:
        places, at = b"", start
        for number, (_, data) in enumerate(items, 1):
            places += struct.pack(">HHHII", number, 0, 1, at, len(data))
            at += len(data)
        names = b"".join(
            full_box(b"infe", 2, struct.pack(">HH", n, 0), item, b"\0") for n, (item, _) in enumerate(items, 1)
        )
        return full_box(
            b"meta",
            0,
            full_box(b"hdlr", 0, bytes(4), b"pict", bytes(13)),
            full_box(b"pitm", 0, struct.pack(">H", len(items) if is_grid else 1)),
            full_box(b"iloc", 0, bytes([0x44, 0]), struct.pack(">H", len(items)), places),
            full_box(b"iinf", 0, struct.pack(">H", len(items)), names),
            full_box(b"iref", 0, references),
            box(b"iprp", box(b"ipco", *properties), full_box(b"ipma", 0, struct.pack(">I", len(owned)), lists)),
        )

    head = box(b"ftyp", brand, bytes(4), brand, b"mif1", b"miaf")
    begin = len(head) + len(meta(0)) + 8
    path.write_bytes(head + meta(begin) + box(b"mdat", *(data for _, data in items)))
    return path
