"""The figures from files: what `dynfocus figure` calls."""

from math import isfinite
from pathlib import Path

from dynfocus.data.annotations.sources import SETS, FormatName, Source
from dynfocus.errors import ConfigError
from dynfocus.inspection.figures.chart import check_folder, check_matplotlib
from dynfocus.inspection.figures.durations import BENCHMARKS, read_durations
from dynfocus.settings import ConnectorSettings

FIGURES = Path("runs/figures")


def figure_1a(
    out: Path = FIGURES,
    data: Path = Path("cache/world/data"),
    set: str | None = None,
    file: str = "test.json",
    format: FormatName = "conversations",
    media: str = ".",
    rows: int = 1600,
    fps: float = 1.0,
    threshold: float = 20.0,
    index: Path = Path("cache/index"),
) -> Path:
    """Draw figure 1a of a data set; returns the picture's path.

    Args:
        out: folder to write into.
        data: folder that files are named under.
        set: a published data set by its name; without it, file, format and media say which.
        file: the annotation file.
        format: how the annotation file is written.
        media: folder of the videos.
        rows: rows to look at, evenly spread over the file.
        fps: frames a second.
        threshold: grey levels of 255 under which two frames are alike.
        index: folder for indices of annotation files.

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


def figure_4(
    out: Path = FIGURES,
    durations: Path | None = None,
    events: int = 25,
    keep: float = 0.8,
    long_video_frames: int = 200,
) -> Path:
    """Draw figure 4, of one's own durations or of published means; returns the picture's path.

    Args:
        out: folder to write into.
        durations: a CSV file with columns benchmark and seconds, a line a video.
        events: L, event prototypes.
        keep: K/L, the share of them that is kept.
        long_video_frames: frames read of the long videos of LVBench and Video-MME; 0 for all.

    Raises:
        ConfigError: if a number is out of range, or matplotlib is not installed.
        DataError: if the durations cannot be read.
    """
    from dynfocus.inspection.figures.tokens import draw

    if long_video_frames < 0:
        raise ConfigError(f"--long-video-frames {long_video_frames}", "at least 1, or 0 for all", "Raise it.")
    benchmarks = BENCHMARKS if durations is None else read_durations(durations)
    return draw(out, benchmarks, ConnectorSettings(events=events, keep=keep), long_video_frames or None)


def figure_5(video: Path, question: str, model: Path, out: Path = FIGURES) -> Path:
    """Draw figure 5 of one video and question under a trained model; returns the picture's path.

    Args:
        video: any video or image file.
        question: what the model is asked about it.
        model: folder of a trained model.
        out: folder to write into.

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
