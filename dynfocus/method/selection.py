"""Turn the model's choice of frames in one video into plain numbers."""

from collections.abc import Sequence
from typing import Any

from dynfocus.budget import budget
from dynfocus.records.selections import Selection
from dynfocus.settings import ConnectorSettings
from dynfocus.types import VideoTokens


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
    kept = tuple(focus.frames[slot][focus.mask[slot]].tolist())
    return Selection(tuple(map(float, seconds)), kept, cost.cones, cost.rods, **details)
