"""Measure selectors on the questions of a benchmark, as entries of a report card: no language model is asked."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from logging import getLogger
from pathlib import Path
from time import perf_counter

import numpy as np
from tqdm import tqdm

from dynfocus.bridge.choose import FrameChooser, SketchedVideo
from dynfocus.bridge.features import Features
from dynfocus.errors import ConfigError, DataError, UsageError
from dynfocus.evals.benchmarks import find_benchmark, find_split
from dynfocus.evals.compare import Arm
from dynfocus.evals.files import BenchmarkFiles, name_missing
from dynfocus.evals.protocol import OWN, Item, Value
from dynfocus.evals.summary import score_hits
from dynfocus.lab.card_entries import Entry, Side
from dynfocus.lab.frame_metrics import measure_agreement
from dynfocus.records.predictions import Prediction
from dynfocus.settings import SelectorChoice, selector_label

log = getLogger(__name__)
WORLD = "world"  # whose questions name frames by their numbers in the file


def measure_selectors(
    choices: Sequence[SelectorChoice],
    root: Path,
    features: Features,
    benchmark: str = WORLD,
    *,
    split: str | None = None,
    keep: Sequence[int] = (3,),
    seeds: Sequence[int] = (0,),
    rows: int | None = None,
    fps: float | None = None,
    frames: int | None = None,
    allow_missing: bool = False,
) -> list[Entry]:
    """Choose frames for every question of a benchmark with every selector, and return what a report card is made of.

    Each video is read twice for all selectors: as it is, and without its first frame. The time of each part is taken
    on this machine.

    Args:
        choices: the selectors.
        root: folder of the benchmark's files.
        features: what the selectors read.
        benchmark: its name.
        split: which of its splits, if not the first one.
        keep: numbers of frames to keep; each gives an entry of its own.
        seeds: of what selectors draw.
        rows: only the first so many questions.
        fps, frames: candidates of a video, as `FrameChooser` takes them; of the embedded world all frames are.
        allow_missing: whether questions are left out whose video is not there.

    Raises:
        ConfigError: if there is no such selector or benchmark, the features lack what a selector reads, or two numbers
            of frames give the same entry.
        DataError: if videos are missing, or questions are about a stretch of a video, or about frames that it lacks.
        UsageError: if a selector or a number is named twice, or candidates of the world's videos are to be left out.
    """
    if benchmark == WORLD:
        if fps is not None or frames is not None:
            given = "--fps or --frames on the embedded world"
            raise UsageError(given, "all frames, which its questions count", "Leave them out.")
        features = copy(features)
        features.rule = replace(features.rule, fps=None, frames=None)
    labels = [selector_label(choice) for choice in choices]
    for name, words in (("selectors", labels), ("--keep", [*map(str, keep)]), ("--seeds", [*map(str, seeds)])):
        if len({*words}) < len(words):
            raise UsageError(f"{name} {', '.join(words)}", "each of them once", "Leave the second one out.")
    asked, split = find_benchmark(benchmark), find_split(benchmark, split)
    files = BenchmarkFiles(root)
    items = asked.read_items(files, split)[:rows]
    if any(item.video is None or item.fps is not None or item.span is not None for item in items):
        raise DataError(
            f"{benchmark}, of whose questions some are about no video file, or about a stretch of one",
            "questions about whole video files",
            "Name another benchmark.",
        )
    truth = any(item.question.segments or item.evidence for item in items)
    choosers = [FrameChooser(choice, features, fps, frames, seed, truth) for choice in choices for seed in seeds]
    found_paths = files.find_paths((item.video, item.exact, None) for item in items)
    if missing := sorted(video for video, path in found_paths.items() if path is None):
        log.warning("%s", name_missing(benchmark, files, missing, len(found_paths), allow_missing))
    paths: dict[str | None, Path] = {name: files.root / path for name, path in found_paths.items() if path is not None}
    items = [item for item in items if item.video in paths]
    if not items:
        raise DataError(f"no question of {benchmark} in {root}", "at least one", "Correct --on or --rows.")
    found = _measure_all(items, paths, choosers, keep)
    entries: dict[str, Entry] = {}
    for label in labels:
        for count in keep:
            sides = []
            for chooser in (one for one in choosers if one.label == label):
                predictions, measured = found[label, chooser.seed, count]
                arm = Arm(label, benchmark, {"protocol": OWN, "split": split}, {})
                sides.append(Side(chooser.description, chooser.seed, arm, predictions, {}, measured))
            most = max(len(one.kept) for side in sides for one in side.predictions)
            entry = Entry(label, most, False, tuple(sides))
            if entry.label in entries:
                raise ConfigError(
                    f"{label} with --keep {', '.join(map(str, keep))}, of which two keep {most} frames",
                    "numbers of frames that the selector and the videos tell apart",
                    "Leave the larger ones out.",
                )
            entries[entry.label] = entry
    return list(entries.values())


Found = dict[tuple[str, int, int], tuple[list[Prediction], dict[str, list[Value]]]]  # by selector, seed and K


def _measure_all(
    items: Sequence[Item], paths: Mapping[str | None, Path], choosers: Sequence[FrameChooser], keep: Sequence[int]
) -> Found:
    """The choices and costs of every chooser and number of frames."""
    found: Found = {(one.label, one.seed, count): ([], {}) for one in choosers for count in keep}
    videos: dict[str | None, list[Item]] = {}
    for item in items:
        videos.setdefault(item.video, []).append(item)
    choosers[0].sketch(paths[items[0].video])  # the first call of all loads what later ones have
    with tqdm(total=len(items), desc="choosing frames", unit="question", delay=3) as bar:
        for video, asked in videos.items():
            whole = choosers[0].sketch(paths[video])
            shifted = choosers[0].sketch(paths[video], skip=1) if len(whole.video.times) > 1 else None
            for _, measured in found.values():
                for part, seconds in (("decode", whole.decoding), ("encode", whole.encoding)):
                    _add(measured, f"seconds_{part}", str(video), seconds, str(video))
            for item in asked:
                for chooser in choosers:
                    for count in keep:
                        _measure(item, whole, shifted, chooser, count, *found[chooser.label, chooser.seed, count])
                bar.update()
    return found


def _measure(
    item: Item,
    whole: SketchedVideo,
    shifted: SketchedVideo | None,
    chooser: FrameChooser,
    keep: int,
    predictions: list[Prediction],
    measured: dict[str, list[Value]],
) -> None:
    """Choose the frames for one question, and those of the video without its first frame, and add what comes of it."""
    text, video = item.question.text, str(item.video)
    segments = find_needed(item, whole)
    begin = perf_counter()
    picked = chooser.choose(whole, text, keep, _list_numbers(segments, whole))
    _add(measured, "seconds_select", video, perf_counter() - begin, item.id)
    places = {number: place for place, number in enumerate(whole.candidates)}
    kept = tuple(places[number] for number in picked.frames)
    question = replace(item.question, segments=segments)
    predictions.append(
        Prediction(
            *(item.id, video, chooser.label, text, "", question.answer, question.group),
            kept=kept,
            hit=score_hits(kept, question),
            visual_tokens=0,
            options=question.options,
            meta=question.meta,
            seconds=tuple(whole.video.times[list(whole.candidates)].round(3).tolist()),
            scores=picked.scores or (),
            segments=segments,
        )
    )
    if shifted is not None:
        other = chooser.choose(shifted, text, keep, _list_numbers(find_needed(item, shifted), shifted))
        agreement = measure_agreement(picked.seconds, other.seconds, _half_step(whole))
        if agreement is not None:
            _add(measured, "jitter_stability", video, agreement, item.id)


def find_needed(item: Item, sketched: SketchedVideo) -> tuple[tuple[int, ...], ...]:
    """Find the places among a video's candidates that a question needs, by its frame numbers or its evidence times.

    Of evidence that is shown between two candidates the nearest one is needed.

    Raises:
        DataError: if it names frames that the video lacks.
    """
    places = {number: place for place, number in enumerate(sketched.candidates)}
    numbers = [number for segment in item.question.segments for number in segment]
    if numbers and not 0 <= min(numbers) <= max(numbers) < len(sketched.video.times):
        raise DataError(
            f"question {item.id!r}, which needs frame {max(numbers)} of {sketched.video.path}",
            f"frames from 0 to {len(sketched.video.times) - 1}",
            "Correct the question, or the video.",
        )
    if numbers:
        segments = [tuple(places[n] for n in segment if n in places) for segment in item.question.segments]
        return tuple(segment for segment in segments if segment)
    times = sketched.video.times[list(sketched.candidates)]
    needed = []
    for start, end in item.evidence:
        inside = np.flatnonzero((times >= start) & (times <= end)).tolist()
        needed.append(tuple(inside or [int(np.abs(times - (start + end) / 2).argmin())]))
    return tuple(needed)


def _list_numbers(segments: Sequence[Sequence[int]], sketched: SketchedVideo) -> set[int]:
    """The numbers in the file of the candidates at these places."""
    return {sketched.candidates[place] for segment in segments for place in segment}


def _half_step(sketched: SketchedVideo) -> float:
    """Half the usual time from one candidate to the next, in seconds."""
    times = sketched.video.times[list(sketched.candidates)]
    return float(np.median(np.diff(times))) / 2 if len(times) > 1 else 0.0


def _add(measured: dict[str, list[Value]], name: str, video: str, value: float, id: str) -> None:
    measured.setdefault(name, []).append(Value(name, video, value, id))
