"""NExT-QA's own CSV files: multiple choice where there are columns ``a0`` to ``a4``, else open-ended."""

import json
from pathlib import Path
from typing import Any

from dynfocus.data.annotations.parse import LETTERS, VIDEO, Entry, Reading, mapping, number_name, options, words
from dynfocus.data.annotations.sources import Source
from dynfocus.errors import DataError
from dynfocus.records.rows import Turn

NEEDS = "video, question, answer and qid; where there are choices, all of a0 to a4, and the right one's number"
COLUMNS = ("video", "question", "answer", "qid")
CHOICES = ("a0", "a1", "a2", "a3", "a4")
FOLDERS = "map_vid_vidorID.json"


def nextqa(value: Any, reading: Reading) -> Entry:
    """A record of either kind; the video is ``<folder>/<video>.mp4`` if ``map_vid_vidorID.json`` is there."""
    row = mapping(value)
    video = number_name(row["video"], "video")
    question = words(row["question"], "question").removesuffix("?") + "?"
    answer = words(row["answer"], "answer")
    if CHOICES[0] in row:
        choices = [words(row[choice], choice) for choice in CHOICES]
        right = int(answer)
        if not 0 <= right < len(choices):
            raise ValueError(f"answer {right}, which is none of the {len(choices)} choices")
        question, answer = f"{question}\nOptions: {options(choices)}", f"({LETTERS[right]}) {choices[right]}"
    media = f"{reading.beside.get(video, video)}.mp4"
    return Entry(f"{video}_{words(row['qid'], 'qid')}", media, VIDEO, (Turn(question, answer),))


def folders(source: Source, path: Path) -> dict[str, str]:
    """Each video's place, from the file at ``path`` if it is there; raises DataError if it is no such map."""
    if not path.exists():
        return {}
    try:
        places = mapping(json.loads(path.read_text(encoding="utf-8-sig")))
        return {video: words(place, f"the place of {video}") for video, place in places.items()}
    except (OSError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}, which is no map of videos ({error})", "an object of text for each video", "Get it again."
        ) from error
