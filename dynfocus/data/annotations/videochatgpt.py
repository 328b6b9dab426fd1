"""VideoChatGPT-100K as published: a question and an answer about a video of ActivityNet."""

from pathlib import PurePosixPath
from typing import Any

from dynfocus.data.annotations.conversations import without_slot
from dynfocus.data.annotations.media import VIDEOS
from dynfocus.data.annotations.parse import VIDEO, Entry, Reading, mapping, text, words
from dynfocus.records.rows import Turn

NEEDS = "q, a and video_id, all of them text"


def videochatgpt(value: Any, reading: Reading) -> Entry:
    """``{"q": ..., "a": ..., "video_id": "v_..."}``; the video may be of any kind that `VIDEOS` names."""
    row = mapping(value)
    video = words(row["video_id"], "video_id")
    known = PurePosixPath(video).suffix.lower() in VIDEOS
    turn = Turn(without_slot(text(row["q"], "q").strip()), text(row["a"], "a"))
    return Entry(video, video if known else f"{video}.mp4", VIDEO, (turn,))
