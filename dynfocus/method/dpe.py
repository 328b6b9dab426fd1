"""Select the frames to encode in detail (DPE): events, scores, Top-K."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import one_hot

from dynfocus.device import full_precision
from dynfocus.errors import FeatureError
from dynfocus.method.distances import first_copies
from dynfocus.method.events import find_events
from dynfocus.method.score import LateInteraction, ScoreNet, rescale
from dynfocus.method.topk import PerturbedTopK, draw_keyed_noise, mix, top_k
from dynfocus.settings import ConnectorSettings
from dynfocus.types import Events, Focus, FrameSketch, SelectorInputs


class EventPrototypeSelector(nn.Module):
    """DPE, the paper's choice: find events by density peaks, score them by a small net, keep the best K'.

    Shapes: a sketch [B,T,...] and K' [B] of the inputs -> Focus with K = max K' slots.

    Departs: in training a slot's G is mixed by P_sigma as its prototype is, where Eq. 5 mixes prototypes alone: so the
    score net hears from every cone token. With ``straight_through`` the slots hold the kept events in training too.
    """

    reads = "network"

    def __init__(self, settings: ConnectorSettings, width: int, text_width: int) -> None:
        super().__init__()
        self.settings = settings
        self.score_net = ScoreNet(width)
        self.score_question = LateInteraction(width, text_width) if settings.score_reads_question else None

    def forward(self, sketch: FrameSketch, inputs: SelectorInputs) -> Focus:
        """Choose K' frames of each video; in training each slot holds a mixture of events, else the event itself."""
        padded = min(inputs.frames) < sketch.mask.shape[1]
        events = find_events(sketch, self.settings, padded)
        mask = events.mask if padded else None
        with full_precision(sketch.mask.device):
            scores = rescale(self.score(sketch, events, inputs), mask)
        slots, slot_mask = top_k(scores, inputs.keep, mask)
        frames = events.frames.gather(1, slots)
        if slot_mask is None:
            slot_mask = torch.ones_like(frames, dtype=torch.bool)
        else:
            frames = frames * slot_mask
        if self.training and self.settings.sigma > 0:
            noise = self.noise(inputs, scores)
            mixture = PerturbedTopK.apply(scores, noise, self.settings.sigma, inputs.keep, mask)
            if self.settings.straight_through:
                kept = one_hot(slots, scores.shape[1]) * slot_mask[..., None]
                mixture = kept + (mixture - mixture.detach())
            patches = patches_of(sketch, events.frames, events.mask)
            pooled = mix(mixture, events.prototypes)
            grains = mix(mixture, at_frames(sketch.grains, events.frames).float())
            patches = None if patches is None else mix(mixture, patches.float())
        else:
            mixture, patches = None, patches_of(sketch, frames, slot_mask)
            pooled, grains = at_frames(events.prototypes, slots), at_frames(sketch.grains, frames).float()
            if self.training:  # adds zero: all processes must have gradients of the same weights
                pooled = pooled + 0.0 * scores.sum()
        return Focus(frames, slot_mask, pooled, grains, patches, scores, mixture, events)

    def score(self, sketch: FrameSketch, events: Events, inputs: SelectorInputs) -> Float[Tensor, "B L"]:
        """The raw score of every event, before min-max."""
        raw: Tensor = self.score_net(events.prototypes).gather(1, events.first)  # copies are scored alike, to the bit
        if self.score_question is not None:
            grains = at_frames(sketch.grains, events.frames).float()
            term = self.score_question(grains, inputs.question, inputs.question_mask)
            raw = raw + term.gather(1, first_copies(grains.flatten(2)))  # it reads grains, not the prototypes
        return raw

    def noise(self, inputs: SelectorInputs, scores: Float[Tensor, "B L"]) -> Float[Tensor, "B n L"]:
        """Noise for the scores; zero where all events are kept, so that rounding gives the scores no gradient there."""
        events = [min(self.settings.events, frames) for frames in inputs.frames]
        counts = [count if keep < count else 0 for count, keep in zip(events, inputs.keep, strict=True)]
        return draw_keyed_noise(counts, scores.shape[1], self.settings.samples, inputs.rows, inputs.step)


def at_frames(values: Float[Tensor, "B T rows d"], frames: Int[Tensor, "B K"]) -> Float[Tensor, "B K rows d"]:
    """The values at some frames of each video, or at some prototypes."""
    return values[torch.arange(len(values), device=values.device)[:, None], frames]


def patches_of(
    sketch: FrameSketch, frames: Int[Tensor, "B K"], real: Bool[Tensor, "B K"]
) -> Float[Tensor, "B K N d"] | None:
    """V of some frames of each video; None where the sketch holds no patches.

    Raises:
        FeatureError: if it holds patches, but not of these frames.
    """
    if sketch.patches is None or sketch.patch_frames is None:
        return None
    matches = sketch.patch_frames[:, None] == frames[..., None]
    missing = real & ~matches.any(-1)
    if missing.any():
        raise FeatureError(
            f"a sketch without the patches of frame {frames[missing][0]}, which is to be kept",
            "the patches of every frame that a selector may keep",
            "Set connector.patch_frames to all, and let the sketch be computed anew.",
        )
    return at_frames(sketch.patches, matches.int().argmax(-1))
