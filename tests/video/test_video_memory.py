"""What reading costs in memory, measured in a fresh process: tensors are not all that is held."""

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from make_videos import READERS, X264, write_video

from dynfocus.settings import FrameRule
from dynfocus.video import read_clip
from dynfocus.video.packets import read_packets

MOST = 50e6
READ = """
import sys, torch
from pathlib import Path
from dynfocus.settings import FrameRule
from dynfocus.video import read_clip

def held(what):
    return 1024 * int(next(line for line in open("/proc/self/status") if line.startswith(what)).split()[1])

torch.set_num_threads(1)
rule = FrameRule(fps=None, frames=eval(sys.argv[3]))
for reader in ("pyav", None):
    read_clip(sys.argv[1], rule, reader)
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before = held("VmRSS")
clip = read_clip(sys.argv[2], rule)
print(held("VmHWM") - before, clip.frames.nbytes, clip.reader)
"""


def large(path: Path, count: int, key: int) -> Path:
    blocks = np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    moved = [av.VideoFrame.from_ndarray(np.roll(blocks, 8 * number, 1), "rgb24") for number in range(20)]
    pictures = [frame.reformat(format="yuv420p") for frame in moved]
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "x264-params": f"keyint={key}:scenecut=0:bframes=3"}
        stream = container.add_stream("libx264", rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        for number in range(count):
            frame = pictures[number % 20]
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("frames", "count", "key"), [(None, 100, 12), (4, 100, 12), (4, 200, 60), (24, 200, 60), (4, 300, 250)]
)
def test_a_large_video_costs_little_more_than_its_small_frames(tmp_path, frames, count, key):
    tiny, big = write_video(tmp_path / "tiny.mp4", count=3, options=X264), large(tmp_path / "big.mp4", count, key)
    read = subprocess.run(
        [sys.executable, "-c", READ, tiny, big, str(frames)], capture_output=True, text=True, check=True, timeout=120
    )
    grown, result, reader = read.stdout.split()
    assert reader == "pyav"
    assert int(result) == (frames or count) * 224 * 224 * 3
    assert int(grown) < int(result) + MOST  # a hundred frames at their own size take 276 MB


@pytest.mark.skipif("decord" not in READERS, reason="decord exists for Linux on x86-64 only")
def test_decord_is_given_only_what_it_cannot_pile_up(tmp_path):
    rule = FrameRule(fps=None, frames=2)
    for size, key, reader in [((64, 128), 12, "decord"), ((64, 128), 40, "decord"), ((720, 1280), 12, "pyav")]:
        options = {"preset": "ultrafast", "x264-params": f"keyint={key}:scenecut=0"}
        path = write_video(tmp_path / f"{key}-{size[0]}.mp4", 120, options=options, size=size)
        assert read_packets(path, rule).bulk == 3 * size[0] * size[1] * key
        assert read_clip(path, rule).reader == reader
