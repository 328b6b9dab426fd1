"""VideoChat2-IT: questions about a video or a stretch of it, with a task instruction before them."""

from typing import Any

from dynfocus.data.annotations.parse import Entry, Reading, listing, mapping, medium, text
from dynfocus.records.rows import Turn

NEEDS = "QA, a list of q and a; at most one of image and video; and start and end both or neither"


def videochat2(value: Any, reading: Reading) -> Entry:
    """``{"video": "1.mp4", "QA": [{"i": ..., "q": ..., "a": ...}, ...]}``, perhaps with ``start`` and ``end``.

    Departs: questions keep their order, where VideoChat2 shuffles them; and its instruction is for the Q-Former alone,
    where ours stands before the first question of a row, for the language model too, unless the source says otherwise.
    """
    row, rounds = mapping(value), reading.source.rounds
    asked = [mapping(entry) for entry in listing(row["QA"], "QA")]
    if not asked:
        raise ValueError("QA that is empty")
    shown, kind, span = medium(row)
    turns = []
    for number, entry in enumerate(asked):
        opens = number % rounds == 0 if rounds else number == 0
        instruction = text(entry.get("i") or "", "i").strip() if opens and reading.source.instructions else ""
        question = f"{instruction} {text(entry.get('q') or '', 'q').strip()}".strip()
        turns.append(Turn(question, text(entry["a"], "a")))
    return Entry(shown or "text", shown, kind, tuple(turns), span=span)
