"""Parse ShareGPT4Video's captions: of a video as a whole, beside those of its key frames."""

from typing import Any
from zlib import crc32

from dynfocus.data.annotations.media_fields import refuse_unread_keys
from dynfocus.data.annotations.parse import (
    VIDEO,
    Entry,
    ParseContext,
    require_list,
    require_name,
    require_object,
    require_text,
    require_words,
)
from dynfocus.records.rows import Turn

NEEDS = "video_path, and captions of which one has the idx -1: that of the whole video"
WHOLE = "-1"  # idx of the caption of the whole video
REQUESTS = (
    "Describe this video in detail, from its beginning to its end.",
    "What happens in this video? Tell it step by step.",
    "Give a full account of what can be seen in this video.",
    "Describe the scene, who acts in it, and how it changes.",
)


def parse_sharegpt4video(value: Any, context: ParseContext) -> Entry:
    """Parse ``{"video_id": ..., "video_path": ..., "captions": [{"idx": "-1", "content": ...}, ...]}``.

    The request is one of `REQUESTS`, chosen by the video's name. ``timestamp`` and ``keyframe`` tell where the captions
    of frames belong, and are not read, nor are these captions.
    """
    row = require_object(value)
    refuse_unread_keys(row, shows=True, read=("timestamp",))
    video = require_words(row["video_path"], "video_path")
    captions = [require_object(caption) for caption in require_list(row["captions"], "captions")]
    whole = [caption["content"] for caption in captions if str(caption["idx"]) == WHOLE]
    if not whole:
        raise ValueError("captions of which none is that of the whole video")
    turn = Turn(REQUESTS[crc32(video.encode()) % len(REQUESTS)], require_text(whole[0], "a caption"))
    return Entry(require_name(row.get("video_id", video), "video_id"), video, VIDEO, (turn,))
