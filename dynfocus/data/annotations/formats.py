"""List every annotation format: how its files are laid out, and which function parses an element."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynfocus.data.annotations import (
    clevrer,
    llava,
    nextqa,
    query_response,
    scienceqa,
    sharegpt4video,
    videochat2,
    videochatgpt,
    webvid,
)
from dynfocus.data.annotations.parse import Entry, ParseContext
from dynfocus.data.annotations.scan import Layout
from dynfocus.data.annotations.sources import FormatName, Source


@dataclass(frozen=True)
class Format:
    """How a kind of annotation file is read.

    Attributes:
        layout: how the file holds its elements; a list may be lines as well, and lines a list.
        parse: an element -> its entry, or None if it is left out; raises one of `PARSE_ERRORS`.
        needs: what a row must have, in words.
        columns: those a table must have.
        companion_name: the name of a small file in the same folder that parsing needs.
        read_companion: reads that file.
    """

    layout: Layout
    parse: Callable[[Any, ParseContext], Entry | None]
    needs: str
    columns: tuple[str, ...] = ()
    companion_name: str | None = None
    read_companion: Callable[[Source, Path], Any] | None = None


# Where several fit a file, the first is its format: the general one is the last.
FORMATS: dict[FormatName, Format] = {
    "conversations": Format("list", llava.parse_conversation, llava.NEEDS),
    "jsonl": Format("lines", llava.parse_conversation, llava.NEEDS),
    "webvid": Format("table", webvid.parse_webvid, webvid.NEEDS, webvid.COLUMNS),
    "videochatgpt": Format("list", videochatgpt.parse_videochatgpt, videochatgpt.NEEDS),
    "scienceqa": Format(
        "object", scienceqa.parse_scienceqa, scienceqa.NEEDS, (), scienceqa.SPLITS, scienceqa.read_split_numbers
    ),
    "videochat2": Format("list", videochat2.parse_videochat2, videochat2.NEEDS),
    "nextqa": Format(
        "table", nextqa.parse_nextqa, nextqa.NEEDS, nextqa.COLUMNS, nextqa.FOLDERS, nextqa.read_video_folders
    ),
    "clevrer": Format("list", clevrer.parse_clevrer, clevrer.NEEDS),
    "sharegpt4video": Format("lines", sharegpt4video.parse_sharegpt4video, sharegpt4video.NEEDS),
    "query_response": Format("lines", query_response.parse_query_response, query_response.NEEDS),
}
