"""The embedded world as a benchmark: which answers are right, and what its summary holds."""

from dataclasses import replace

import pytest

from dynfocus.errors import ConfigError
from dynfocus.evals.benchmarks import BENCHMARKS, find_benchmark
from dynfocus.evals.summary import score_hits, summarize
from dynfocus.records.predictions import Prediction
from dynfocus.records.rows import Question

WORLD = BENCHMARKS["world"]
QUESTION = Question("what color is the star", "star red", (), "color", ((3, 4), (9,)), {"word": "red"})


def prediction(
    video: int, correct: bool, group: str = "color", hit: float | None = None, tokens: int = 85
) -> Prediction:
    answer = "star red" if correct else "star blue"
    meta = {"word": "red"}
    return Prediction("1", f"{video}.mp4", "learned", "q", answer, "star red", group, (), hit, tokens, (), meta)


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
        ("star red.", 1.0),
        ("Star: RED!</s>", 1.0),
    ],
)
def test_an_answer_is_right_if_it_ends_with_the_word(answer: str, correct: float) -> None:
    scores, parsed = WORLD.check(replace(prediction(0, True), answer=answer))
    assert scores == {"correct": correct}
    assert (parsed is None) == (not answer.strip())


@pytest.mark.parametrize(
    ("kept", "share"), [((), 0.0), ((0, 1, 2), 0.0), ((4,), 0.5), ((3, 4), 0.5), ((3, 9), 1.0), ((4, 9, 11), 1.0)]
)
def test_hits_are_the_share_of_segments_with_a_kept_frame(kept: tuple[int, ...], share: float) -> None:
    assert score_hits(kept, QUESTION) == share


def test_no_segment_no_hit() -> None:
    assert score_hits((1, 2), replace(QUESTION, segments=())) is None


def test_a_summary_by_hand() -> None:
    summary = summarize(
        [
            prediction(0, True, "color", 1.0, 80),
            prediction(0, False, "shape", 0.5, 80),
            prediction(1, False, "shape", 0.0, 80),
            prediction(1, False, "color", None, 80),
            prediction(1, True, "count", None, 90),
            replace(prediction(2, False, "place", None, 100), answer=""),
        ],
        WORLD,
    )
    values = {name: (one["value"], one["n"]) for name, one in summary["columns"].items()}
    assert values == {
        "balanced": ((0.25 + 1.0) / 2, 5),
        "detail": (0.25, 4),
        "correspondence": (0.0, 1),
        "temporal": (1.0, 1),
        "type/color": (0.5, 2),
        "type/shape": (0.0, 2),
        "type/place": (0.0, 1),
        "type/count": (1.0, 1),
    }
    assert (summary["hit_rate"], summary["visual_tokens"], summary["unparsed"], summary["n"]) == (0.5, 85, 1 / 6, 6)


def test_a_summary_of_nothing_has_no_number() -> None:
    assert summarize([], WORLD) == {
        "columns": {},
        "hit_rate": None,
        "visual_tokens": 0,
        "unparsed": 0,
        "failed": 0,
        "n": 0,
    }


def test_an_unknown_benchmark_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'worlds'.*Needed: one of world"):
        find_benchmark("worlds")
