"""The bars of the embedded world's runs."""

import pytest

from dynfocus.errors import ConfigError
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


PARTED = {
    "learned": (0.5, 0.9),
    "text_top_k": (0.8, 0.9),
    "grain_spread": (0.4, 0.9),
    "uniform": (0.2, 0.9),
    "oracle": (1.0, 0.9),
}


def test_a_world_that_parts_selectors_passes() -> None:
    assert find_failed_gates(metrics(PARTED) | {"recipe": "standard"}) == []


@pytest.mark.parametrize(
    ("change", "causes"),
    [
        ({"learned": (0.2, 0.9)}, ["balanced accuracy is 0.550, below 0.6"]),
        ({"learned": (1.0, 0.9)}, ["how far balanced accuracy", "what learned, blind to the question"]),
        ({"learned": (0.7, 0.9)}, ["what learned, blind to the question, loses on detail to text_top_k is 0.100"]),
        ({"uniform": (0.7, 0.9)}, ["what uniform, blind"]),
        ({"text_top_k": (1.0, 0.9)}, ["what text_top_k loses on detail to the oracle is 0.000, below 0.05"]),
        ({"grain_spread": (1.0, 0.9)}, ["what grain_spread, blind", "what grain_spread loses"]),
    ],
)
def test_each_gate_of_the_standard_world_can_fail(change: dict, causes: list[str]) -> None:
    failed = find_failed_gates(metrics(PARTED | change) | {"recipe": "standard"})
    assert len(failed) == len(causes)
    assert all(sentence.startswith(cause) for sentence, cause in zip(failed, causes, strict=True))


def test_a_recipe_without_gates_is_named() -> None:
    with pytest.raises(ConfigError, match=r"a run on the recipe foreign.*easy, standard"):
        find_failed_gates(metrics(PARTED) | {"recipe": "foreign"})
    assert "text_top_k" in find_failed_gates(metrics(GOOD) | {"recipe": "standard"})[0]
