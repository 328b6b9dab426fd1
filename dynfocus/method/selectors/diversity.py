"""Keep frames that fit the question and differ from each other."""

import torch
from torch import Tensor

from dynfocus.errors import ConfigError
from dynfocus.method.cluster import density_peaks
from dynfocus.method.score import rescale
from dynfocus.method.selectors.base import Reads
from dynfocus.method.selectors.pairs import cosines_within
from dynfocus.method.selectors.sets import SetSelector
from dynfocus.settings import ConnectorSettings


class MMRSelector(SetSelector):
    """Maximal marginal relevance: one by one the frame that fits the question and is least like those kept.

    A frame's gain is ``balance`` times its relevance, scaled to [0, 1] over the video, less 1 - ``balance`` times its
    largest cosine with a kept frame. O(T^2 f + K' T).

    Args:
        balance: 1 is relevance alone, 0 difference alone.

    Source: Carbonell and Goldstein, The use of MMR, diversity-based reranking, 1998.
    """

    reads: Reads = "question"

    def __init__(self, settings: ConnectorSettings, width: int, text_width: int, balance: float = 0.5) -> None:
        super().__init__(settings, width, text_width)
        if not 0 <= balance <= 1:
            raise ConfigError(f"balance = {balance}", "a share in [0, 1]", "Correct init_args of the selector.")
        self.balance = balance

    def choose(self, frames: Tensor, keep: int, relevance: Tensor | None) -> list[int]:
        assert relevance is not None
        return self.add_best([], list(range(len(frames))), cosines_within(frames), relevance, keep)

    def add_best(self, kept: list[int], among: list[int], cosines: Tensor, relevance: Tensor, keep: int) -> list[int]:
        """``kept`` and the best of ``among``, one by one, until there are ``keep`` or all of these are in."""
        fit = self.balance * rescale(relevance[None])[0].double()
        kept, out = list(kept), torch.full_like(fit, torch.inf)
        out[among] = 0
        out[kept] = torch.inf
        likeness = cosines[kept].amax(0) if kept else torch.zeros_like(fit)
        for _ in range(min(keep - len(kept), int((out == 0).sum()))):
            best = int((fit - (1 - self.balance) * likeness - out).argmax())
            likeness = torch.maximum(likeness, cosines[best]) if kept else cosines[best]
            kept.append(best)
            out[best] = torch.inf
        return kept


class EventMMRSelector(MMRSelector):
    """MMR over one frame of each event, the one that fits the question best; further frames only after all events.

    The events are those of Eq. 1-3 (L = ``connector.events``). O(T^2 f + K' T).

    Source: event-anchored selection, as in EFS (2025); events by the paper's Eq. 1-2.
    Departs: the events are DynFocus's own, no others are computed.
    """

    def choose(self, frames: Tensor, keep: int, relevance: Tensor | None) -> list[int]:
        assert relevance is not None
        own = self.settings
        peaks = density_peaks(
            frames[None], own.events, own.neighbours, scale=own.distance_scale, window=own.event_window
        )
        labels = peaks.labels[0]
        anchors = [
            int(relevance.masked_fill(labels != n, -torch.inf).argmax()) for n in range(peaks.representatives.shape[1])
        ]
        cosines = cosines_within(frames)
        kept = self.add_best([], anchors, cosines, relevance, keep)
        return self.add_best(kept, list(range(len(frames))), cosines, relevance, keep)


class DPPSelector(SetSelector):
    """The most likely set of a determinantal point process, greedily: frames that fit and span a large volume.

    The kernel is exp(weight (r_i + r_j) / 2) cos(f_i, f_j), with the relevance r scaled to [0, 1] over the video. One
    by one the frame is added that makes the determinant of the kept ones largest. Frames that add no volume come last,
    those that fit best first. O(T^2 f + K'^2 T).

    Args:
        weight: of the relevance; 0 reads no question at all.

    Source: Chen, Zhang and Zhou, Fast greedy MAP inference for determinantal point process, NeurIPS 2018.
    """

    reads: Reads = "question"

    def __init__(self, settings: ConnectorSettings, width: int, text_width: int, weight: float = 1.0) -> None:
        super().__init__(settings, width, text_width)
        if not 0 <= weight <= 100:
            raise ConfigError(f"weight = {weight}", "a number from 0 to 100", "Correct init_args of the selector.")
        self.weight = weight
        if weight == 0:
            self.reads = "frames"

    def choose(self, frames: Tensor, keep: int, relevance: Tensor | None) -> list[int]:
        return add_volume(self.kernel(frames, relevance), [], range(len(frames)), keep)[0]

    def kernel(self, frames: Tensor, relevance: Tensor | None) -> Tensor:
        """The positive semi-definite matrix whose determinants are compared, [T, T] in fp64."""
        kernel = cosines_within(frames)
        if relevance is not None:
            quality = (self.weight / 2 * rescale(relevance[None])[0].double()).exp()
            kernel = kernel * quality * quality[:, None]
        return kernel


