"""Turn the model's choice of frames in one video into plain numbers."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from dynfocus.budget import budget
from dynfocus.records.selections import Selection
from dynfocus.settings import ConnectorSettings
from dynfocus.types import Focus, VideoTokens


def make_selection(
    video: VideoTokens,
    slot: int,
    seconds: Sequence[float],
    settings: ConnectorSettings,
    relevant: Sequence[Sequence[int]] = (),
) -> Selection:
    """Make the selection behind the tokens of one visual slot.

    Args:
        video: the connector's output.
        slot: which of its slots.
        seconds: time stamps of that video's T frames.
        settings: the connector's.
        relevant: the frames of each relevant event, where they are known.
    """
    cost, focus = budget(len(seconds), settings), video.focus
    details: dict[str, Any] = {"relevant": tuple(map(tuple, relevant))}
    if focus is None:
        return Selection(tuple(map(float, seconds)), (), cost.cones, cost.rods, **details)
    if focus.events is not None:
        events, real = focus.events, focus.events.mask[slot]
        peaks = events.distance[slot] * (-events.spread[slot]).exp()
        details |= {
            "peaks": tuple(peaks[: len(seconds)].tolist()),
            "nearest": tuple(events.labels[slot, : len(seconds)].tolist()),
            "representatives": tuple(events.frames[slot][real].tolist()),
        }
        if focus.scores is not None:
            details["scores"] = tuple(focus.scores[slot][real].tolist())
    if "scores" not in details:
        details["own_scores"] = list_frame_scores(focus, slot, len(seconds))
    kept = tuple(focus.frames[slot][focus.mask[slot]].tolist())
    return Selection(tuple(map(float, seconds)), kept, cost.cones, cost.rods, **details)


def score_frames(focus: Focus) -> Float[Tensor, "B T"] | None:
    """Score every frame: by the selector's own scores of frames, else by that of its event; None without scores."""
    if focus.frame_scores is None and focus.scores is not None and focus.events is not None:
        return focus.scores.gather(1, focus.events.labels.clamp(min=0))
    return focus.frame_scores


def list_frame_scores(focus: Focus | None, slot: int, frames: int) -> tuple[float, ...]:
    """List the score of each of a video's frames, to six digits: of its event, where a selector scores events.

    Empty where no frame is kept or scored, and where it is not known how many ``frames`` there are.
    """
    scores = None if focus is None else score_frames(focus)
    return () if scores is None else tuple(float(f"{score:.6g}") for score in scores[slot, :frames].tolist())
