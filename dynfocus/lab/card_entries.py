"""Group the arms of tested runs into the entries of a report card: one way to keep frames, at one K, over its seeds."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dynfocus.errors import DataError, UsageError
from dynfocus.evals.benchmarks import find_benchmark, read_items
from dynfocus.evals.compare import RULES, Arm, check_comparable, read_arms
from dynfocus.evals.protocol import Value
from dynfocus.evals.results_table import read_metrics
from dynfocus.evals.scores import Column, make_columns
from dynfocus.records.predictions import Prediction


@dataclass(frozen=True)
class Side:
    """What one run holds of an arm.

    Attributes:
        run: its folder, or what the frames were chosen by where no run was tested.
        seed: the run's; None where it has none.
        arm: its judged answers.
        predictions: all of its predictions, of which frames were kept.
        connector: the settings of the model's connector, or which host was shown frames, and how; empty where they are
            not known.
        measured: numbers that were measured beside the predictions, by the metric's name.
    """

    run: str
    seed: int | None
    arm: Arm
    predictions: Sequence[Prediction]
    connector: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Sequence[Value]] = field(default_factory=dict)

    def list_columns(self) -> dict[str, Column]:
        """List the columns of the benchmark of which this side has values."""
        benchmark = find_benchmark(self.arm.benchmark, self.arm.settings["protocol"] or "")
        counted = benchmark.list_counted(self.arm.judged.values())
        return {one.name: one for one in make_columns(benchmark.list_values(counted), benchmark.columns)}


@dataclass(frozen=True)
class Entry:
    """One way to keep frames, at one number of kept frames, over its seeds.

    Attributes:
        arm: its name in results.
        keep: K', the most frames that are kept of a video; 0 of ``blind`` and of encoders that keep none.
        alone: whether the frames that are not kept give no tokens.
        sides: one a seed.
    """

    arm: str
    keep: int
    alone: bool
    sides: tuple[Side, ...]

    @property
    def label(self) -> str:
        """What the card calls it."""
        return f"{self.arm}, K = {self.keep}" + (", kept frames alone" if self.alone else "")

    @property
    def is_tested(self) -> bool:
        """Whether a language model answered: not where a selector was measured alone."""
        return any(side.arm.judged for side in self.sides)

    @property
    def selector(self) -> str:
        """The selector behind the arm, by its own name where it is known: ``learned`` says whose it is not."""
        choice = self.sides[0].connector.get("selector", self.arm) if self.arm == "learned" else self.arm
        return choice if isinstance(choice, str) else str(choice.get("class_path", self.arm))

    @property
    def spoils(self) -> str | None:
        """The selector whose kept frames this arm leaves out, where it is the control ``inverted``."""
        matched = re.fullmatch(r"inverted(?:\(of='?([^',()]+)'?\))?", self.arm)
        return None if matched is None else matched[1] or "oracle"


def read_entries(runs: Sequence[Path], on: Path | None = None, judge: str = RULES) -> list[Entry]:
    """Read the entries of tested runs, in the order in which their arms come.

    Args:
        runs: folders of tested runs; runs of one arm and K are seeds of each other.
        on: folder of the benchmark's files, for the needed frames of predictions that lack them.
        judge: whose verdicts count.

    Raises:
        CheckpointError: if a run was not tested.
        DataError: if runs are of different benchmarks, protocols, splits or judges, share no question, or two of one
            entry have the same seed or other settings.
    """
    if len({run.resolve() for run in runs}) < len(runs):
        raise UsageError("one run twice", "each run once", "Leave it out: it is no second seed.")
    groups: dict[tuple[str, int, bool], list[Side]] = {}
    for run in runs:
        metrics = read_metrics(run)
        segments = {} if on is None else read_segments(metrics, on)
        connector = metrics.get("made_by", {}).get("settings", {}).get("connector") or {}
        if "shown" in metrics:
            connector = {"host": metrics["model"], **metrics["shown"], "redundant_tokens": metrics["shown"]["rods"]}
        seed = metrics.get("seed", metrics.get("sampling", {}).get("seed"))
        for name, arm in read_arms(run, judge).items():
            predictions = [add_segments(one, segments) for one, _ in arm.judged.values()]
            keep = max((len(one.kept) for one in predictions), default=0)
            key = name, keep, bool(keep) and connector.get("redundant_tokens") == 0
            groups.setdefault(key, []).append(Side(str(run), seed, arm, predictions, connector))
    entries = [Entry(*key, tuple(sides)) for key, sides in groups.items()]
    check_entries(entries)
    return entries


def read_segments(metrics: Mapping[str, Any], on: Path) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Read which frames each question needs from the files of a run's benchmark."""
    return {item.id: item.question.segments for item in read_items(metrics["benchmark"], on, metrics.get("split"))}


def add_segments(one: Prediction, segments: Mapping[str, tuple[tuple[int, ...], ...]]) -> Prediction:
    """Add the needed frames to a prediction that lacks them, where its frames are those that the question counts."""
    if one.segments or one.hit is None:
        return one
    return replace(one, segments=segments.get(one.id, ()))


def check_entries(entries: Iterable[Entry]) -> None:
    """Refuse entries that cannot stand in one card; raises DataError."""
    sides = [(entry, side) for entry in entries for side in entry.sides]
    for _, side in sides[1:]:
        check_comparable(sides[0][1].arm, side.arm)
    for entry in entries:
        first, *others = entry.sides
        for other in others:
            unlike = sorted(
                name
                for name in first.connector.keys() & other.connector.keys()
                if first.connector[name] != other.connector[name]
            )
            if unlike:
                raise DataError(
                    f"{first.run} and {other.run}, whose {entry.label} differ in {', '.join(unlike)}",
                    "runs of one arm and K that differ in their seed alone",
                    "Make a card of each, and compare them with `dynfocus compare`.",
                )
        seeds = [side.seed for side in entry.sides]
        if len({*seeds}) < len(seeds):
            raise DataError(
                f"several runs of {entry.label} with the seed {max(seeds, key=seeds.count)}",
                "runs of different seeds, which are all drawn from as one sample of seeds",
                "Leave one out.",
            )
