"""Parse conversations: LLaVA's own files and LLaMA-VID's, a user's own, LLaMA-Factory's, ms-swift's and Qwen's."""

from typing import Any

from dynfocus.data.annotations.media_fields import TARGET_KEYS, parse_media, refuse_unread_keys, strip_questions
from dynfocus.data.annotations.parse import (
    Entry,
    ParseContext,
    parse_id,
    require_list,
    require_object,
    require_text,
)
from dynfocus.records.rows import Question, Turn

ROLES = {"human": "human", "user": "human", "gpt": "gpt", "assistant": "gpt", "system": "system"}
MESSAGE_KEYS = {"from", "value", "role", "content"}
PART_KEYS = {"image": "images", "image_url": "images", "video": "videos"}
NEEDS = (
    "conversations of human and gpt in turn, or messages of user and assistant; one video, or images, or neither; "
    "and start and end both or neither"
)


def parse_conversation(value: Any, context: ParseContext) -> Entry:
    """Parse ``{"id": "7", "video": "7.mp4", "conversations": [{"from": "human", "value": "<image>\\nwhat"}, ...]}``.

    Or ``{"messages": [{"role": "user", "content": "<video>what"}, ...], "videos": ["7.mp4"]}``, where a content may be
    a list of parts, such as ``{"type": "video", "video": "7.mp4", "video_start": 2, "video_end": 4}``. Media and times
    are read as `parse_media` says. Also read: ``system`` or a first turn of it, ``class``, and the embedded world's
    ``questions``. An answer before the first question is left out, and so is a last question without an answer. Visual
    slots leave the questions as `strip_questions` says.
    """
    row = require_object(value)
    listed = row["messages"] if "messages" in row and "conversations" not in row else row["conversations"]
    shown: dict[str, Any] = {}
    messages = [_read_message(require_object(message), shown) for message in require_list(listed, "conversations")]
    system = messages.pop(0)[1] if messages and messages[0][0] == "system" else row.get("system") or None
    if messages and messages[0][0] == "gpt":
        messages = messages[1:]
    if messages and messages[-1][0] == "human":
        messages = messages[:-1]
    human, gpt = messages[0::2], messages[1::2]
    if not human or [role for role, _ in messages] != ["human", "gpt"] * len(human):
        raise ValueError("turns of human and gpt that do not alternate")
    medium = parse_media(row | shown)
    questions = strip_questions([text for _, text in human], medium.kind, len(medium.frames) or 1)
    group = row.get("class")
    return Entry(
        parse_id(row),
        medium.media,
        medium.kind,
        tuple(map(Turn, questions, [text for _, text in gpt])),
        tuple(
            _parse_question(require_object(question))
            for question in require_list(row.get("questions") or [], "questions")
        ),
        medium.span,
        None if group is None else require_text(group, "class"),
        medium.frames,
        medium.times,
        None if system is None else require_text(system, "system"),
    )


def _read_message(message: dict, shown: dict[str, Any]) -> tuple[str, str]:
    """Return who speaks and what, with a slot for each medium among its parts, which goes into ``shown``."""
    speaker = message["from"] if "from" in message else message["role"]
    if (role := ROLES.get(speaker)) is None:
        raise ValueError(f"a turn of {speaker!r}, who is none of {', '.join(ROLES)}")
    if len(message) > 2:
        known = MESSAGE_KEYS if role == "gpt" else MESSAGE_KEYS | TARGET_KEYS  # a question is no target anyway
        refuse_unread_keys({key: message[key] for key in message.keys() - known}, shows=False, read=())
    content = message["value"] if "value" in message else message["content"]
    if isinstance(content, list):
        content = "\n".join(_read_part(require_object(part), shown) for part in content)
    return role, require_text(content, "a turn")


def _read_part(part: dict, shown: dict[str, Any]) -> str:
    kind = part["type"]
    if kind == "text":
        return require_text(part["text"], "a part")
    if kind not in PART_KEYS:
        raise ValueError(f"a part of type {kind!r}, which cannot be shown")
    shown.setdefault(PART_KEYS[kind], []).append(part[kind])
    shown |= {key: value for key, value in part.items() if key not in ("type", kind)}
    return "<video>" if kind == "video" else "<image>"


def _parse_question(fields: dict) -> Question:
    if "word" in fields:  # the form of older worlds
        meta = {"key": fields["key"], "word": fields["word"]}
        named = {"text": fields["text"], "answer": fields["answer"], "group": fields["type"], "meta": meta}
        fields = {**named, "segments": fields["events"]}
    lists = {name: require_list(fields.get(name, []), name) for name in ("options", "segments")}
    segments = tuple(tuple(require_list(segment, "a segment")) for segment in lists["segments"])
    return Question(**{**fields, "options": tuple(lists["options"]), "segments": segments})
