"""Videos that are to be turned or mirrored, as their container or their pictures ask for."""

import struct
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.bitstream import BitStreamFilterContext
from make_videos import READERS, with_bytes

from dynfocus.errors import VideoError
from dynfocus.settings import FrameRule
from dynfocus.video import read_clip
from dynfocus.video.thumbnails import display_size

ONE = 1 << 16
STORED = np.zeros((64, 128, 3), np.uint8)  # red, green / blue, white
STORED[:32, :64, 0] = STORED[:32, 64:, 1] = STORED[32:, :64, 2] = STORED[32:, 64:] = 255
TURNED = {  # a, b, c, d of the matrix that moves a pixel at (x, y) to (a x + c y, b x + d y)
    (1, 0, 0, 1): STORED,
    (-1, 0, 0, 1): STORED[:, ::-1],
    (1, 0, 0, -1): STORED[::-1],
    (-1, 0, 0, -1): STORED[::-1, ::-1],
    (0, 1, 1, 0): STORED.swapaxes(0, 1),
    (0, 1, -1, 0): np.rot90(STORED, -1),
    (0, -1, 1, 0): np.rot90(STORED),
    (0, -1, -1, 0): STORED[::-1, ::-1].swapaxes(0, 1),
    (0, 0, 0, 0): STORED,  # FFmpeg's own programs show such a file as it is stored
}


def write_quarters(path: Path) -> Path:
    """Write a video of 24 frames, all of which are `STORED`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "4", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = 64, 128, "yuv420p"
        for _ in range(24):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(STORED, "rgb24")))
        container.mux(stream.encode())
    return path


def write_matrix(path: Path, matrix: tuple[int, ...]) -> Path:
    """Write a video whose header asks for this turn."""
    data = write_quarters(path).read_bytes()
    at = data.index(b"tkhd") + 44
    a, b, c, d = (number * ONE for number in matrix)
    return with_bytes(path, data[:at] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + data[at + 36 :])


def assert_shown(frames: torch.Tensor, expected: np.ndarray) -> None:
    height, width = expected.shape[:2]
    areas = expected.reshape(8, height // 8, 8, width // 8, 3).mean((1, 3))
    for frame in frames.numpy():
        assert np.abs(frame - areas).mean() < 4


SIX = FrameRule(size=8, fps=None, frames=6, interpolation="box")


@pytest.mark.parametrize("matrix", TURNED)
def test_a_frame_is_shown_as_the_header_asks(tmp_path, matrix):
    path = write_matrix(tmp_path / "a.mp4", matrix)
    as_stored = TURNED[matrix] is STORED
    for reader in (None, "pyav", *(["decord"] if "decord" in READERS and as_stored else [])):
        assert_shown(read_clip(path, SIX, reader).frames, TURNED[matrix])
    assert display_size(path) == TURNED[matrix].shape[1::-1]
    if "decord" in READERS and not as_stored:
        with pytest.raises(VideoError, match="wrong frames"):
            read_clip(path, SIX, "decord")


@pytest.mark.parametrize(("wanted", "matrix"), [("rotate=90", (0, -1, 1, 0)), ("flip=horizontal", (-1, 0, 0, 1))])
def test_a_frame_is_shown_as_the_first_picture_asks(tmp_path, wanted, matrix):
    """The request stands beside the key frames alone, and holds for those between them."""
    path = tmp_path / "a.mkv"
    with av.open(str(write_quarters(tmp_path / "a.mp4"))) as source, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        change = BitStreamFilterContext(f"h264_metadata=display_orientation=insert:{wanted}", source.streams.video[0])
        for packet in [packet for one in source.demux(video=0) for packet in change.filter(one)]:
            packet.stream = stream
            container.mux(packet)
    for reader in (None, "pyav"):
        assert_shown(read_clip(path, SIX, reader).frames, TURNED[matrix])
