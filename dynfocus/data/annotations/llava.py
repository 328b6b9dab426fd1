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
)
from dynfocus.records.rows import Question, Turn

SLOTS = ("<image>", "<video>")
NEEDS = "id, conversations of human and gpt in turn, at most one of image and video, and start and end both or neither"


def parse_conversation(value: Any, context: ParseContext) -> Entry:
    """Parse ``{"id": "7", "video": "7.mp4", "conversations": [{"from": "human", "value": "<image>\\nwhat"}, ...]}``.

    Also read: ``image``, ``class``, ``start`` and ``end`` in seconds, and the embedded world's ``questions``. An
    answer of gpt before the first question is left out, and so is a last question without an answer. The visual slot is
    taken off the first question, as a row shows at most one picture; anywhere else it is a person's own text.
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
    questions = [require_text(message["value"], "a question").strip() for message in human]
    if media is not None:
        questions[0] = strip_slots(questions[0])
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


def strip_slots(question: str) -> str:
    """Return a first question without the slots at its start, or without those at its end if it starts with none."""
    words = question
    while slot := next(filter(words.startswith, SLOTS), None):
        words = words.removeprefix(slot).lstrip()
    while words and not question.startswith(SLOTS) and (slot := next(filter(words.endswith, SLOTS), None)):
        words = words.removesuffix(slot).rstrip()
    return words.strip()


def _parse_question(fields: dict) -> Question:
    events = tuple(tuple(require_list(event, "an event")) for event in require_list(fields["events"], "events"))
    return Question(**{**fields, "events": events})
