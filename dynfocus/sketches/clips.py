"""What is sketched: the frames of videos and images, and the blank frame of text-only rows."""

from contextlib import suppress
from pathlib import Path

import torch
from torch.utils.data import Dataset

from dynfocus.errors import DynFocusError, VideoError
from dynfocus.settings import FrameRule
from dynfocus.sketches.digests import Stamp, stamp
from dynfocus.sketches.entries import Damaged, glance
from dynfocus.video import Clip, read_media


def media_stamp(media: Path) -> Stamp:
    """The stamp of a video or image; raises VideoError if there is no such file."""
    if not Path(media).is_file():
        raise VideoError(
            f"there is no file {media}", "a video or image file", "Check the path and the data set's root."
        )
    return stamp(media)


def read_or_blank(media: Path | None, rule: FrameRule) -> Clip:
    """A video or image; or, for None, the one grey frame that text-only rows bring."""
    if media is not None:
        return read_media(media, rule)
    return Clip(torch.full((1, rule.size, rule.size, 3), 128, dtype=torch.uint8), torch.zeros(1), "pillow")


class Clips(Dataset):
    """Clips; None where there is an entry by now; or an error, which would not cross a process's border if raised.

    Args:
        entries: where each clip's sketch will lie, its key, and what is sketched.
        rule: how frames are taken from a video.
    """

    def __init__(self, entries: list[tuple[Path, str, Path | None]], rule: FrameRule) -> None:
        self.entries, self.rule = entries, rule

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Clip | DynFocusError | None:
        path, key, media = self.entries[index]
        with suppress(Damaged):
            if glance(path, key):
                return None
        try:
            return read_or_blank(media, self.rule)
        except DynFocusError as error:
            return error
