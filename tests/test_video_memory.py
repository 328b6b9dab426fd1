"""What reading costs in memory, measured in a fresh process: tensors are not all that is held."""

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from filming import READERS, X264, written

MOST = 50e6
DECORD = 30e6  # what it holds by itself
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


def large(path: Path, count: int = 100) -> Path:
    blocks = np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast", "g": "12"})
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        for number in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(blocks, 8 * number, 1), "rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("frames", [None, 4])
def test_a_large_video_costs_little_more_than_its_small_frames(tmp_path, frames):
    tiny, big = written(tmp_path / "tiny.mp4", count=3, options=X264), large(tmp_path / "big.mp4")
    taken = frames or 100
    read = subprocess.run(
        [sys.executable, "-c", READ, tiny, big, str(frames)], capture_output=True, text=True, check=True, timeout=120
    )
    grown, result, reader = read.stdout.split()
    assert reader == ("decord" if frames and "decord" in READERS else "pyav")
    assert int(result) == taken * 224 * 224 * 3
    assert int(grown) < int(result) + MOST + (
        DECORD if reader == "decord" else 0
    )  # all hundred at their own size take 276 MB
