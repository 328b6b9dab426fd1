"""Parse one question and its answer a row, as ms-swift and LLaMA-Factory write them, or a caption alone."""

from typing import Any
from zlib import crc32

from dynfocus.data.annotations.media_fields import parse_media, strip_questions
from dynfocus.data.annotations.parse import (
    Entry,
    ParseContext,
    format_options,
    parse_id,
    require_list,
    require_object,
    require_text,
)
from dynfocus.data.annotations.webvid import REQUESTS
from dynfocus.records.rows import Turn

QUESTION_KEYS = ("query", "instruction", "question", "prompt")
OPTION_KEYS = ("options", "choices", "candidates")
ANSWER_KEYS = ("response", "output", "answer", "caption")
NEEDS = (
    f"a question under one of {', '.join(QUESTION_KEYS)} and its answer under one of {', '.join(ANSWER_KEYS)}, or a "
    "caption alone; one video, or images, or neither"
)


def parse_query_response(value: Any, context: ParseContext) -> Entry:
    """Parse ``{"query": "<video>what", "response": "that", "videos": ["7.mp4"]}``.

    Also read: ``input``, which follows an ``instruction``; a list of ``options``, which follow the question; earlier
    turns as pairs in ``history``; ``system``; ``id``. A caption without a question answers one of the requests of
    `parse_webvid`. Media are read as `parse_media` says.
    """
    row = {key: one for key, one in require_object(value).items() if one != ""}  # as a table's empty cells are
    medium = parse_media(row)
    answer = next((row[key] for key in ANSWER_KEYS if row.get(key) is not None), None)
    if answer is None:
        raise ValueError(f"an answer under none of {', '.join(ANSWER_KEYS)}")
    question = next((row[key] for key in QUESTION_KEYS if row.get(key) is not None), None)
    if question is None and row.get("caption") is not None and medium.media is not None:
        question = REQUESTS[crc32(medium.media.encode()) % len(REQUESTS)]
    elif question is None:
        raise ValueError(f"a question under none of {', '.join(QUESTION_KEYS)}")
    parts = [require_text(question, "a question"), require_text(row.get("input") or "", "input")]
    for key in OPTION_KEYS:
        if isinstance(row.get(key), list | tuple):
            parts.append(format_options([require_text(option, "an option") for option in row[key]]))
    asked = "\n".join(filter(None, parts))
    pairs = [require_list(pair, "a turn of history") for pair in require_list(row.get("history") or [], "history")]
    pairs.append([asked, answer])
    questions = strip_questions(
        [require_text(first, "a question") for first, *_ in pairs], medium.kind, len(medium.frames) or 1
    )
    answers = [require_text(last, "an answer") for *_, last in pairs]
    turns, system = tuple(map(Turn, questions, answers)), row.get("system") or None
    return Entry(
        parse_id(row),
        medium.media,
        medium.kind,
        turns,
        span=medium.span,
        frames=medium.frames,
        times=medium.times,
        system=None if system is None else require_text(system, "system"),
    )
