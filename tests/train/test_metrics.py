"""The torchmetrics shell computes what the pure functions compute."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynfocus.errors import DataError
from dynfocus.evals.benchmarks.world import GROUPS, WORLD
from dynfocus.evals.summary import summarize
from dynfocus.records.predictions import Prediction
from dynfocus.train.metrics import AnswerScore

ANSWERED = st.tuples(
    st.sampled_from(GROUPS),
    st.booleans(),
    st.none() | st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    st.integers(0, 5000),
)


def prediction(group: str, correct: bool, hit: float | None = 1.0, tokens: int = 85) -> Prediction:
    answer, meta = "red" if correct else "blue", {"word": "red"}
    return Prediction("1", "v", "learned", "q", answer, "red", group, (3,), hit, tokens, (), meta)


@given(st.lists(st.lists(ANSWERED, max_size=6), min_size=1, max_size=4))
@settings(max_examples=60)
def test_score_equals_the_summary_of_all_batches(batches: list[list[tuple[str, bool, float | None, int]]]) -> None:
    score, predictions = AnswerScore(WORLD), []
    for batch in batches:
        score.update([prediction(*one) for one in batch])
        predictions += [prediction(*one) for one in batch]
    computed = {name: value.item() for name, value in score.compute().items()}
    summary = summarize(predictions, WORLD)
    expected = {name: one["value"] for name, one in summary["columns"].items()}
    expected |= {
        name: summary[name] for name in ("hit_rate", "visual_tokens") if summary[name] is not None and predictions
    }
    assert computed == pytest.approx(expected, rel=1e-6)


def test_a_reset_score_has_forgotten() -> None:
    score = AnswerScore(WORLD)
    score.update([prediction("color", True), prediction("last", True)])
    assert score.compute()["balanced"] == 1
    score.reset()
    score.update([prediction("place", False)])
    assert score.compute().keys() == {"correspondence", "type/place", "hit_rate", "visual_tokens"}


def test_a_group_that_the_benchmark_does_not_have_is_named() -> None:
    with pytest.raises(DataError, match=r"the group 'colour'.*Needed: one of color, shape"):
        AnswerScore(WORLD).update([prediction("colour", True)])
