"""Which answers are right, and what many say together."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynfocus.evals.accuracy import bootstrap_interval, score_answer, score_hits, summarize
from dynfocus.records.predictions import Prediction
from dynfocus.records.rows import Question

QUESTION = Question("what color is the star", "star red", "red", "detail", "color", "star", ((3, 4), (9,)))


@pytest.mark.parametrize(
    ("answer", "correct"),
    [
        ("star red", 1.0),
        ("red", 1.0),
        ("Star RED", 1.0),
        (" star  red \n", 1.0),
        ("red star", 0.0),
        ("star red blue", 0.0),
        ("starred", 0.0),
        ("", 0.0),
        ("   ", 0.0),
        ("star reddish", 0.0),
    ],
)
def test_an_answer_is_right_if_it_ends_with_the_word(answer: str, correct: float) -> None:
    assert score_answer(answer, QUESTION) == correct


@pytest.mark.parametrize(
    ("kept", "share"), [((), 0.0), ((0, 1, 2), 0.0), ((4,), 0.5), ((3, 4), 0.5), ((3, 9), 1.0), ((4, 9, 11), 1.0)]
)
def test_hits_are_the_share_of_events_with_a_kept_frame(kept: tuple[int, ...], share: float) -> None:
    assert score_hits(kept, QUESTION) == share


def test_no_event_no_hit() -> None:
    assert score_hits((1, 2), replace(QUESTION, events=())) is None


def prediction(
    video: int, correct: float, kind: str = "detail", hit: float | None = None, tokens: int = 85
) -> Prediction:
    return Prediction(
        str(video), f"{video}.mp4", "learned", "q", "a", "t", kind, f"{kind} type", correct, (), hit, tokens
    )


def test_a_summary_by_hand() -> None:
    summary = summarize(
        [
            prediction(0, 1.0, "detail", 1.0, 80),
            prediction(0, 0.0, "detail", 0.5, 80),
            prediction(1, 0.0, "detail", 0.0, 80),
            prediction(1, 0.0, "detail", None, 80),
            prediction(1, 1.0, "temporal", None, 90),
            prediction(2, 0.0, "correspondence", None, 100),
        ]
    )
    assert summary["accuracy_by_kind"] == {"correspondence": 0.0, "detail": 0.25, "temporal": 1.0}
    assert summary["balanced"] == (0.25 + 1.0) / 2
    assert summary["accuracy"] == 2 / 6
    assert summary["hit_rate"] == 0.5
    assert summary["visual_tokens"] == 85
    assert summary["n"] == 6
    assert summary["intervals"].keys() == summary["accuracy_by_kind"].keys() | summary["accuracy_by_type"].keys()


def test_a_summary_of_nothing_is_not_a_number() -> None:
    summary = summarize([])
    assert math.isnan(summary["balanced"])
    assert math.isnan(summary["accuracy"])
    assert summary["hit_rate"] is None
    assert summary["n"] == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([0.0, 1.0])), min_size=1, max_size=30))
def test_an_interval_lies_in_zero_to_one_and_is_the_same_twice(rows: list[tuple[int, float]]) -> None:
    predictions = [prediction(video, correct) for video, correct in rows]
    low, high = bootstrap_interval(predictions, draws=100)
    assert 0 <= low <= high <= 1
    assert (low, high) == bootstrap_interval(predictions[::-1], draws=100)
    if len({correct for _, correct in rows}) == 1:
        assert low == high == rows[0][1]
    if len({video for video, _ in rows}) == 1:  # one video: nothing to draw from
        assert low == high


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """400 sets of 60 videos with one question each: 95 % of the intervals, plus or minus four standard errors."""
    rng, inside = np.random.default_rng(0), 0
    for _ in range(400):
        outcomes = (rng.random(60) < 0.7).astype(float)
        low, high = bootstrap_interval(
            [prediction(n, correct) for n, correct in enumerate(outcomes.tolist())], draws=200
        )
        inside += low <= 0.7 <= high
    assert abs(inside / 400 - 0.94) < 4 * (0.05 * 0.95 / 400) ** 0.5


def test_questions_of_one_video_are_drawn_together() -> None:
    """Ten equal answers to each of 20 videos tell no more than one does."""
    outcomes = [float(n % 3 == 0) for n in range(20)]
    one = [prediction(n, correct) for n, correct in enumerate(outcomes)]
    ten = [prediction(n, correct) for n, correct in enumerate(outcomes) for _ in range(10)]
    apart = [prediction(100 * k + n, correct) for n, correct in enumerate(outcomes) for k in range(10)]
    width = {name: np.ptp(bootstrap_interval(rows)) for name, rows in (("one", one), ("ten", ten), ("apart", apart))}
    assert width["ten"] == pytest.approx(width["one"])
    assert width["apart"] < 0.5 * width["one"]
