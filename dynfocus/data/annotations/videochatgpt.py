"""Parse VideoChatGPT-100K as published: a question and an answer about a video of ActivityNet."""

from pathlib import PurePosixPath
from typing import Any

from dynfocus.data.annotations.find_media import VIDEOS
from dynfocus.data.annotations.media_fields import parse_span, refuse_unread_keys, strip_questions
from dynfocus.data.annotations.parse import VIDEO, Entry, ParseContext, require_object, require_text, require_words
from dynfocus.records.rows import Turn

NEEDS = "q, a and video_id, all of them text; and start and end both or neither"


def parse_videochatgpt(value: Any, context: ParseContext) -> Entry:
    """Parse ``{"q": ..., "a": ..., "video_id": "v_..."}``; the video may be of any kind that `VIDEOS` names."""
    row = require_object(value)
    video = require_words(row["video_id"], "video_id")
    has_suffix = PurePosixPath(video).suffix.lower() in VIDEOS
    refuse_unread_keys(row, shows=True)
    (question,) = strip_questions([require_text(row["q"], "q")], VIDEO)
    turns = (Turn(question, require_text(row["a"], "a")),)
    return Entry(video, video if has_suffix else f"{video}.mp4", VIDEO, turns, span=parse_span(row))
