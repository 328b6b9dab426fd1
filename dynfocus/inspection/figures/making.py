"""The figures from files: what `dynfocus figure` calls."""

from math import isfinite
from pathlib import Path

from dynfocus.data.annotations.sources import SETS, FormatName, Source
from dynfocus.errors import ConfigError
from dynfocus.inspection.figures.chart import check_folder, check_matplotlib
from dynfocus.inspection.figures.durations import BENCHMARKS, read_durations
from dynfocus.settings import ConnectorSettings


def figure_1a(
    out: Path,
    data: Path,
    set: str | None,
    file: str,
    format: FormatName,
    media: str,
    rows: int,
    fps: float,
    threshold: float,
    index: Path,
) -> Path:
    """Figure 1a of a data set below the folder ``data``; returns the picture's path.

    Raises:
        ConfigError: if there is no set of that name, a number is out of range, or matplotlib is not installed.
        DataError: if the data set cannot be read, or shows no video.
        DiskError: if ``out`` cannot be written into.
        VideoError: if none of its videos can be read.
    """
    from dynfocus.data.annotations.dataset import Annotations
    from dynfocus.inspection.figures.redundancy import measure
    from dynfocus.inspection.figures.shares import draw

    if set is not None and set not in SETS:
        raise ConfigError(f"--set {set}", f"one of {', '.join(SETS)}", "Correct it, or give --file and --format.")
    if rows < 1:
        raise ConfigError(f"--rows {rows}", "at least 1", "Raise it.")
    if not (isfinite(threshold) and threshold > 0):
        raise ConfigError(f"--threshold {threshold:g}", "a number above 0", "Set it, such as 20.")
    check_folder(out)
    check_matplotlib()
    source = SETS[set] if set is not None else Source(f"{data.name}/{file}", file, format, media=media)
    return draw(out, measure(Annotations(source, data, index), rows, fps), threshold)


def figure_4(out: Path, durations: Path | None, events: int, keep: float, long_video_frames: int) -> Path:
    """Figure 4, of one's own durations or of published means; returns the picture's path.

    Raises:
        ConfigError: if a number is out of range, or matplotlib is not installed.
        DataError: if the durations cannot be read.
    """
    from dynfocus.inspection.figures.tokens import draw

    if long_video_frames < 0:
        raise ConfigError(f"--long-video-frames {long_video_frames}", "at least 1, or 0 for all", "Raise it.")
    benchmarks = BENCHMARKS if durations is None else read_durations(durations)
    return draw(out, benchmarks, ConnectorSettings(events=events, keep=keep), long_video_frames or None)


def figure_5(out: Path, video: Path, question: str, model: Path) -> Path:
    """Figure 5 of one video and question under a trained model; returns the picture's path.

    Raises:
        CheckpointError: if there is no trained model.
        DiskError: if ``out`` cannot be written into.
        VideoError: if the video cannot be read.
    """
    from dynfocus.inspection.answerer import Answerer
    from dynfocus.inspection.figures.storyboard import draw
    from dynfocus.inspection.report.story import Story

    check_folder(out)
    answerer = Answerer(model)
    answer = answerer.ask(video, question)
    frames = answerer.thumbnails(video, answer)
    return draw(out, Story(answer.selection, frames, video.name, question, answer.answer + " ..." * answer.cut))
