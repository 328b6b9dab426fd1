"""Define the base class of selectors that choose a set of frames, each frame in view of the others."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dynfocus.device import full_precision
from dynfocus.errors import SelectorError
from dynfocus.method.events import frame_vectors
from dynfocus.method.relevance import measure_relevance
from dynfocus.method.selectors.base import Reads, call_own, focus_on, name_of
from dynfocus.settings import ConnectorSettings
from dynfocus.types import Focus, FrameSketch, SelectorInputs


class SetSelector(nn.Module):
    """Base of selectors that choose a set of frames: say `choose` for one video; padding and batches are handled here.

    Subclass it as `FrameSelector`. Where ``reads`` is ``question``, `choose` is given the relevance of each frame.

    Raises:
        SelectorError: if `choose` fails, or does not return K' different frames of the video.
    """

    reads: Reads = "frames"

    def __init__(self, settings: ConnectorSettings, width: int, text_width: int) -> None:
        super().__init__()
        self.settings = settings

    def choose(
        self, frames: Float[Tensor, "T f"], keep: int, relevance: Float[Tensor, " T"] | None
    ) -> Int[Tensor, " K"] | Sequence[int]:
        """The indices of ``keep`` different frames of one video, in any order.

        Args:
            frames: one vector a frame, its pooled patches in a row, in fp32; no padding.
            keep: K', from 1 to T.
            relevance: how well each frame fits the question (`measure_relevance`); None unless ``reads`` is "question".
        """
        raise NotImplementedError(f"{type(self).__name__}.choose")

    def forward(self, sketch: FrameSketch, inputs: SelectorInputs) -> Focus:
        relevance = measure_relevance(sketch, inputs) if self.reads == "question" else None

        def choose_all(sketch: FrameSketch, inputs: SelectorInputs) -> list[Any]:
            vectors = frame_vectors(sketch)
            own = [None] * len(vectors) if relevance is None else [one.clone() for one in relevance]
            return [
                self.choose(vectors[n, :count].float(), keep, None if fit is None else fit[:count])
                for n, (count, keep, fit) in enumerate(zip(inputs.frames, inputs.keep, own, strict=True))
            ]

        with torch.no_grad(), full_precision(sketch.mask.device):
            chosen = call_own(self, "choose", "indices of frames", choose_all, sketch, inputs)
        frames = torch.zeros(len(chosen), max(inputs.keep), dtype=torch.long)
        for n, indices in enumerate(chosen):
            kept = self._check_indices(indices, n, inputs)
            frames[n, : len(kept)] = torch.tensor(kept)
        used = torch.arange(frames.shape[1]) < torch.tensor(inputs.keep)[:, None]
        device = sketch.mask.device
        return focus_on(sketch, frames.to(device), used.to(device), self.settings, relevance)

    def _check_indices(self, indices: Any, n: int, inputs: SelectorInputs) -> list[int]:
        """The indices that `choose` returns for video ``n``, in time order."""
        frames, keep = inputs.frames[n], inputs.keep[n]
        plain = indices.tolist() if isinstance(indices, Tensor) else indices
        if not isinstance(plain, list | tuple) or not all(type(index) is int for index in plain):
            wrong = f"{indices!r:.100}, which are no whole numbers in a row"
        elif len(set(plain)) != keep or len(plain) != keep or min(plain) < 0 or max(plain) >= frames:
            wrong = f"the frames {sorted(plain)} of video {n}, which has {frames} frames and K' = {keep}"
        else:
            return sorted(plain)
        raise SelectorError(
            f"selector {name_of(self)}, whose choose returns {wrong}",
            "the indices of K' different frames of the video, each from 0 to T - 1",
            "Return keep indices, none twice and none beyond the last frame.",
        )
