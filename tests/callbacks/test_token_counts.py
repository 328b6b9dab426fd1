"""Tokens of what a run reads, against what each row is known to cost."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from tensorboard_events import Logging, Reports, make_recorder
from training_ranks import NOISY, learn, several

from callbacks.tokens import TokenCounts
from dynfocus.models.collate import Example
from dynfocus.settings import ConnectorSettings


def example(n: int, frames: int, turns: int, source: str, settings: ConnectorSettings) -> Example:
    one = tiny.example(n, frames or 1, settings, media="v.mp4" if frames else None, turns=turns)
    return replace(one, row=replace(one.row, source=source))


def rows(start: int, kinds: Sequence[tuple[int, int, str]], settings: ConnectorSettings) -> list[Example]:
    return [example(start + n, *kind, settings) for n, kind in enumerate(kinds)]


KINDS = [
    [(9, 1, "films"), (3, 2, "films"), (0, 2, "notes"), (7, 1, "web")],
    [(12, 3, "films"), (1, 1, "films"), (6, 1, "web"), (2, 1, "web")],  # the second process meets no film
]


def costs(examples: Sequence[Example], settings: ConnectorSettings, answers: bool) -> dict[str, float]:
    """From the processor's own measure of every row."""
    processor, sums = tiny.processor(settings, answers=answers), defaultdict(list)
    for one in examples:
        cost = processor.measure(one.row, one.length)
        for prefix in ("", f"{one.row.source}/"):
            sums[f"{prefix}text"].append(cost.text)
            sums[f"{prefix}total"].append(cost.total)
            sums[f"{prefix}visual"] += [cost.visual] * cost.slots
        if cost.slots:
            sums["full"] += [256 * one.length] * cost.slots
            kept = -(-3 * min(5, one.length) // 5)
            sums["cones"] += [kept * settings.cones] * cost.slots
            sums["rods"] += [2 * one.length] * cost.slots
    means = {name: sum(values) / len(values) for name, values in sums.items() if values and name != "full"}
    return means | {"share_of_256_per_frame": sum(sums["visual"]) / sum(sums["full"])}


@pytest.mark.parametrize(("name", "accumulate"), [("one", 1), ("one", 2), ("ddp", 1), ("sharded", 2)])
def test_tokens_are_those_that_rows_cost(towers: Path, name: str, accumulate: int) -> None:
    steps = [rows(4 * n, kinds, NOISY) for n, kinds in enumerate(KINDS)]
    val_rows = rows(20, [(5, 1, "films"), (8, 1, "web"), (1, 1, "web")], NOISY)
    val_rows = [
        replace(one, row=replace(one.row, questions=tiny.row(0, segments=((0,),)).questions)) for one in val_rows
    ]

    def run(rank: int) -> Reports:
        counts = make_recorder(TokenCounts)
        learn(towers, name, steps, accumulate=accumulate, val_rows=val_rows, callbacks=[Logging(), counts])
        return counts.reports

    for reports in [run(0)] if name == "one" else several(run):
        assert [(phase, step) for phase, step, _ in reports] == [("train", 1), ("train", 2), ("val", 2)]
        for (phase, _, values), examples in zip(reports, [*steps, val_rows], strict=True):
            expected = costs(examples, NOISY, phase == "train")
            assert values == pytest.approx({f"tokens/{phase}/{key}": value for key, value in expected.items()})


def test_a_split_of_one_file_is_not_told_twice(towers: Path) -> None:
    counts = make_recorder(TokenCounts)
    steps = [rows(0, [(9, 1, "train"), (4, 1, "train")], NOISY), rows(4, [(9, 1, "train"), (4, 1, "web")], NOISY)]
    learn(towers, "one", steps, callbacks=[Logging(), counts])
    (_, _, alone), (_, _, mixed) = counts.reports
    assert len(alone) == 6
    assert mixed.keys() - alone.keys() == {f"tokens/train/web/{name}" for name in ("visual", "text", "total")}


def test_a_run_that_never_logs_keeps_nothing(towers: Path) -> None:
    counts = make_recorder(TokenCounts)
    learn(towers, "one", [rows(0, [(9, 1, "films")], NOISY)], callbacks=[Logging(every=0), counts])
    assert counts.reports == []
    assert counts.logs == {}


def test_a_run_counts_nothing_of_the_one_before(towers: Path) -> None:
    counts = make_recorder(TokenCounts)
    before, *steps = (rows(4 * n, kinds, NOISY) for n, kinds in enumerate((KINDS[1], *KINDS)))
    for run in ([before], steps):  # the first one ends between two logs
        learn(towers, "one", run, callbacks=[Logging(every=2), counts])
    [(_, _, values)] = counts.reports
    expected = costs([*steps[0], *steps[1]], NOISY, answers=True)
    assert values == pytest.approx({f"tokens/train/{key}": value for key, value in expected.items()})


def test_no_rods_no_cones(towers: Path) -> None:
    settings = replace(NOISY, kept_tokens=0)
    counts = make_recorder(TokenCounts)
    learn(
        towers, "one", [rows(0, [(9, 1, "films"), (0, 1, "films")], settings)], settings, callbacks=[Logging(), counts]
    )
    [(_, _, values)] = counts.reports
    assert values["tokens/train/cones"] == 0
    assert values["tokens/train/rods"] == values["tokens/train/visual"] == 2 * (9 - 3)


def test_the_baseline_counts_all_as_cones(towers: Path) -> None:
    settings = replace(NOISY, encoder="average_pooling")
    counts = make_recorder(TokenCounts)
    learn(towers, "one", [rows(0, [(9, 1, "films"), (3, 1, "web")], settings)], settings, callbacks=[Logging(), counts])
    [(_, _, values)] = counts.reports
    assert values["tokens/train/cones"] == values["tokens/train/visual"] == 4 * 6
    assert values["tokens/train/rods"] == 0
