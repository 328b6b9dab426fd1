"""Check what `dynfocus ask` is asked, and write its answers in words, as a page, for scripts (no torch)."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from dynfocus.budget import LLAMA_VID, PATCHES, every_patch
from dynfocus.errors import ConfigError, DiskError, MissingFileError, PromptError
from dynfocus.inspection.answer import CUT, Answer, list_others, name_unknown
from dynfocus.inspection.compare import Comparison
from dynfocus.inspection.content import Inspection, PageFacts
from dynfocus.records.atomic import atomic_write
from dynfocus.records.selections import Selection

SOON = 5e-3  # seconds; a video that was read in less was known already
PAGES = (".html", ".htm")


def check(video: Path, questions: Sequence[str], report: Path | None, compare: bool, new_tokens: int) -> None:
    """Refuse, before anything is loaded, what could not be done afterwards.

    Raises:
        MissingFileError: if there is no such video.
        PromptError: if a question is empty, or no text.
        ConfigError: if there is nothing to compare, no room for an answer, or the report's name is not a page's.
        DiskError: if the report cannot be written where it is to lie.
    """
    if not os.path.isfile(video):
        problem = f"{video}, which is a folder" if os.path.isdir(video) else f"there is no file {video}"
        do = "Check the path; what lies behind a web address has to be fetched first."
        raise MissingFileError(problem, "a video or image file on this machine", do)
    for number, question in enumerate(questions, 1):
        if not question.strip() or question.encode("utf-8", "ignore").decode() != question:
            raise PromptError(f"question {number}, {question!r}", "some words, in UTF-8", "Ask something.")
    if new_tokens < 1:
        raise ConfigError(f"--max-new-tokens {new_tokens}", "at least 1", "Raise it.")
    if compare and len(questions) < 2:
        raise ConfigError(
            "--compare with one question", "two at least, to compare what is kept", "Ask another one too."
        )
    if report is not None:
        _check_place(report)


def _check_place(report: Path) -> None:
    if report.suffix.lower() not in PAGES:
        raise ConfigError(f"--report {report}", "a name that ends in .html, such as page.html", "Rename it.")
    if not os.path.isdir(report.parent):
        raise DiskError(f"--report {report}, whose folder does not exist", "a folder", f"Make {report.parent} first.")
    if os.path.isdir(report):
        raise DiskError(f"--report {report}, which is a folder", "a file to write", "Choose another name.")
    try:
        with NamedTemporaryFile(dir=report.parent, prefix=f".{report.name}."):
            pass
    except OSError as error:
        raise DiskError(
            f"--report {report}, which cannot be written ({error.strerror})", "a writable folder", "Choose another."
        ) from error


def lines(answer: Answer, alone: bool = True) -> Iterator[str]:
    """An answer in words; the question too, where it is not ``alone``."""
    selection, timing = answer.selection, answer.timing
    frames = len(selection.seconds)
    kept, kinds = f"all {frames} alike", "averaged patches"
    if selection.kept:
        kept = f"{len(selection.kept)} of {frames}, at {format_times(selection, selection.kept)}"
        kinds = f"{selection.cones} cones, {selection.rods} rods"
    if not alone:
        yield f"question:      {answer.question}"
    yield f"answer:        {answer.answer or '(empty)'}" + (f" ... (cut off: {CUT['cut off']})" if answer.cut else "")
    for name, words in name_unknown(answer).items():
        yield f"{name}: {words}"
    yield f"kept frames:   {kept}"
    every = f"{every_patch(frames)} at the paper's {PATCHES} per frame"
    others = "".join(f"; {tokens} by {name}" for name, tokens in list_others([answer]).items())
    yield f"visual tokens: {selection.visual_tokens} ({kinds}; {others.removeprefix('; ') or every})"
    rate = frames / max(timing.reading, SOON)
    reading = f"{timing.reading:.2f} s to read and encode the video ({rate:.3g} frames a second), "
    yield f"time:          {reading * (timing.reading >= SOON)}{timing.answering:.2f} s to answer"


def compare_lines(comparison: Comparison, answers: Sequence[Answer]) -> Iterator[str]:
    """A comparison of the kept frames in words."""
    selection = answers[0].selection
    change = "the kept frames change" if comparison.changes else "no kept frame changes"
    yield f"comparison:    {change} with the question. {comparison.why}"
    if comparison.changes:
        yield f"  for every question: {format_times(selection, comparison.every)}"
        for answer, some in zip(answers, comparison.some, strict=True):
            yield f"  also for {answer.question!r}: {format_times(selection, some)}"


def format_times(selection: Selection, frames: Sequence[int]) -> str:
    """The time stamps of some frames."""
    return ", ".join(f"{round(selection.seconds[frame], 2):.10g} s" for frame in frames) or "none"


def write_report(path: Path, inspections: Sequence[Inspection], facts: PageFacts) -> None:
    """Write the page of these inspections, whole or not at all; raises DiskError."""
    from dynfocus.inspection.page import render_page  # loads matplotlib, which an answer in words does not need

    text = render_page(inspections, facts)
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")


def numbers(answers: Sequence[Answer], facts: PageFacts, comparison: Comparison | None) -> dict[str, Any]:
    """Answers for scripts: what `dynfocus ask --json` prints.

    Returns:
        ``video``, ``model``, ``frames``, ``seconds`` (a time stamp for each frame), ``tokens`` (what the video costs
        here and elsewhere, by method), ``answers``, ``compare`` (None if not asked for; ``swap`` is its earlier name),
        ``settings`` and ``versions``. Each of the answers has the fields of `Answer`, its selection those of
        `Selection` but for the time stamps, with ``visual_tokens``. A number that is not finite is None.
    """
    selection, compared = answers[0].selection, None if comparison is None else asdict(comparison)
    frames = len(selection.seconds)
    replies = [asdict(answer) for answer in answers]
    for reply, answer in zip(replies, answers, strict=True):
        del reply["selection"]["seconds"]
        reply["selection"]["visual_tokens"] = answer.selection.visual_tokens
    return finite(
        {
            "video": facts.video,
            "model": facts.model,
            "frames": frames,
            "seconds": selection.seconds,
            "tokens": {
                "DynFocus": selection.visual_tokens,
                "every patch": every_patch(frames),
                LLAMA_VID.name: LLAMA_VID.tokens(frames),
                **facts.others,
            },
            "answers": replies,
            "compare": compared,
            "swap": compared,  # its name of before, for one release
            "settings": facts.settings,
            "versions": facts.versions,
        }
    )


def finite(value: Any) -> Any:
    """The same lists, dicts, texts and numbers, with None for every number that JSON cannot hold."""
    if isinstance(value, Mapping):
        return {name: finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not isfinite(value) else value
