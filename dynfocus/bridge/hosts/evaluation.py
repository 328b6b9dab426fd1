"""Ask a host the questions of a benchmark under several selectors: resumed where it stopped, judged by rules."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from logging import getLogger
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dynfocus.bridge.choose import FrameChooser, SketchedVideo
from dynfocus.bridge.hosts.answerer import HostAnswerer, HostRule
from dynfocus.bridge.hosts.folder import identify
from dynfocus.bridge.selector_card import find_needed
from dynfocus.errors import ConfigError
from dynfocus.evals.benchmarks import find_benchmark, find_split
from dynfocus.evals.card import CARD, check_card
from dynfocus.evals.files import BenchmarkFiles, name_missing
from dynfocus.evals.protocol import OWN, Benchmark, Item, check_options, digest_prompts, shuffle_options
from dynfocus.evals.summary import score_hits, write_results
from dynfocus.models.sampling import make_processors
from dynfocus.records.jsonl import append_jsonl
from dynfocus.records.predictions import ANSWERS, BLIND, LEARNED, Prediction, read_answers
from dynfocus.settings import Sampling, SelectorChoice, selector_label
from dynfocus.video.media import Media

log = getLogger(__name__)


def evaluate_host(
    benchmark: str,
    root: Path,
    out: Path,
    host: Path,
    arms: Sequence[SelectorChoice],
    rule: HostRule,
    sampling: Sampling,
    settings: Mapping[str, Any],
    protocol: str = OWN,
    device: str = "auto",
) -> dict[str, Any]:
    """Ask, judge and summarize; returns what metrics.json holds.

    Args:
        benchmark: its name.
        root: folder of its files.
        out: folder of the results; answers that are there already are not asked for again.
        host: folder of the video language model.
        arms: ``blind`` (no video), or any selector that works on the host's features.
        rule: how frames are shown.
        sampling: how answers are drawn; its seed is that of the selectors too.
        settings: ``split``, ``rows``, ``allow_missing``, ``shuffle``, ``max_new_tokens`` and ``cache``.
        protocol: whose rules read and count answers.
        device: where to compute.

    Raises:
        ConfigError: if the folder holds answers that were made otherwise, an arm lacks what it reads, or options are to
            be shuffled where there are none.
        DataError: if videos are missing and may not be.
    """
    chosen = {selector_label(arm): arm for arm in arms}
    if LEARNED in chosen:
        needed = f"{BLIND}, or names of selectors as `dynfocus select --list` shows them"
        raise ConfigError(f"the arm {LEARNED} of a host, which has no selector of its own", needed, "Correct --arms.")
    asked, split = find_benchmark(benchmark, protocol), find_split(benchmark, settings["split"])
    files = BenchmarkFiles(root)
    items = asked.read_items(files, split)[: settings["rows"]]
    if settings["shuffle"]:
        check_options(items, benchmark)
        items = [shuffle_options(item) for item in items]
    paths = files.find_paths((item.video, item.exact, item.fps) for item in items)
    missing = sorted(video for video, path in paths.items() if path is None)
    there = [item for item in items if item.video is None or item.video not in missing]
    if missing:
        told = name_missing(benchmark, files, missing, len(paths), settings["allow_missing"])
        log.warning("%s; their questions are left out", told)
    tokens = settings["max_new_tokens"] or asked.new_tokens
    card = {
        **{"benchmark": benchmark, "protocol": protocol, "split": split, "model": identify(host), "arms": list(arms)},
        **{"shown": asdict(rule), "options_shuffled": settings["shuffle"], "max_new_tokens": tokens},
        **{"prompts": digest_prompts(asked, items), "sampling": asdict(sampling)},
    }
    check_card(out / CARD, card)
    answered = read_answers(out)
    left = [item for item in there if any((arm, item.id) not in answered for arm in chosen)]
    if left:
        answerer = HostAnswerer(host, None, rule, settings["cache"], device=device)
        truth = any(item.question.segments or item.evidence for item in items)
        choosers = {
            label: None if label == BLIND else answerer.open_chooser(arm, sampling.seed, truth)
            for label, arm in chosen.items()
        }
        for item in tqdm(left, desc=benchmark, unit="question", delay=3):  # a video is encoded once for all arms
            path = None if item.video is None else paths[item.video]
            media = None if path is None else files.make_media(path, item.fps, item.span)
            for arm in (arm for arm in chosen if (arm, item.id) not in answered):
                line = ask(answerer, choosers[arm], item, media, asked, arm, tokens, sampling)
                append_jsonl(out / ANSWERS / "0.jsonl", [line])
    answers = read_answers(out)
    facts: dict[str, Any] = {"host": str(host), "frame_rule": {"fps": rule.fps, "frames": rule.frames}}
    facts |= {"videos_missing": len(missing), "missing": missing, "questions_left_out": len(items) - len(there)}
    return write_results(out, [answers[arm, item.id] for arm in chosen for item in there], asked, card | facts)


def ask(
    answerer: HostAnswerer,
    chooser: FrameChooser | None,
    item: Item,
    media: Media,
    benchmark: Benchmark,
    arm: str,
    tokens: int,
    sampling: Sampling,
) -> Prediction:
    """One question as the benchmark asks it; without a ``chooser`` or ``media`` it is asked without a video."""
    media = None if chooser is None else media
    question = item.question
    if item.subtitles:
        question = replace(question, meta={**question.meta, "subtitles": item.subtitles})
    known = None if media is None else answerer.read(media)
    prompt = benchmark.prompt(question, [] if known is None else list(known.seconds))
    segments = () if known is None else find_places(item, known.sketched)
    needed = {known.sketched.candidates[place] for part in segments for place in part} if known is not None else None
    drawn = make_processors(sampling, [item.id])
    answer = answerer.ask(media, prompt, tokens, chooser, drawn=drawn, needed=needed)
    selection = answer.selection
    shown = replace(item.question, segments=segments)
    return Prediction(
        id=item.id,
        video=str(item.video or ""),
        arm=arm,
        question=item.question.text,
        answer=answer.answer,
        truth=item.question.answer,
        group=item.question.group,
        kept=selection.kept,
        hit=None if known is None else score_hits(selection.kept, shown),
        visual_tokens=selection.visual_tokens,
        options=item.question.options,
        meta=item.question.meta,
        seconds=tuple(round(second, 3) for second in selection.seconds),
        scores=tuple(float(f"{score:.6g}") for score in selection.own_scores),
        segments=shown.segments,
    )


def find_places(item: Item, sketched: SketchedVideo) -> tuple[tuple[int, ...], ...]:
    """The places among the frames that are looked at of each segment that a question needs, by frames or by times.

    A segment of which no frame is looked at is empty: no choice hits it.
    """
    if not item.question.segments:
        return find_needed(item, sketched)
    places = {number: place for place, number in enumerate(sketched.candidates)}
    return tuple(tuple(places[n] for n in segment if n in places) for segment in item.question.segments)
