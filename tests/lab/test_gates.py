"""The bars of the embedded world's runs."""

import pytest

from dynfocus.evals.benchmarks.world import WORLD
from dynfocus.evals.summary import summarize
from dynfocus.lab.gates import find_failed_gates
from dynfocus.records.predictions import Prediction

GOOD = {"learned": (1.0, 1.0), "uniform": (0.5, 1.0), "random": (0.5, 1.0), "blind": (0.2, 0.2)}


def metrics(shares: dict[str, tuple[float, float]], hit: float = 1.0) -> dict:
    """Metrics of a run whose arms answer these shares of their detail and temporal questions rightly."""

    def predictions_of(arm: str, group: str, share: float, hit: float | None) -> list[Prediction]:
        answers, meta = ["red" if n < 10 * share else "blue" for n in range(10)], {"word": "red"}
        return [Prediction("1", "v", arm, "q", text, "red", group, (), hit, 85, (), meta) for text in answers]

    arms = {
        arm: summarize([*predictions_of(arm, "color", d, hit), *predictions_of(arm, "last", t, None)], WORLD)
        for arm, (d, t) in shares.items()
    }
    return arms["learned"] | {"arms": arms}


def test_a_good_run_reaches_every_bar() -> None:
    assert find_failed_gates(metrics(GOOD)) == []


@pytest.mark.parametrize(
    ("change", "hit", "cause"),
    [
        ({"learned": (0.8, 1.0)}, 1.0, "accuracy on detail"),
        ({"learned": (1.0, 0.6)}, 1.0, "accuracy on temporal"),
        ({"learned": (0.7, 0.7)}, 1.0, "balanced accuracy"),
        ({}, 0.9, "hit rate"),
        ({"uniform": (0.8, 1.0)}, 1.0, "uniform"),
        ({"random": (0.8, 1.0)}, 1.0, "random"),
        ({"blind": (0.5, 0.5)}, 1.0, "blind"),
    ],
)
def test_a_run_that_falls_short_is_told_where(change: dict, hit: float, cause: str) -> None:
    assert any(cause in bar for bar in find_failed_gates(metrics(GOOD | change, hit)))


def test_a_run_without_its_arms_reaches_none() -> None:
    assert "uniform, random" in find_failed_gates(metrics({"learned": (1.0, 1.0), "blind": (0.2, 0.2)}))[0]