class MDP3Selector(DPPSelector):
    """A determinantal point process over segments in time order: each is chosen in view of the one before it alone.

    The video is cut into segments of ``segment`` frames. Dynamic programming shares K' out among them: the best sum of
    log determinants for each number of frames kept so far; within a segment frames are added greedily, given those kept
    of the segment before. O(T^2 f + T K'^3) at most.

    Args:
        weight: of the relevance, as `DPPSelector`.
        segment: frames of a segment.

    Source: Sun et al., MDP3: A Training-free Approach for List-wise Frame Selection in Video-LLMs, ICCV 2025.
    Departs: cosines of frames and one relevance a frame, where MDP3 has a multi-kernel of SigLIP's features.
    """

    def __init__(
        self, settings: ConnectorSettings, width: int, text_width: int, weight: float = 1.0, segment: int = 32
    ) -> None:
        super().__init__(settings, width, text_width, weight)
        if segment < 1:
            raise ConfigError(f"segment = {segment}", "at least 1 frame", "Correct init_args of the selector.")
        self.segment = segment

    def choose(self, frames: Tensor, keep: int, relevance: Tensor | None) -> list[int]:
        kernel, total = self.kernel(frames, relevance), len(frames)
        # For each number of frames kept so far: the best value, these frames, and those of the last segment.
        best: dict[int, tuple[float, list[int], list[int]]] = {0: (0.0, [], [])}
        for start in range(0, total, self.segment):
            places = range(start, min(start + self.segment, total))
            reached: dict[int, tuple[float, list[int], list[int]]] = {}
            for count, (value, kept, last) in best.items():
                picks, gains = add_volume(kernel, last, places, min(len(places), keep - count))
                for n in range(len(picks) + 1):
                    if keep - count - n > total - places.stop:
                        continue  # what is left could not fill the budget
                    state = value + sum(gains[:n]), kept + picks[:n], picks[:n]
                    if count + n not in reached or state[0] > reached[count + n][0]:
                        reached[count + n] = state
            best = reached
        return best[keep][1]


FLAT = 1e-9  # of the largest entry of a kernel: less volume than this is rounding


def add_volume(kernel: Tensor, given: list[int], places: range, count: int) -> tuple[list[int], list[float]]:
    """``count`` of the frames ``places``, one by one that with the largest determinant, and the logarithm of each gain.

    ``given`` frames are conditioned on. Gains are Schur complements, kept up to date as the rows of a Cholesky factor.
    """
    flat = FLAT * float(kernel.diagonal().max())
    left, rows = kernel.diagonal().clone(), kernel.new_zeros(0, len(kernel))
    open_ = torch.zeros(len(kernel), dtype=torch.bool, device=kernel.device)
    open_[places.start : places.stop] = True
    picks: list[int] = []
    gains: list[float] = []
    for n in range(len(given) + count):
        if n < len(given):
            pick = given[n]
        else:
            pick = int(left.masked_fill(~open_, -torch.inf).argmax())
            if not left[pick] > flat:  # no volume is left: by fit
                pick = int(kernel.diagonal().masked_fill(~open_, -torch.inf).argmax())
            picks.append(pick)
            gains.append(max(float(left[pick]), flat, 1e-300))
        open_[pick] = False
        if left[pick] > flat:
            row = (kernel[pick] - rows[:, pick] @ rows) / left[pick].sqrt()
            rows, left = torch.cat([rows, row[None]]), left - row.square()
    return picks, [torch.tensor(gain).log().item() for gain in gains]
