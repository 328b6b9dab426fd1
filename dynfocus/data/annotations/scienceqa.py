"""Parse ScienceQA as published: problems by number, and a file that lists which of them are for training."""

import json
from pathlib import Path
from typing import Any

from dynfocus.data.annotations.parse import (
    IMAGE,
    LETTERS,
    TEXT,
    Entry,
    ParseContext,
    format_options,
    require_list,
    require_object,
    require_text,
    require_words,
)
from dynfocus.data.annotations.sources import Source
from dynfocus.errors import DataError
from dynfocus.records.rows import Turn

NEEDS = "question, choices, the number of the right one as answer, hint, image, lecture, solution and split"
SPLITS = "pid_splits.json"


def parse_scienceqa(value: Any, context: ParseContext) -> Entry | None:
    """Parse ``{"12": {"question": ..., "choices": [...], "answer": 0, ...}}``; None if it is of another split.

    The image is ``<split>/<number>/<image>``. With ``lectures`` the lecture and the solution stand before the answer.
    Departs: newlines stay newlines, where LLaVA's converter writes a backslash and an n.
    """
    ((pid, fields),) = require_object(value).items()
    if pid not in context.companion:
        return None
    problem = require_object(fields)
    choices = [require_text(choice, "a choice") for choice in require_list(problem["choices"], "choices")]
    choices_text, right = format_options(choices), problem["answer"]
    if isinstance(right, bool) or not isinstance(right, int) or not 0 <= right < len(choices):
        raise ValueError(f"answer {right!r}, which is none of the {len(choices)} choices")
    hint = require_text(problem.get("hint") or "", "hint").strip() or "N/A"
    question = f"{require_words(problem['question'], 'question')}\nContext: {hint}\nOptions: {choices_text}"
    explanation = [require_text(problem.get(part) or "", part).strip() for part in ("lecture", "solution")]
    answer = " ".join(
        [*filter(None, explanation if context.source.lectures else ()), f"The answer is {LETTERS[right]}."]
    )
    image = (
        problem.get("image")
        and f"{require_words(problem['split'], 'split')}/{pid}/{require_text(problem['image'], 'image')}"
    )
    return Entry(pid, image or None, IMAGE if image else TEXT, (Turn(question, answer),))


def read_split_numbers(source: Source, path: Path) -> frozenset[str]:
    """Read the numbers of the problems of the source's split from the file at ``path``; raises DataError."""
    try:
        splits = json.loads(path.read_text(encoding="utf-8-sig"))
        return frozenset(splits[source.split])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}, which does not name the split {source.split!r} ({type(error).__name__}: {error})",
            f"{SPLITS} beside problems.json, with the numbers of each split's problems",
            "Get it from where the problems are from, or name another split.",
        ) from error
