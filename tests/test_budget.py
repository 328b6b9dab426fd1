"""What a video costs, by the paper's own numbers."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynfocus.budget import budget
from dynfocus.errors import VideoError
from dynfocus.settings import ConnectorSettings

PAPER = ConnectorSettings()


@pytest.mark.parametrize(
    ("frames", "events", "keep", "tokens"),
    [(1, 25, 0.8, 40), (16, 25, 0.8, 526), (32, 25, 0.8, 824), (200, 25, 0.8, 1160), (200, 70, 0.4, 1464)],
)
def test_the_papers_counts(frames: int, events: int, keep: float, tokens: int) -> None:
    cost = budget(frames, ConnectorSettings(events=events, keep=keep))
    assert cost.visual_tokens == tokens
    assert tokens == 40 * cost.kept + 2 * (frames - cost.kept)


@pytest.mark.parametrize(
    ("redundant", "kept_tokens", "tokens"),
    # Table 6's eight settings at T = 16, of which 13 are kept.
    [
        *((0, 0, 0), (0, 2, 26), (0, 40, 520), (0, 256, 13 * 258)),
        *((2, 0, 6), (2, 2, 32), (2, 40, 526), (2, 256, 13 * 258 + 6)),
    ],
)
def test_the_switches_of_table_6(redundant: int, kept_tokens: int, tokens: int) -> None:
    s = replace(PAPER, redundant_tokens=redundant, kept_tokens=kept_tokens)
    assert budget(16, s).visual_tokens == tokens


@given(st.integers(1, 500))
def test_average_pooling_gives_p_tokens_a_frame(frames: int) -> None:
    cost = budget(frames, replace(PAPER, encoder="average_pooling"))
    assert (cost.visual_tokens, cost.kept, cost.rods) == (16 * frames, frames, 0)


@given(st.integers(1, 500))
def test_more_frames_never_cost_less(frames: int) -> None:
    assert budget(frames, PAPER).visual_tokens < budget(frames + 1, PAPER).visual_tokens


@pytest.mark.parametrize("frames", [0, -3])
def test_a_video_without_frames_has_no_budget(frames: int) -> None:
    with pytest.raises(VideoError, match=f"{frames} frames"):
        budget(frames, PAPER)
