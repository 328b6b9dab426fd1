"""Parse VideoChat2-IT: questions about a video or a segment of it, with a task instruction before them."""

from typing import Any

from dynfocus.data.annotations.media_fields import parse_media, refuse_unread_keys, strip_questions
from dynfocus.data.annotations.parse import Entry, ParseContext, require_list, require_object, require_text
from dynfocus.records.rows import Turn

NEEDS = "QA, a list of q and a; at most one of image and video; and start and end both or neither"


def parse_videochat2(value: Any, context: ParseContext) -> Entry:
    """Parse ``{"video": "1.mp4", "QA": [{"i": ..., "q": ..., "a": ...}, ...]}``, perhaps with ``start`` and ``end``.

    Departs: questions keep their order, where VideoChat2 shuffles them; and its instruction is for the Q-Former alone,
    where ours stands before the first question of a row, for the language model too, unless the source says otherwise.
    """
    row, rounds = require_object(value), context.source.rounds
    entries = [require_object(entry) for entry in require_list(row["QA"], "QA")]
    if not entries:
        raise ValueError("QA that is empty")
    medium = parse_media(row)
    for entry in entries:
        if len(entry) > 2:
            refuse_unread_keys({key: entry[key] for key in entry if key not in ("i", "q", "a")}, shows=True, read=())
    asked = strip_questions(
        [require_text(entry.get("q") or "", "q") for entry in entries], medium.kind, len(medium.frames) or 1
    )
    turns = []
    for number, (entry, words) in enumerate(zip(entries, asked, strict=True)):
        is_first = number % rounds == 0 if rounds else number == 0
        instruction = (
            require_text(entry.get("i") or "", "i").strip() if is_first and context.source.instructions else ""
        )
        turns.append(Turn(f"{instruction} {words}".strip(), require_text(entry["a"], "a")))
    name = medium.media or "text"
    return Entry(name, medium.media, medium.kind, tuple(turns), (), medium.span, None, medium.frames, medium.times)
