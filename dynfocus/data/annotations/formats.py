"""Every format: how its files are laid out, and what makes an entry of an element."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynfocus.data.annotations import conversations, nextqa, scienceqa, videochat2, videochatgpt, webvid
from dynfocus.data.annotations.parse import Entry, Reading
from dynfocus.data.annotations.scan import Layout
from dynfocus.data.annotations.sources import FormatName, Source


@dataclass(frozen=True)
class Format:
    """How a kind of annotation file is read.

    Attributes:
        layout: what its elements are parts of.
        parse: an element -> its entry, or None if it is left out; raises what `entries.WRONG` holds.
        needs: what a row must have, in words.
        columns: those a table must have.
        beside: the name of a small file in the same folder.
        learn: what to know from that file.
    """

    layout: Layout
    parse: Callable[[Any, Reading], Entry | None]
    needs: str
    columns: tuple[str, ...] = ()
    beside: str | None = None
    learn: Callable[[Source, Path], Any] | None = None


FORMATS: dict[FormatName, Format] = {
    "conversations": Format("list", conversations.conversation, conversations.NEEDS),
    "jsonl": Format("lines", conversations.conversation, conversations.NEEDS),
    "webvid": Format("table", webvid.webvid, webvid.NEEDS, webvid.COLUMNS),
    "videochatgpt": Format("list", videochatgpt.videochatgpt, videochatgpt.NEEDS),
    "scienceqa": Format("object", scienceqa.scienceqa, scienceqa.NEEDS, (), scienceqa.SPLITS, scienceqa.numbers),
    "videochat2": Format("list", videochat2.videochat2, videochat2.NEEDS),
    "nextqa": Format("table", nextqa.nextqa, nextqa.NEEDS, nextqa.COLUMNS, nextqa.FOLDERS, nextqa.folders),
}
