"""Parse WebVid's CSV, a caption and the place of its video, into rows that ask for a description."""

from typing import Any
from zlib import crc32

from dynfocus.data.annotations.media_fields import refuse_unread_keys
from dynfocus.data.annotations.parse import (
    VIDEO,
    Entry,
    ParseContext,
    require_number_name,
    require_object,
    require_words,
)
from dynfocus.records.rows import Turn

NEEDS = "videoid, page_dir and a caption under name"
COLUMNS = ("videoid", "page_dir", "name")
REQUESTS = (
    "Say in one sentence what happens in this video.",
    "What does this video show?",
    "Describe the video in a few words.",
    "Write a caption for this clip.",
    "Tell briefly what can be seen in the clip.",
    "Sum up the video in one line.",
    "Which title would fit this footage?",
    "Give the gist of this video.",
    "What is this footage about?",
    "State in short what is going on here.",
)


def parse_webvid(value: Any, context: ParseContext) -> Entry:
    """Parse a record with ``videoid``, ``page_dir`` and ``name``; the video is ``<page_dir>/<videoid>.mp4``.

    The request is one of `REQUESTS`, chosen by the video's name: parts in another order ask the same.
    Departs: requests of our own wording, not LLaMA-VID's.
    """
    row = require_object(value)
    refuse_unread_keys(row, shows=True, read=())
    video, page = require_number_name(row["videoid"], "videoid"), require_number_name(row["page_dir"], "page_dir")
    request = REQUESTS[crc32(video.encode()) % len(REQUESTS)]
    return Entry(video, f"{page}/{video}.mp4", VIDEO, (Turn(request, require_words(row["name"], "name")),))
