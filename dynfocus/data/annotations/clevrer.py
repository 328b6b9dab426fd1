"""Parse CLEVRER's own files of questions: all questions about a video are one element."""

from typing import Any

from dynfocus.data.annotations.media_fields import refuse_unread_keys
from dynfocus.data.annotations.parse import (
    LETTERS,
    VIDEO,
    Entry,
    ParseContext,
    format_options,
    require_list,
    require_name,
    require_object,
    require_text,
    require_words,
)
from dynfocus.records.rows import Turn

NEEDS = "video_filename, and questions with an answer, or with choices whose answer is correct or wrong"


def parse_clevrer(value: Any, context: ParseContext) -> Entry:
    """Parse ``{"scene_index": 7, "video_filename": "video_00007.mp4", "questions": [...]}``, a turn for each question.

    The answer of a question with choices is all that are correct, in our own words where none is.
    """
    row = require_object(value)
    refuse_unread_keys(row, shows=True, read=())
    video = require_words(row["video_filename"], "video_filename")
    asked = [require_object(question) for question in require_list(row["questions"], "questions")]
    if not asked:
        raise ValueError("questions that are empty")
    name = require_name(row.get("scene_index", video), "scene_index")
    return Entry(name, video, VIDEO, tuple(map(_parse_question, asked)))


def _parse_question(fields: dict) -> Turn:
    question = require_words(fields["question"], "question")
    if "choices" not in fields:
        return Turn(question, require_text(fields["answer"], "answer"))
    choices = [require_object(choice) for choice in require_list(fields["choices"], "choices")]
    texts = [require_words(choice["choice"], "choice") for choice in choices]
    if unknown := {str(choice["answer"]) for choice in choices} - {"correct", "wrong"}:
        raise ValueError(f"a choice that is {unknown.pop()!r}, neither correct nor wrong")
    options = format_options(texts)
    right = [
        f"({letter}) {text}"
        for letter, text, choice in zip(LETTERS, texts, choices, strict=False)
        if choice["answer"] == "correct"
    ]
    return Turn(f"{question}\nOptions: {options}", " ".join(right) or "None of them.")
