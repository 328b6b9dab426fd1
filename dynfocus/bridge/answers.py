"""Answer many questions: each video is encoded once, a stopped run goes on, a question that fails stops no other."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from dynfocus.bridge.hosts.answerer import HostAnswerer
from dynfocus.bridge.rows import Asked
from dynfocus.errors import ConfigError, DataError, FeatureError, PromptError, VideoError
from dynfocus.evals.card import check_card
from dynfocus.inspection.answer import Answer
from dynfocus.inspection.answerer import Answerer
from dynfocus.progress import Progress
from dynfocus.records.jsonl import append_jsonl, read_appended, write_jsonl
from dynfocus.records.rows import Row, Turn

OWN = (VideoError, PromptError, DataError, FeatureError)  # mistakes of one question


@dataclass(frozen=True)
class Answered:
    """One answered question: a line of answers.jsonl.

    Attributes:
        id, video, question, start, end: as they were asked.
        answer: the text.
        cut: whether it ends only because it may not be longer.
        kept_seconds: the times of the frames that were kept, since the video's first frame.
        frames: how many frames were looked at.
        visual_tokens: what they cost.
    """

    id: str
    video: str
    question: str
    answer: str
    cut: bool
    kept_seconds: tuple[float, ...]
    frames: int
    visual_tokens: int
    start: float | None = None
    end: float | None = None


@dataclass
class AnswerReport:
    """What a run over many questions did.

    Attributes:
        there: questions that an earlier run had answered.
        done: questions that this one answered.
        faults: of each question without an answer, by its id, why.
    """

    there: int = 0
    done: int = 0
    faults: dict[str, str] = field(default_factory=dict)


def answer_many(
    questions: Sequence[Asked], answerer: Answerer | HostAnswerer, out: Path, max_new_tokens: int, batch_size: int
) -> AnswerReport:
    """Answer questions, and append a line for each to ``out``; in the end its lines stand in the questions' order.

    What an earlier run has written there is kept, and not asked again. Questions about the same part of the same video
    are asked one after the other, so that it is encoded once.

    Raises:
        ConfigError: if ``out`` holds another question under the same id.
    """
    there = {one.id: one for one in read_appended(out, Answered)} if out.exists() else {}
    for asked in questions:
        _check_same(out, asked, there.get(asked.id))
    by_media: dict[Any, list[Asked]] = {}
    for asked in questions:
        by_media.setdefault(asked.media, []).append(asked)
    left = iter([asked for group in by_media.values() for asked in group if asked.id not in there])
    report = AnswerReport(there=sum(asked.id in there for asked in questions))
    unread: dict[Any, str] = {}
    with Progress(len(questions) - report.there, "answering", "question") as progress:
        while batch := list(islice(left, batch_size)):
            answered = list(_answer_batch(batch, answerer, max_new_tokens, report.faults, unread))
            append_jsonl(out, answered)
            there |= {one.id: one for one in answered}
            report.done += len(answered)
            progress.update(len(batch), f"{len(report.faults)} left out" if report.faults else "")
    order = dict.fromkeys([*(asked.id for asked in questions if asked.id in there), *there])
    if list(there) != list(order):
        write_jsonl(out, (there[name] for name in order))
    return report


def check_card_of(out: Path, made_with: Mapping[str, Any]) -> None:
    """Write beside the answers in ``out`` what makes them; raises ConfigError if they were made with something else.

    Where something is computed is not a part of it.
    """
    card = out.with_suffix(".card.json")
    if not out.exists():
        card.unlink(missing_ok=True)
    check_card(card, json.loads(json.dumps({key: value for key, value in made_with.items() if key != "device"})), out)


def _check_same(out: Path, asked: Asked, line: Answered | None) -> None:
    if line is None:
        return
    for name in ("video", "question", "start", "end"):
        before, now = getattr(line, name), getattr(asked, name)
        if before != now:
            raise ConfigError(
                f"{out}, whose line of {asked.id!r} has the {name} {before!r}, not {now!r}",
                "answers to the same questions under the same ids",
                "Name another file, or remove this one.",
            )


def _answer_batch(
    batch: Sequence[Asked],
    answerer: Answerer | HostAnswerer,
    max_new_tokens: int,
    faults: dict[str, str],
    unread: dict[Any, str],
) -> Iterator[Answered]:
    """Answer what can be answered of a batch; what cannot is added to ``faults``, its video to ``unread``."""
    readable = []
    for asked in batch:
        if not (asked.question or "").strip():
            faults[asked.id] = "it has no question"
            continue
        try:
            if asked.media not in unread:
                answerer.read(asked.media)
        except (VideoError, FeatureError) as error:
            unread[asked.media] = error.given
        if asked.media in unread:
            faults[asked.id] = unread[asked.media]
        else:
            readable.append(asked)
    if not readable:
        return
    try:
        yield from _ask(readable, answerer, max_new_tokens)
    except OWN:  # which one of them it is, each alone shows
        for asked in readable:
            try:
                yield from _ask([asked], answerer, max_new_tokens)
            except OWN as error:
                faults[asked.id] = error.given


def _ask(group: Sequence[Asked], answerer: Answerer | HostAnswerer, max_new_tokens: int) -> Iterable[Answered]:
    rows = [(Row("", 0, str(asked.path), (Turn(str(asked.question), None),)), asked.media) for asked in group]
    return [_record(*pair) for pair in zip(group, answerer.answer_batch(rows, max_new_tokens), strict=True)]


def _record(asked: Asked, answer: Answer) -> Answered:
    seconds, kept = answer.selection.seconds, answer.selection.kept
    times = tuple(round(seconds[place], 3) for place in kept)
    shown = (times, len(seconds), answer.selection.visual_tokens)
    return Answered(asked.id, asked.video, answer.question, answer.answer, answer.cut, *shown, asked.start, asked.end)
