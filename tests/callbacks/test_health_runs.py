"""The selector's health in real runs: what counts and what does not, where there is nothing to say, and a collapse."""

import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import training_ranks
from lightning import Callback
from tensorboard_events import ALL, Logging, Reports, make_recorder, scalars
from tiny_world import call
from training_ranks import NOISY, StepData, learn, several

from callbacks import health
from callbacks.health import SelectorHealth
from callbacks.memory_check import MemoryCheck
from dynfocus.method.dpe import EventPrototypeSelector
from dynfocus.models.collate import Example
from dynfocus.settings import ConnectorSettings
from dynfocus.types import Batch

ALWAYS = {"distance", "entropy", "score_spread", "most_kept"}
NOISE = {"soft_hard_gap", "never_kept", "gradient_snr"}


def rows(counts: Sequence[int], start: int, settings: ConnectorSettings = NOISY, known: bool = False) -> list[Example]:
    events = ((0,),) if known else ()
    media = [f"{n}.mp4" if count else None for n, count in enumerate(counts, start)]
    return [
        tiny.example(start + n, count or 1, settings, media=media[n], segments=events) for n, count in enumerate(counts)
    ]


STEPS = [rows(counts, 4 * n, known=True) for n, counts in enumerate(([9, 3, 0, 7], [6, 0, 8, 12], [4, 4, 2, 9]))]


def report(
    towers: Path, name: str = "one", steps: Any = STEPS, more: Sequence[Callback] = (), **options: Any
) -> Reports:
    watching = make_recorder(SelectorHealth)
    learn(towers, name, steps, callbacks=[watching, Logging(), *more], **options)
    return [
        (phase, step, {tag.split("/")[2]: value for tag, value in values.items()})
        for phase, step, values in watching.reports
    ]


class LooksBetween(Callback):
    """Shows the selector one more video at the end of every batch, as probes do."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        select, sketch = pl_module.model.connector.select, tiny.sketch(9, settings=NOISY)
        select.eval()
        select(sketch, tiny.inputs(sketch, [3]))
        select.train()


def test_a_look_between_batches_does_not_count(towers: Path) -> None:
    reports = []
    for before in ([], [LooksBetween()]):
        watching = make_recorder(SelectorHealth)
        learn(towers, "one", STEPS, callbacks=[*before, watching, Logging()])
        reports.append(watching.reports)
    assert reports[0] == reports[1]


def test_every_number_is_there_in_training_and_asking(towers: Path) -> None:
    reports = report(towers, val_rows=rows([9, 3, 7], 20, known=True))
    assert [(phase, step) for phase, step, _ in reports] == [("train", 1), ("train", 2), ("train", 3), ("val", 3)]
    for phase, _, values in reports:
        assert set(values) == ALWAYS | {"hit_rate"} | (NOISE if phase == "train" else set())
        for name, value in values.items():
            assert 0 <= value <= 1 or name in ("distance", "gradient_snr")


@pytest.mark.parametrize("name", ["ddp", "sharded"])
def test_two_processes_say_what_one_says(towers: Path, name: str) -> None:
    val_rows = rows([9, 3, 7], 20, known=True)  # one is repeated for the second process, and counts once
    (_, *alone), *both = (
        report(towers, val_rows=val_rows),
        *several(lambda rank: report(towers, name, val_rows=val_rows)),
    )
    for _, *reports in both:
        for (*_, values), (*_, expected) in zip(reports, alone, strict=True):
            assert values == pytest.approx(expected, rel=2e-3, abs=1e-4)


class DataWithDearestBatch(StepData):
    """Data that know which batch costs most."""

    def most_expensive_batch(self) -> Batch | None:
        return tiny.processor(NOISY, answers=True)(rows([40, 20, 30], 50))


class ModelCaller(Callback):
    """Calls the model when nobody asked, as probes do."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        pl_module.model.answer(tiny.processor(NOISY)(rows([30, 20], 60)), max_new_tokens=1)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.on_train_start(trainer, pl_module)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self.on_train_start(trainer, pl_module)

    on_validation_end = on_validation_start


def test_what_others_compute_counts_nowhere(towers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = report(towers, val_rows=rows([9, 3], 20, known=True))
    monkeypatch.setattr(training_ranks, "StepData", DataWithDearestBatch)
    assert report(towers, val_rows=rows([9, 3], 20, known=True), more=[MemoryCheck(), ModelCaller()]) == expected


def test_other_arms_of_a_test_count_nowhere(place: Path, trained_runs: Path) -> None:
    assert call(place, "test", "stage2", trained_runs / "stage2", *ALL[:2]) == 0
    arms = json.loads((trained_runs / "stage2" / "metrics.json").read_text())["arms"]
    numbers = scalars(trained_runs / "stage2")
    assert len({arms[arm]["hit_rate"] for arm in ("learned", "uniform", "random")}) > 1
    assert numbers["dpe/test/hit_rate"][-1][1] == pytest.approx(arms["learned"]["hit_rate"], abs=1e-3)


@pytest.mark.parametrize(
    ("changed", "left"),
    [
        ({"selector": "uniform"}, set()),
        ({"encoder": "average_pooling"}, set()),
        ({"keep": 1.0}, set()),
        ({"sigma": 0.0}, ALWAYS | {"hit_rate"}),
        ({"samples": 1}, ALWAYS | {"hit_rate", "soft_hard_gap", "never_kept"}),
        ({"kept_tokens": 0}, ALWAYS | {"hit_rate", "soft_hard_gap", "never_kept"}),
        ({"kept_tokens": 2}, ALWAYS | {"hit_rate", "soft_hard_gap", "never_kept"}),
    ],
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value),
)
def test_what_means_nothing_has_no_tag(towers: Path, changed: dict[str, Any], left: set[str]) -> None:
    settings = replace(NOISY, **changed)
    steps = [rows([9, 8, 0, 7], 0, settings, known=True)]
    for _, _, values in report(towers, steps=steps, settings=settings):
        assert set(values) == left


