"""Parse NExT-QA's own CSV files: multiple choice where there are columns ``a0`` to ``a4``, else open-ended."""

import json
from pathlib import Path
from typing import Any

from dynfocus.data.annotations.media_fields import refuse_unread_keys
from dynfocus.data.annotations.parse import (
    LETTERS,
    VIDEO,
    Entry,
    ParseContext,
    format_options,
    require_number_name,
    require_object,
    require_words,
)
from dynfocus.data.annotations.sources import Source
from dynfocus.errors import DataError
from dynfocus.records.rows import Turn

NEEDS = "video, question, answer and qid; where there are choices, all of a0 to a4, and the right one's number"
COLUMNS = ("video", "question", "answer", "qid")
CHOICES = ("a0", "a1", "a2", "a3", "a4")
FOLDERS = "map_vid_vidorID.json"


def parse_nextqa(value: Any, context: ParseContext) -> Entry:
    """Parse a record of either kind; the video is ``<folder>/<video>.mp4`` if ``map_vid_vidorID.json`` is there."""
    row = require_object(value)
    refuse_unread_keys(row, shows=True, read=())
    video = require_number_name(row["video"], "video")
    question = require_words(row["question"], "question").removesuffix("?") + "?"
    answer = require_words(row["answer"], "answer")
    if CHOICES[0] in row:
        choices = [require_words(row[choice], choice) for choice in CHOICES]
        right = int(answer)
        if not 0 <= right < len(choices):
            raise ValueError(f"answer {right}, which is none of the {len(choices)} choices")
        question, answer = f"{question}\nOptions: {format_options(choices)}", f"({LETTERS[right]}) {choices[right]}"
    media = f"{context.companion.get(video, video)}.mp4"
    return Entry(f"{video}_{require_words(row['qid'], 'qid')}", media, VIDEO, (Turn(question, answer),))


def read_video_folders(source: Source, path: Path) -> dict[str, str]:
    """Read each video's folder from ``path``, none if it is absent; raises DataError if it is no such map."""
    if not path.exists():
        return {}
    try:
        places = require_object(json.loads(path.read_text(encoding="utf-8-sig")))
        return {video: require_words(place, f"the place of {video}") for video, place in places.items()}
    except (OSError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}, which is no map of videos ({error})", "an object of text for each video", "Get it again."
        ) from error
