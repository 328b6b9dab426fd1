"""Time from left to right: where each frame's slice lies, and where numbers stand under it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

STEPS = (1, 2, 5)


@dataclass(frozen=True)
class Axis:
    """A time axis.

    Attributes:
        seconds: time stamps of the T frames, ascending.
        left, right: where it begins and ends, in the units of the drawing.
    """

    seconds: tuple[float, ...]
    left: float
    right: float

    @cached_property
    def borders(self) -> NDArray[np.float64]:
        """The T + 1 borders of the frames' slices, in seconds: in the middle between two time stamps."""
        times = np.asarray(self.seconds, float)
        gaps = np.diff(times)
        usual = float(np.median(gaps)) if len(gaps) and np.median(gaps) > 0 else 1.0
        return np.concatenate([[times[0] - usual / 2], times[:-1] + gaps / 2, [times[-1] + usual / 2]])

    @cached_property
    def edges(self) -> NDArray[np.float64]:
        """The same borders in the units of the drawing."""
        return self.at(self.borders)

    @cached_property
    def centres(self) -> NDArray[np.float64]:
        """Where the T time stamps lie, in the units of the drawing."""
        return self.at(np.asarray(self.seconds, float))

    def at(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where these times lie, in the units of the drawing."""
        first, last = self.borders[0], self.borders[-1]
        return np.asarray(self.left + (seconds - first) / (last - first) * (self.right - self.left))

    def ticks(self, count: int = 10) -> tuple[float, ...]:
        """At most about ``count`` round times within the axis, in seconds."""
        if len(self.seconds) == 1:
            return self.seconds
        first, last = self.seconds[0], self.seconds[-1]
        rough = max(last - first, 1e-6) / count
        power = 10.0 ** np.floor(np.log10(rough))
        step = next((power * part for part in STEPS if power * part >= rough), 10 * power)
        numbers = np.arange(np.ceil(first / step - 1e-6), np.floor(last / step + 1e-6) + 1)
        return tuple((numbers * step + 0.0).tolist())  # no minus zero

    def spans(self, frames: Collection[int], least: float = 0.0) -> list[tuple[float, float]]:
        """Left end and width of these frames' slices, neighbours joined; none is narrower than ``least``."""
        there = set(frames)
        starts = sorted(frame for frame in there if frame - 1 not in there)
        ends = sorted(frame for frame in there if frame + 1 not in there)
        edges = [(float(self.edges[a]), float(self.edges[b + 1])) for a, b in zip(starts, ends, strict=True)]
        return [(min(start, self.right - least), max(end - start, least)) for start, end in edges]

    def runs(self, labels: Sequence[int]) -> list[tuple[float, float, int]]:
        """Stretches of equal labels as (left end, width, label), at most one for each unit of the drawing.

        Args:
            labels: one for each frame. Where a unit holds several frames, its middle decides.
        """
        units = min(int(self.right - self.left), len(labels))
        if units == len(labels):
            ends, told = self.edges, np.asarray(labels)
        else:
            ends = np.linspace(self.left, self.right, units + 1)
            middles = (ends[:-1] + ends[1:]) / 2
            told = np.asarray(labels)[np.searchsorted(self.edges, middles, side="right").clip(1, len(labels)) - 1]
        starts = np.flatnonzero(np.diff(told, prepend=told[0] - 1))
        stops = [*starts[1:], units]
        return [(float(ends[a]), float(ends[b] - ends[a]), int(told[a])) for a, b in zip(starts, stops, strict=True)]


def clock(seconds: float) -> str:
    """A time as people read it, such as ``7.5 s`` or ``12:05``."""
    if seconds < 100:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
