"""The torchmetrics shell says what the pure functions say."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynfocus.evals.accuracy import summarize
from dynfocus.records.predictions import Prediction
from dynfocus.records.rows import KINDS
from dynfocus.train.metrics import AnswerScore

ANSWERS = st.tuples(
    st.sampled_from(sorted(KINDS)),
    st.sampled_from([0.0, 1.0]),
    st.none() | st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    st.integers(0, 5000),
)


@given(st.lists(st.lists(ANSWERS, max_size=6), min_size=1, max_size=4))
@settings(max_examples=60)
def test_score_equals_the_summary_of_all_batches(batches: list[list[tuple[str, float, float | None, int]]]) -> None:
    score, predictions = AnswerScore(), []
    for batch in batches:
        new = [
            Prediction(*"1vlqat", KINDS[type], type, correct, (), hit, tokens) for type, correct, hit, tokens in batch
        ]
        score.update(new)
        predictions += new
    computed = {name: value.item() for name, value in score.compute().items()}
    summary = summarize(predictions)
    flat = {name: summary[name] for name in ("balanced", "accuracy", "visual_tokens")} | summary["accuracy_by_kind"]
    flat |= {f"type/{type}": share for type, share in summary["accuracy_by_type"].items()}
    flat |= {} if summary["hit_rate"] is None else {"hit_rate": summary["hit_rate"]}
    assert computed == pytest.approx(flat, rel=1e-6, nan_ok=True)


def test_a_reset_score_has_forgotten() -> None:
    score = AnswerScore()
    score.update([Prediction("0", "v", "learned", "q", "a", "a", "detail", "color", 1.0, (3,), 1.0, 85)])
    assert score.compute()["balanced"] == 1
    score.reset()
    score.update([Prediction("0", "v", "learned", "q", "a", "a", "correspondence", "place", 0.0, (3,), 1.0, 85)])
    computed = score.compute()
    assert computed["accuracy"] == 0
    assert math.isnan(computed["balanced"])
    assert "detail" not in computed
