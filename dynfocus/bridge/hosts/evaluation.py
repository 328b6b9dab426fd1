"""Ask a host the questions of a benchmark under several selectors: resumed where it stopped, judged by rules."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dynfocus.bridge.choose import FrameChooser
from dynfocus.bridge.hosts.answerer import HostAnswerer, HostRule
from dynfocus.bridge.hosts.folder import identify
from dynfocus.errors import ConfigError, DataError
from dynfocus.evals.benchmarks import find_benchmark, find_split
from dynfocus.evals.card import CARD, check_card
from dynfocus.evals.files import BenchmarkFiles
from dynfocus.evals.protocol import OWN, Benchmark, Item, digest_prompts, shuffle_options
from dynfocus.evals.summary import write_results
from dynfocus.records.jsonl import append_jsonl
from dynfocus.records.predictions import ANSWERS, Prediction, read_answers
from dynfocus.records.rows import VideoSegment


def evaluate_host(
    benchmark: str,
    root: Path,
    out: Path,
    host: Path,
    arms: Sequence[str],
    rule: HostRule,
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
        arms: names of selectors.
        rule: how frames are shown.
        settings: ``split``, ``rows``, ``allow_missing``, ``shuffle``, ``max_new_tokens`` and ``cache``.
        protocol: whose rules read and count answers.
        device: where to compute.

    Raises:
        ConfigError: if the folder holds answers that were made otherwise, or questions are about no video file.
        DataError: if videos are missing and may not be.
    """
    asked, split = find_benchmark(benchmark, protocol), find_split(benchmark, settings["split"])
    files = BenchmarkFiles(root)
    items = asked.read_items(files, split)[: settings["rows"]]
    items = [shuffle_options(item) for item in items] if settings["shuffle"] else list(items)
    paths = find_videos(items, files, settings["allow_missing"])
    there = [item for item in items if item.video in paths]
    tokens = settings["max_new_tokens"] or asked.new_tokens
    card = {
        **{"benchmark": benchmark, "protocol": protocol, "split": split, "model": identify(host), "arms": list(arms)},
        **{"shown": asdict(rule), "options_shuffled": settings["shuffle"], "max_new_tokens": tokens},
        "prompts": digest_prompts(asked, items),
    }
    check_card(out / CARD, card)
    answered = read_answers(out)
    left = [item for item in there if any((arm, item.id) not in answered for arm in arms)]
    if left:
        answerer = HostAnswerer(host, arms[0], rule, settings["cache"], device=device)
        choosers = {arm: answerer.open_chooser(arm) for arm in arms}
        for item in tqdm(left, desc=benchmark, unit="question", delay=3):  # a video is encoded once for all arms
            for arm in (arm for arm in arms if (arm, item.id) not in answered):
                append_jsonl(out / ANSWERS / "0.jsonl", [ask(answerer, choosers[arm], item, paths, asked, arm, tokens)])
    answers = read_answers(out)
    facts = {"videos_missing": len({item.video for item in items} - set(paths)), "host": str(host)}
    return write_results(out, [answers[arm, item.id] for arm in arms for item in there], asked, card | facts)


def find_videos(items: Sequence[Item], files: BenchmarkFiles, allow_missing: bool) -> dict[str | None, Path]:
    """The file of every video; raises ConfigError where a question has none, and DataError where files are missing."""
    if any(item.video is None or item.fps is not None for item in items):
        raise ConfigError("questions without a video file", "a file for each question", "Ask a trained model instead.")
    found = {item.video: files.find_video(str(item.video), item.exact) for item in items}
    missing = sorted(str(video) for video, path in found.items() if path is None)
    if missing and not allow_missing:
        raise DataError(
            f"{len(missing)} of {len(found)} videos not below {files.root}, such as {missing[0]}",
            "all videos",
            "Get them, or pass --allow-missing, which results will name.",
        )
    return {video: files.root / path for video, path in found.items() if path is not None}


def ask(
    answerer: HostAnswerer,
    chooser: FrameChooser,
    item: Item,
    paths: Mapping[str | None, Path],
    benchmark: Benchmark,
    arm: str,
    tokens: int,
) -> Prediction:
    """One question, as the benchmark asks it; whether a kept frame is among the needed ones is not counted here."""
    media: Path | VideoSegment = paths[item.video]
    if item.span is not None:
        media = VideoSegment(paths[item.video], *item.span)
    question = item.question
    if item.subtitles:
        question = replace(question, meta={**question.meta, "subtitles": item.subtitles})
    prompt = benchmark.prompt(question, list(answerer.read(media).seconds))
    answer = answerer.ask(media, prompt, tokens, chooser)
    return Prediction(
        id=item.id,
        video=str(item.video),
        arm=arm,
        question=item.question.text,
        answer=answer.answer,
        truth=item.question.answer,
        group=item.question.group,
        kept=answer.selection.kept,
        hit=None,
        visual_tokens=answer.selection.visual_tokens,
        options=item.question.options,
        meta=item.question.meta,
    )
