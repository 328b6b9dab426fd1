"""A small connector that reads patches, to be compared with ours: the mean patch of each frame, projected."""

from typing import Any

from torch import Tensor, nn


class PatchPooling(nn.Module):
    """One token a frame."""

    reads_patches = True

    def __init__(self, settings: Any, width: int, text_width: int, out: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, out)

    def forward(self, patches: Tensor, question: Tensor, question_mask: Tensor, rows: Tensor) -> Tensor:
        return self.project(patches.mean(2))


class Unmade(nn.Module):
    """It cannot be made of what ours is made of."""

    def __init__(self) -> None:
        super().__init__()
