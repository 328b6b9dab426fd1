"""What a video costs, by the paper's own numbers."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynfocus.budget import Fit, budget, largest_fit
from dynfocus.errors import VideoError
from dynfocus.settings import ConnectorSettings, count_kept

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
        *((0, 38, 13 * 38), (2, 38, 13 * 38 + 6)),  # as the released code: kept frames give no rods
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


SOME = st.fixed_dictionaries(
    {
        "events": st.integers(1, 300),
        "keep": st.sampled_from([0.001, 0.05, 0.28, 1 / 3, 0.4, 0.8, 0.995, 1.0]),
        "redundant_tokens": st.sampled_from([0, 2]),
        "kept_tokens": st.sampled_from([0, 2, 38, 40, 256]),
        "encoder": st.sampled_from(["dynfocus", "dynfocus", "average_pooling"]),
    }
)


@settings(max_examples=300)
@given(SOME, st.integers(1, 400), st.data())
def test_the_largest_value_that_fits_fits_and_the_next_one_does_not(
    some: dict[str, Any], frames: int, data: st.DataObject
) -> None:
    now = ConnectorSettings(**some)
    room = data.draw(st.integers(0, budget(frames, now).visual_tokens))
    fit = largest_fit(frames, now, room)

    def fits(count: int = frames, **changed: float) -> bool:
        return budget(count, replace(now, **changed)).visual_tokens <= room  # type: ignore[arg-type]

    assert fit.frames is None or fits(fit.frames)
    assert fit.frames == frames or not fits((fit.frames or 0) + 1)
    assert fit.events is None or fits(events=fit.events)
    assert fit.events == frames or not fits(events=(fit.events or 0) + 1)
    if fit.keep is None:
        assert not fits(keep=1e-9)
    else:
        last = Decimal(10) ** Decimal(str(fit.keep)).as_tuple().exponent  # type: ignore[operator]
        assert fits(keep=fit.keep)
        assert fit.keep == 1 or not fits(keep=float(Decimal(str(fit.keep)) + last))


@given(SOME, st.integers(1, 60), st.data())
def test_no_number_of_prototypes_is_passed_over(some: dict[str, Any], frames: int, data: st.DataObject) -> None:
    now = ConnectorSettings(**some)
    room = data.draw(st.integers(0, budget(frames, now).visual_tokens))
    events = min(now.events, frames)
    fitting = [k for k in range(1, events + 1) if cost_of(k, frames, now) <= room]
    fit = largest_fit(frames, now, room)
    assert (fit.keep is None) == (not fitting)
    if fit.keep is not None:
        assert count_kept(frames, replace(now, keep=fit.keep)) == max(fitting)
        assert len(str(fit.keep)) <= len("0.0167"), "no more places than sixty prototypes can ask for"


def cost_of(chosen: int, frames: int, now: ConnectorSettings) -> int:
    """Tokens of a video where ``chosen`` frames are kept, counted frame by frame."""
    if now.encoder == "average_pooling":
        return sum(now.pooled for _ in range(frames))
    kept_frame = {0: 0, 2: 2, 38: 16 + 22, 40: 16 + 22 + 2, 256: 256 + 2}[now.kept_tokens]
    return sum(kept_frame if n < chosen else now.redundant_tokens for n in range(frames))


def test_what_fits_is_said_in_values_that_can_be_set() -> None:
    """200 frames at L = 70 and K/L = 0.4 cost 1464; in 1000 stand 57 of them, or 37 events, or a share of 0.21."""
    now = ConnectorSettings(events=70, keep=0.4)
    assert largest_fit(200, now, 1000) == Fit(frames=57, events=37, keep=0.21)
    assert budget(57, now).visual_tokens == 40 * 23 + 2 * 34 == 988
    assert budget(200, replace(now, events=37)).visual_tokens == 40 * 15 + 2 * 185 == 970
    assert budget(200, replace(now, keep=0.21)).visual_tokens == 970
    assert largest_fit(200, now, 437) == Fit(frames=25, events=None, keep=None), "one kept frame among 200 costs 438"
    assert largest_fit(1, now, 39) == Fit(None, None, None)