def test_images_and_text_are_no_choice(towers: Path) -> None:
    [(_, _, values)] = report(towers, steps=[rows([1, 1, 0, 1], 0)])
    assert values == {}


class ConstantScores(Callback):
    """Makes a score net that gives every event the same."""

    weight = 0.0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        with torch.no_grad():
            for weight in pl_module.model.connector.select.score_net.parameters():
                weight.fill_(self.weight)


class NanScores(ConstantScores):
    """Makes one that gives no numbers; the language model's loss does not show it."""

    weight = math.nan


MANY = [rows([9, 8, 7, 12], 4 * n) for n in range(18)]


def same_place(module: Any, inputs: Any, scores: torch.Tensor) -> torch.Tensor:
    return scores + 100.0 * (torch.arange(scores.shape[1]) == 2)


class FavouriteEvent(Callback):
    """Makes a score net that loves the third event, whatever it shows."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        pl_module.model.connector.select.score_net.register_forward_hook(same_place)


@pytest.mark.parametrize(
    ("breaks", "warning"),
    [(one, "all the last 6. videos are constant or NaN") for one in (ConstantScores, NanScores)]
    + [(FavouriteEvent, "event 3 of the last 6. videos was always kept")],
)
def test_a_collapse_warns_once_and_says_what_to_look_at(towers: Path, breaks: type[Callback], warning: str) -> None:
    with pytest.warns(UserWarning, match=warning) as caught:
        report(towers, steps=MANY * 2, more=[breaks()])
    [message] = [str(one.message) for one in caught if "collapsed" in str(one.message)]
    for name in ("gradient_snr", "model.lr", "connector.sigma", "keep = 1", "kept_tokens 0 or 2"):
        assert name in message


def test_many_questions_about_few_videos_are_no_collapse(towers: Path) -> None:
    """Of two videos that keep 3 of 5 events one place is always kept, however often they are asked about."""
    two = rows([9, 9], 20, known=True)
    val_rows = [replace(two[n % 2], row=replace(two[n % 2].row, index=n)) for n in range(health.MIN_VIDEOS + 6)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        [(_, _, values)] = report(
            towers, val_rows=val_rows, more=[Logging(every=100)]
        )  # nothing else is judged beside them
    assert values["most_kept"] == 1


def test_each_video_is_judged_once() -> None:
    rows_of_videos = [("a.mp4", 2), (None, 1), ("b.mp4", 1), ("a.mp4", 2)]
    examples = [tiny.example(n, 4, NOISY, media=media, turns=turns) for n, (media, turns) in enumerate(rows_of_videos)]
    batch, watching = tiny.processor(NOISY, slots="every")(examples), SelectorHealth()
    assert batch.slot_row.tolist() == [0, 0, -1, 2, 3, 3]
    assert watching.first_showings(batch).tolist() == [True, False, False, True, False, False]
    assert not watching.first_showings(batch).any()
    watching.check_collapse({"constant": [], "kept": [3.0], "met": [3.0]})
    assert not watching.first_showings(batch).any()
    watching.check_collapse({"constant": [], "kept": [], "met": []})  # images alone: what was shown is forgotten
    assert watching.first_showings(batch).sum() == 2


@pytest.mark.parametrize(("often", "collapsed"), [(59, False), (30, True)])
def test_a_place_always_kept_is_no_news_where_nearly_all_are(often: int, collapsed: bool) -> None:
    """Of 25 places, each kept in 59 of 64 videos by chance, one is kept in all of them in every eighth such look."""
    watching = SelectorHealth()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        watching.check_collapse({"constant": [0.0, 64.0], "kept": [64.0, *[float(often)] * 24], "met": [64.0] * 25})
    assert bool(caught) == watching.has_warned == collapsed


def test_a_healthy_run_warns_of_nothing(towers: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reports = report(towers, steps=MANY)
    assert len(reports) == 18 * 4 // 4 >= health.MIN_VIDEOS / 4


def count_warnings(towers: Path, rank: int) -> int:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report(towers, "ddp", steps=MANY, more=[ConstantScores()])
    return sum("collapsed" in str(one.message) for one in caught)


def test_of_two_processes_the_first_warns(towers: Path) -> None:
    assert several(partial(count_warnings, towers)) == [1, 0]


@pytest.mark.parametrize(
    ("distance", "scale", "warns"), [(11.0, "width", True), (9.0, "width", False), (11.0, "video", False)]
)
def test_large_distances_warn_once_and_say_what_to_do(distance: float, scale: str, warns: bool) -> None:
    """Of a video whose frames differ by the same amount in every number."""
    settings = replace(NOISY, distance_scale=scale)
    select = EventPrototypeSelector(settings, tiny.WIDTH, tiny.TEXT_WIDTH).eval()
    sketch = tiny.sketch(9, settings=settings)
    points = torch.nn.functional.one_hot(torch.arange(9), tiny.WIDTH).float()
    sketch.pooled[:] = points[None, :, None] * (distance * tiny.WIDTH / 2) ** 0.5
    observer = SelectorHealth()
    observer.record_call(select, (sketch, inputs := tiny.inputs(sketch, [3])), select(sketch, inputs))
    median, known = observer.last[False]["distance"][0].tolist()
    assert (known, median) == (1.0, pytest.approx(distance, rel=1e-5))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            observer.check_distance("train", median)
    assert len(caught) == warns
    if warns:
        assert "Set model.connector.distance_scale to video" in str(caught[0].message)
