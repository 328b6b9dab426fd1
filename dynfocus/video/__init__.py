"""Any video or image file -> frames of one size, with time stamps: decord where it is right and fast, else PyAV."""

from pathlib import Path
from typing import Literal

from dynfocus.errors import ConfigError, DynFocusError
from dynfocus.records import Excerpt
from dynfocus.settings import FrameRule
from dynfocus.video.clip import Clip, existing, picked, unreadable
from dynfocus.video.images import IMAGES, is_still, read_image
from dynfocus.video.packets import read_packets
from dynfocus.video.with_decord import installed, jumps_far, read_with_decord
from dynfocus.video.with_pyav import read_with_pyav

__all__ = ["IMAGES", "Clip", "Reader", "picked", "read_clip", "read_image", "read_media"]

Reader = Literal["decord", "pyav"]


def read_media(media: Path | str | Excerpt, rule: FrameRule) -> Clip:
    """Read an image or a video, whichever the file holds: its name does not decide, and a GIF that moves is a video.

    Args:
        media: the file, or a stretch of a video.
        rule: which frames, and their size.

    Raises:
        VideoError: the only error that a file can cause, with its path and the cause: it is absent, cut off, damaged,
            too large, neither image nor video, or has no frame in the stretch asked for.
    """
    stretch = existing(media)
    still = is_still(stretch.path)
    if still or (still is None and stretch.path.suffix.lower() in IMAGES):
        return read_image(stretch, rule)
    return read_clip(stretch, rule)


def read_clip(media: Path | str | Excerpt, rule: FrameRule, reader: Reader | None = None) -> Clip:
    """Decode the frames of a video that ``rule`` asks for; at most one is held at the file's own size at a time.

    Damage that the decoder notices is an error, never a frame that is painted over, repeated or left out. A few wrong
    bits that still make sense to a decoder are not noticed; those of HEVC, VP8 and VP9 notice the least.

    Args:
        media: a video in any container and codec that FFmpeg knows, or a stretch of it: the frames at or after its
            start and before its end, by the file's own time stamps, where the first frame is at 0 s.
        rule: which frames, and their size; ``fps`` samples from the stretch's start on.
        reader: ``decord`` or ``pyav`` alone; by default decord where it reads the file rightly and can jump over most
            frames, else PyAV. decord alone refuses files of which it would give wrong frames, and may pile up frames.

    Raises:
        VideoError: if the file is absent, cut off, damaged, too large, or holds no frame in the stretch.
        ConfigError: if decord is demanded where it is not installed.
    """
    stretch = existing(media)
    if reader == "decord" and not installed():
        raise ConfigError("reader=decord without decord", "decord, which exists for Linux on x86-64", "Use pyav.")
    try:
        packets = read_packets(stretch.path, rule)
        if reader == "decord" and not packets.seekable:
            raise unreadable(stretch.path, "decord alone would give wrong frames of this kind of file")
        trusted = packets.seekable and installed()
        if reader == "decord" or (reader is None and trusted and jumps_far(stretch, rule, packets)):
            clip = read_with_decord(stretch, rule, packets, last_resort=reader == "decord")
            if clip is not None:
                return clip
        return read_with_pyav(stretch, rule, packets)
    except DynFocusError:
        raise
    except Exception as error:
        raise unreadable(stretch.path, error) from error
