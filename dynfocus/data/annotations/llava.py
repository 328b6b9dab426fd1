"""Parse LLaVA's conversation JSON: LLaVA's own files, LLaMA-VID's merged ones, a user's own, the embedded world."""

from typing import Any

from dynfocus.data.annotations.parse import (
    Entry,
    ParseContext,
    parse_media,
    require_list,
    require_name,
    require_object,
    require_text,
    strip_questions,
)
from dynfocus.records.rows import Question, Turn

NEEDS = "id, conversations of human and gpt in turn, at most one of image and video, and start and end both or neither"


def parse_conversation(value: Any, context: ParseContext) -> Entry:
    """Parse ``{"id": "7", "video": "7.mp4", "conversations": [{"from": "human", "value": "<image>\\nwhat"}, ...]}``.

    Also read: ``image``, ``class``, ``start`` and ``end`` in seconds, and the embedded world's ``questions``. An
    answer of gpt before the first question is left out, and so is a last question without an answer. Visual slots leave
    the questions as `strip_questions` says.
    """
    row = require_object(value)
    messages = [require_object(message) for message in require_list(row["conversations"], "conversations")]
    if messages and messages[0]["from"] == "gpt":
        messages = messages[1:]
    if messages and messages[-1]["from"] == "human":
        messages = messages[:-1]
    human, gpt = messages[0::2], messages[1::2]
    if not human or [message["from"] for message in messages] != ["human", "gpt"] * len(human):
        raise ValueError("turns of human and gpt that do not alternate")
    media, kind, span = parse_media(row)
    questions = strip_questions([require_text(message["value"], "a question") for message in human], kind)
    answers = [require_text(message["value"], "an answer") for message in gpt]
    group = row.get("class")
    return Entry(
        require_name(row["id"], "id"),
        media,
        kind,
        tuple(map(Turn, questions, answers)),
        tuple(
            _parse_question(require_object(question))
            for question in require_list(row.get("questions") or [], "questions")
        ),
        span,
        None if group is None else require_text(group, "class"),
    )


def _parse_question(fields: dict) -> Question:
    events = tuple(tuple(require_list(event, "an event")) for event in require_list(fields["events"], "events"))
    return Question(**{**fields, "events": events})
