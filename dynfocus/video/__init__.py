"""Read any video or image file into frames of one size with time stamps.

Videos go to decord where it reads rightly and in little memory, else to PyAV; images go to Pillow.
"""

from pathlib import Path
from typing import Literal

from dynfocus.errors import ConfigError, DynFocusError
from dynfocus.records.rows import FrameFiles, VideoSegment
from dynfocus.settings import FrameRule
from dynfocus.video.clip import Clip, find_media, pick_frames, unreadable_error
from dynfocus.video.images import IMAGES, belongs_to_pillow, read_frame_files, read_image
from dynfocus.video.packets import Packets, holds_video, read_packets
from dynfocus.video.time_limit import limit_time
from dynfocus.video.with_decord import has_decord, jumps_far, read_with_decord
from dynfocus.video.with_pyav import Turn, read_turn, read_with_pyav

__all__ = ["IMAGES", "Clip", "Reader", "pick_frames", "read_clip", "read_image", "read_media"]

Reader = Literal["decord", "pyav"]


def read_media(media: Path | str | VideoSegment | FrameFiles, rule: FrameRule, threads: int = 1) -> Clip:
    """Read an image or a video, whichever the file holds: its name does not decide, and an image that moves is a video.

    Args:
        media: the file, or a segment of a video, or the files of its frames.
        rule: which frames, and their size.
        threads: that decode a video, see `read_clip`.

    Raises:
        VideoError: the only error that a file can cause, with its path and the cause: it is absent, cut off, damaged,
            too large, neither image nor video, has no frame in the segment asked for, or is not read within the
            seconds of ``DYNFOCUS_FILE_SECONDS``. Which damage in a video is noticed, `read_clip` says.
    """
    if isinstance(media, FrameFiles):
        with limit_time(media.paths[0]):
            return read_frame_files(media, rule)
    segment = find_media(media)
    with limit_time(segment.path):
        return _read_file(segment, rule, threads)


def _read_file(segment: VideoSegment, rule: FrameRule, threads: int) -> Clip:
    by_pillow = belongs_to_pillow(segment.path)
    # Pillow says best why a broken image fails; FFmpeg would paint over the damage, or say something else.
    if by_pillow or (by_pillow is None and segment.path.suffix.lower() in IMAGES and not holds_video(segment.path)):
        return read_image(segment, rule)
    return read_clip(segment, rule, threads=threads)


def read_clip(
    media: Path | str | VideoSegment,
    rule: FrameRule,
    reader: Reader | None = None,
    packets: Packets | None = None,
    threads: int = 1,
) -> Clip:
    """Decode the frames of a video that ``rule`` asks for; at most one a thread is held at the file's own size.

    Damage that is noticed is an error, never a frame that is painted over or repeated. Noticed is what the container
    contradicts anywhere in the file, and what the decoder reports of the frames that it goes through: where one can
    jump, those from the last key frame before a wanted one on. No damage is what only pictures miss that are not shown,
    as those before the first key frame of a clip cut without encoding. Not noticed are a few wrong bits that still make
    sense to a decoder (those of HEVC, VP8 and VP9 notice the least), and these ends of a file, which then counts as a
    shorter video: a cut between two fragments of an MP4, between two clusters of a Matroska or WebM whose writer told
    no length, between two parts of an AVI above 1 GB, two pages of Ogg, two frames of IVF or Y4M or two tags of an FLV
    that does not state its size, or anywhere in an AVI or ASF (WMV) without a length, in MPEG-TS, MPEG-PS (MPG, VOB)
    and in the containers that are not named here.

    Args:
        media: a video in any container and codec that FFmpeg knows, or a segment of it: the frames at or after its
            start and before its end, by the file's own time stamps, where the first frame is at 0 s. Stamps that are
            out of order, as AVI's are with B-frames, are sorted; a clock that starts again counts on.
        rule: which frames, and their size; ``fps`` samples from the segment's start on.
        reader: ``decord`` or ``pyav`` alone; by default decord where it reads rightly, can jump over most frames and
            has small ones to hold, else PyAV. decord alone refuses files of which it would give wrong frames, and
            may pile up frames, hundreds of megabytes at 1280 x 720.
        packets: the file's packets, where they were read before.
        threads: that decode, each from key frames of its own, where PyAV can jump to them; frames are the same to the
            bit as with one.

    Raises:
        VideoError: if the file is absent, cut off, damaged, too large, or holds no frame in the segment.
        ConfigError: if decord is demanded where it is not installed, or its decoder's errors cannot be read.
    """
    segment = find_media(media)
    if reader == "decord" and not has_decord():
        raise ConfigError("reader=decord without decord", "decord, which exists for Linux on x86-64", "Use pyav.")
    try:
        packets = packets or read_packets(segment.path, rule)
        by_decord = reader != "pyav" and has_decord() and packets.for_decord
        by_decord = by_decord and (reader == "decord" or jumps_far(segment, rule, packets))
        by_decord = by_decord and read_turn(segment) == Turn()  # else decord's FFmpeg mirrors nothing
        if reader == "decord" and not by_decord:
            raise unreadable_error(segment.path, "decord alone would give wrong frames of this kind of file")
        if by_decord:
            clip = read_with_decord(segment, rule, packets, last_resort=reader == "decord")
            if clip is not None:
                return clip
        return read_with_pyav(segment, rule, packets, threads)
    except DynFocusError:
        raise
    except Exception as error:
        raise unreadable_error(segment.path, error) from error
