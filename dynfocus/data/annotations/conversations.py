"""LLaVA conversation JSON: LLaVA's own files, LLaMA-VID's merged ones, a user's own, and the embedded world."""

from typing import Any

from dynfocus.data.annotations.parse import Entry, Reading, listing, mapping, medium, name, text
from dynfocus.records.rows import Question, Turn

SLOTS = ("<image>", "<video>")
NEEDS = "id, conversations of human and gpt in turn, at most one of image and video, and start and end both or neither"


def conversation(value: Any, reading: Reading) -> Entry:
    """``{"id": "7", "video": "7.mp4", "conversations": [{"from": "human", "value": "<image>\\nwhat"}, ...]}``.

    Also read: ``image``, ``class``, ``start`` and ``end`` in seconds, and the embedded world's ``questions``. What gpt
    says before anything was asked is left out, and so is a last question that nobody answered. The visual slot leaves
    the first question, as a row shows at most one picture; anywhere else it is a person's own text.
    """
    row = mapping(value)
    messages = [mapping(message) for message in listing(row["conversations"], "conversations")]
    if messages and messages[0]["from"] == "gpt":
        messages = messages[1:]
    if messages and messages[-1]["from"] == "human":
        messages = messages[:-1]
    asked, said = messages[0::2], messages[1::2]
    if not asked or [message["from"] for message in messages] != ["human", "gpt"] * len(asked):
        raise ValueError("turns of human and gpt that do not alternate")
    shown, kind, span = medium(row)
    questions = [text(message["value"], "a question").strip() for message in asked]
    if shown is not None:
        questions[0] = without_slot(questions[0])
    answers = [text(message["value"], "an answer") for message in said]
    group = row.get("class")
    return Entry(
        name(row["id"], "id"),
        shown,
        kind,
        tuple(map(Turn, questions, answers)),
        tuple(_question(mapping(question)) for question in listing(row.get("questions") or [], "questions")),
        span,
        None if group is None else text(group, "class"),
    )


def without_slot(question: str) -> str:
    """The words of a first question, without the slots at its start, or those at its end if there are none."""
    words = question
    while slot := next(filter(words.startswith, SLOTS), None):
        words = words.removeprefix(slot).lstrip()
    while words and not question.startswith(SLOTS) and (slot := next(filter(words.endswith, SLOTS), None)):
        words = words.removesuffix(slot).rstrip()
    return words.strip()


def _question(given: dict) -> Question:
    events = tuple(tuple(listing(event, "an event")) for event in listing(given["events"], "events"))
    return Question(**{**given, "events": events})
