"""Open a video file with FFmpeg as what it holds itself: no file or address that it names is opened."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import av
import av.logging

from dynfocus.video.clip import unreadable_error
from dynfocus.video.time_limit import seconds_left

# FFmpeg's readers of files that name others: lists of parts, descriptions of streams, scripts, numbered images, pages
# of vectors with pictures in them; and of devices.
REFUSED = {
    *("applehttp", "avisynth", "concat", "dash", "dvdvideo", "hls", "imf", "image2", "image2pipe"),
    *("libopenmpt", "rtp", "rtsp", "sap", "sbg", "sdp", "svg_pipe", "vapoursynth", "vobsub", "webm_dash_manifest"),
    *("alsa", "fbdev", "jack", "kmsgrab", "lavfi", "libcdio", "libdc1394"),
    *("openal", "oss", "pulse", "sndio", "v4l2", "video4linux2", "x11grab", "xcbgrab"),
}
ALONE = ",".join(sorted({name for names in av.formats_available for name in names.split(",")} - REFUSED))


@dataclass
class Collecting:
    """The threads that collect errors now, for which PyAV's level is raised, and its settings before."""

    lock: Lock = field(default_factory=Lock)
    count: int = 0
    before: tuple[int | None, bool] = (None, True)


collecting = Collecting()


@contextmanager
def open_container(path: Path, **options: str) -> Iterator[Any]:
    """Open a video file for reading; ``options`` are those of FFmpeg's reader of its container.

    Raises:
        VideoError: if the file is a playlist or another list of files: whoever wrote it would choose what is read.
    """
    guarded = {"protocol_whitelist": "file", "format_whitelist": ALONE, **options}
    refused: av.FFmpegError | None = None
    with collect_pyav_errors() as errors:
        try:
            container = av.open(str(path.absolute()), options=guarded, timeout=seconds_left())
        except av.ArgumentError as error:
            refused = error
    if refused is not None and any("not on whitelist" in error for error in errors):
        cause = "it is a playlist, a numbered image or another description of files, and only what a file holds is read"
        raise unreadable_error(path, cause) from refused
    if refused is not None:
        raise refused
    with container:
        yield container


@contextmanager
def collect_pyav_errors() -> Iterator[list[str]]:
    """Give a list that holds, after the block, the errors that PyAV's FFmpeg logged in this thread without raising."""
    errors: list[str] = []
    with collecting.lock:
        if not collecting.count:
            collecting.before = av.logging.get_level(), av.logging.get_skip_repeated()
            av.logging.set_level(av.logging.ERROR)
            av.logging.set_skip_repeated(False)  # else a file that is read again logs nothing
        collecting.count += 1
    try:
        with av.logging.Capture() as logs:
            yield errors
        errors += [text for severity, _, text in logs if severity <= av.logging.ERROR]
    finally:
        with collecting.lock:
            collecting.count -= 1
            if not collecting.count:
                av.logging.set_level(collecting.before[0])
                av.logging.set_skip_repeated(collecting.before[1])
