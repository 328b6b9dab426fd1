"""List how long the videos of each benchmark are, or read it from a file (no torch)."""

import csv
from dataclasses import dataclass, replace
from math import ceil, isfinite
from pathlib import Path
from statistics import fmean

from dynfocus.errors import DataError

LIMIT = 200  # frames that the authors' code takes of a video that is too long


@dataclass(frozen=True)
class Benchmark:
    """One benchmark's videos.

    Attributes:
        name: as in the paper.
        seconds: how long its videos are; a single number stands for their mean.
        source: where these come from, in words.
        certain: whether that says it of this very benchmark, and was seen where it was published or in one's own file.
        above: of a video with more frames than these, at one a second, the authors' code takes few; None: of none.
    """

    name: str
    seconds: tuple[float, ...]
    source: str
    certain: bool = True
    above: int | None = None

    @property
    def mean(self) -> float:
        """Seconds of its videos in the mean."""
        return fmean(self.seconds)

    def frames(self, limit: int | None = None) -> list[int]:
        """Frames of each video at one a second; ``limit`` is what is read of one that has more than ``above``."""
        counts = [ceil(seconds) for seconds in self.seconds]
        if limit is None or self.above is None:
            return counts
        return [limit if count > self.above else count for count in counts]


BENCHMARKS = (
    Benchmark("MSVD-QA", (10.0,), "about 10 s, as it is usually given", certain=False),
    Benchmark("MSRVTT-QA", (14.8,), "the MSR-VTT paper: 41.2 hours in 10 000 clips, of all splits"),
    Benchmark("ActivityNet-QA", (111.0,), "1 min 51 s, by a summary of the HourVideo paper", certain=False),
    Benchmark("VCG-Bench", (111.0,), "its videos are ActivityNet's; taken as ActivityNet-QA's", certain=False),
    Benchmark(
        "MLVU", (822.0,), "estimated from 179 videos of its dev files, tasks weighted by their videos", certain=False
    ),
    Benchmark("Video-MME", (1016.0,), "its paper: 254 hours in 900 videos", above=2000),
    Benchmark("LVBench", (4101.0,), "a summary of its paper: 4101 s in the mean", certain=False, above=1000),
)


def read_durations(path: Path) -> tuple[Benchmark, ...]:
    """The benchmarks of a CSV file with the columns ``benchmark`` and ``seconds`` and a line for each video.

    One of the name of a known benchmark keeps that one's limit of frames.

    Raises:
        DataError: if the file cannot be read so; it names the line.
    """
    durations: dict[str, list[float]] = {}
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            if not {"benchmark", "seconds"} <= set(table.fieldnames or ()):
                raise make_error(f"{path} with the columns {', '.join(table.fieldnames or ()) or 'of an empty file'}")
            for line in table:
                if not line["benchmark"]:
                    raise ValueError("no name of a benchmark")
                durations.setdefault(line["benchmark"], []).append(parse_seconds(line["seconds"]))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise make_error(f"{path}, which cannot be read ({error})") from error
    except ValueError as error:
        raise make_error(f"line {table.line_num} of {path}: {error}") from error
    if not durations:
        raise make_error(f"{path} without a line of a video")
    published = {benchmark.name: benchmark for benchmark in BENCHMARKS}
    return tuple(
        replace(published.get(name, Benchmark(name, (), "")), seconds=tuple(seconds), source=path.name, certain=True)
        for name, seconds in durations.items()
    )


def parse_seconds(text: str | None) -> float:
    """A number above 0; raises ValueError if it is none."""
    try:
        seconds = float(text or "")
    except ValueError:
        seconds = 0.0
    if not (isfinite(seconds) and seconds > 0):
        raise ValueError(f"seconds = {text or 'nothing'}")
    return seconds


def make_error(given: str) -> DataError:
    """The error about a file of durations."""
    return DataError(
        given,
        "a CSV file with the columns benchmark and seconds, above 0, and a line for each video",
        "Mend the file, or leave it out for the published means.",
    )
