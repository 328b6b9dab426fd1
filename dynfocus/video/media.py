"""Read what a row shows, whichever it is: a video, an image, a segment of a video, or nothing."""

from pathlib import Path

import torch

from dynfocus.records.rows import FrameFiles, VideoSegment
from dynfocus.settings import FrameRule
from dynfocus.video import Clip, read_media
from dynfocus.video.resizing import GREY

AnyMedia = Path | VideoSegment | FrameFiles
Media = AnyMedia | None  # None: nothing, as in text-only rows


def read_or_blank(media: Media, rule: FrameRule, threads: int = 1) -> Clip:
    """Read a video, an image or a segment; for None give the one grey frame that text-only rows bring."""
    if media is not None:
        return read_media(media, rule, threads)
    return Clip(torch.full((1, rule.size, rule.size, 3), GREY, dtype=torch.uint8), torch.zeros(1), "pillow")
