"""Hold the frames of a video as a host's language model reads them, and average them to a few tokens each."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dynfocus.errors import ConfigError
from dynfocus.types import TensorDataclass

GRIDS = {1: (1, 1), 2: (1, 2), 4: (2, 2)}  # rows and columns that a frame is averaged to, by the number of its rods
RODS = (0, *GRIDS)


@dataclass
class HostFeatures(TensorDataclass):
    """Features of T frames behind the projector of a host: n tokens of a frame, of the language model's width D.

    Attributes:
        tokens: row by row of the frame's picture.
        grid: rows and columns of a frame, whose product is n.
        deep: what further layers of the language model add at the same tokens; of Qwen3-VL alone.
    """

    tokens: Float[Tensor, "T n D"]
    grid: tuple[int, int]
    deep: tuple[Float[Tensor, "T n D"], ...] = ()

    def frame(self, number: int) -> "HostFeatures":
        """The features of one frame (T = 1)."""
        part = slice(number, number + 1)
        return HostFeatures(self.tokens[part], self.grid, tuple(layer[part] for layer in self.deep))

    def average(self, count: int) -> "HostFeatures":
        """Each frame as ``count`` tokens, the means over equal parts of its picture: rods without training."""
        grid = GRIDS[count]
        if grid[0] > self.grid[0] or grid[1] > self.grid[1]:
            raise ConfigError(
                f"{count} rods of frames of {self.grid[0]} x {self.grid[1]} tokens",
                "at most as many rods as a frame has tokens in each direction",
                "Lower --rods.",
            )
        return HostFeatures(self._pool(self.tokens, grid), grid, tuple(self._pool(layer, grid) for layer in self.deep))

    def _pool(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        maps = tokens.unflatten(1, self.grid).permute(0, 3, 1, 2)
        means = torch.nn.functional.adaptive_avg_pool2d(maps.float(), grid)
        return means.flatten(2).transpose(1, 2).to(tokens.dtype)


@dataclass(frozen=True)
class ShownFrame:
    """One frame as it is given to the language model: its features (T = 1) and its time in the file."""

    features: HostFeatures
    second: float

    @property
    def count(self) -> int:
        """Its tokens."""
        return self.features.tokens.shape[1]


def arrange(features: HostFeatures, seconds: Sequence[float], kept: Sequence[int], rods: int) -> list[ShownFrame]:
    """Kept frames in full (cones) and all others as ``rods`` averaged tokens each, in time order.

    Raises:
        ConfigError: if ``rods`` is none of 0, 1, 2 and 4.

    Paper: Eq. 11, with means in place of learned projections.
    """
    check_rods(rods)
    few, chosen = (features.average(rods) if rods else None), set(kept)
    return [
        ShownFrame((features if number in chosen else few).frame(number), second)  # type: ignore[union-attr]
        for number, second in enumerate(seconds)
        if number in chosen or few is not None
    ]


def check_rods(rods: int) -> None:
    """Raises ConfigError if a frame cannot be averaged to so many tokens."""
    if rods not in RODS:
        raise ConfigError(f"{rods} rods", f"one of {', '.join(map(str, RODS))} tokens a frame", "Correct --rods.")


def join(parts: Sequence[ShownFrame]) -> HostFeatures:
    """All shown frames in one row (T = 1), one behind the other."""
    one = [part.features for part in parts]
    deep = tuple(torch.cat(layers, 1) for layers in zip(*(part.deep for part in one), strict=True))
    tokens = torch.cat([part.tokens for part in one], 1)
    return HostFeatures(tokens, (1, tokens.shape[1]), deep)


def stack(parts: Sequence[HostFeatures], frames: int) -> HostFeatures:
    """Features of the first ``frames`` frames of several chunks."""
    deep = tuple(torch.cat(layers)[:frames] for layers in zip(*(part.deep for part in parts), strict=True))
    return HostFeatures(torch.cat([part.tokens for part in parts])[:frames], parts[0].grid, deep)


def to_tensors(features: HostFeatures) -> dict[str, Tensor]:
    """Features as an entry on disk holds them."""
    layers = {f"deep.{number}": layer for number, layer in enumerate(features.deep)}
    return {"tokens": features.tokens, "grid": torch.tensor(features.grid), **layers}


def from_tensors(tensors: dict[str, Tensor]) -> HostFeatures:
    """The features that an entry holds."""
    deep = tuple(tensors[name] for name in sorted((n for n in tensors if n.startswith("deep.")), key=_layer))
    rows, columns = tensors["grid"].tolist()
    return HostFeatures(tensors["tokens"], (rows, columns), deep)


def _layer(name: str) -> int:
    return int(name.partition(".")[2])
