"""LLaVA conversation JSON -> rows: the format of LLaVA-665K, and of the embedded world."""

import json
from pathlib import Path
from typing import Any

from dynfocus.errors import DataError
from dynfocus.records import Question, Row, Turn

SLOTS = ("<image>", "<video>")


def read_conversations(path: Path) -> list[Row]:
    """Read a JSON list of conversations; the visual slot leaves the text, as a row shows at most one picture.

    Example row: ``{"id": "7", "video": "videos/7.mp4", "conversations": [{"from": "human", "value":
    "<image>\\nwhat color is the star"}, {"from": "gpt", "value": "star red"}]}``.

    Raises:
        DataError: if the file is absent or no such list, or a row does not fit; it names the row.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"no annotation file at {path}", "a JSON list of conversations", "Check the data root.")
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(
            f"{path}, which is no JSON ({error})", "a JSON list of conversations", "Get it again."
        ) from error
    if not isinstance(rows, list):
        raise DataError(f"{path}, a JSON {type(rows).__name__}", "a JSON list of conversations", "Check the file.")
    return [read_row(row, index, path) for index, row in enumerate(rows)]


def read_row(row: Any, index: int, path: Path) -> Row:
    """One row of the format, whatever the JSON holds there; raises DataError."""
    try:
        messages = row["conversations"]
        if messages and messages[0]["from"] != "human":
            messages = messages[1:]
        asked, said = messages[0::2], messages[1::2]
        speakers = [message["from"] for message in messages]
        if not asked or speakers != ["human", "gpt"] * len(asked):
            raise ValueError("turns of human and gpt that do not alternate")
        if any(not isinstance(message["value"], str) for message in messages):
            raise TypeError("a turn whose value is no text")
        shown = [row[kind] for kind in ("image", "video") if row.get(kind)]
        if len(shown) > 1 or any(not isinstance(name, str) for name in shown):
            raise ValueError(f"more than one picture: {shown}")
        turns = tuple(Turn(_text(q["value"]), a["value"]) for q, a in zip(asked, said, strict=True))
        questions = tuple(
            Question(**{**q, "events": tuple(tuple(event) for event in q["events"])}) for q in row.get("questions", ())
        )
        return Row(str(row["id"]), index, shown[0] if shown else None, turns, questions)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"row {index} of {path} ({type(error).__name__}: {error})",
            "id, conversations of human and gpt in turn, and at most one of image and video",
            "Mend or delete the row.",
        ) from error


def _text(value: str) -> str:
    """The words of a human turn, without the slot at its start or end; a slot elsewhere is a person's own text."""
    value = value.strip()
    for slot in SLOTS:
        value = value.removeprefix(slot).removesuffix(slot)
    return value.strip()
