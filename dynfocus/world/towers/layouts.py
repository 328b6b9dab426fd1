"""Define the layouts of visual tokens that the language model of the embedded world is trained on."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

POOLED = 4
PATCHES = 36


@dataclass(frozen=True)
class Layout:
    """What each frame of a video gives to the language model.

    Attributes:
        cones: of a kept frame: its pooled quarters and ``grains``, every ``patches``, or ``none``.
        prototypes: of the two layers of grains.
        kept_rods, rods: tokens that say little but the place, of a kept frame and of any other.
        pooled: whether every frame, kept or not, gives its pooled quarters and nothing else.
    """

    cones: Literal["grains", "patches", "none"] = "grains"
    prototypes: tuple[int, int] = (8, 3)
    kept_rods: int = 2
    rods: int = 2
    pooled: bool = False

    def count_cones(self, is_kept: bool) -> int:
        """Count the tokens of a frame that show its things."""
        if self.pooled:
            return POOLED
        return {"grains": POOLED + sum(self.prototypes), "patches": PATCHES, "none": 0}[self.cones] if is_kept else 0

    def count_rods(self, is_kept: bool) -> int:
        """Count the other tokens of a frame."""
        return 0 if self.pooled else self.kept_rods if is_kept else self.rods


DYNFOCUS = Layout()
# The rows of Table 6, and average pooling; the share of the rows that show each.
MIXED: tuple[tuple[float, Layout], ...] = (
    (0.40, DYNFOCUS),
    (0.18, Layout("patches")),
    (0.08, Layout("patches", rods=0)),
    (0.12, Layout(rods=0)),
    (0.04, Layout(kept_rods=0)),
    (0.04, Layout("none")),
    (0.14, Layout(pooled=True)),
)
PROTOTYPES = ((8, 3), (6, 3), (6, 2), (4, 2))


def draw_layout(rng: np.random.Generator) -> Layout:
    """Draw one of the mixed layouts, with any of the sizes of grains."""
    shares, layouts = zip(*MIXED, strict=True)
    layout = layouts[int(rng.choice(len(layouts), p=shares))]
    if layout.cones != "grains" or layout.pooled:
        return layout
    prototypes = PROTOTYPES[int(rng.integers(len(PROTOTYPES)))]
    return Layout(prototypes=prototypes, kept_rods=layout.kept_rods, rods=layout.rods)
