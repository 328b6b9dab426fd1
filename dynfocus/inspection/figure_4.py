"""Draw Figure 4: visual tokens of DynFocus and of others, per benchmark and against duration (no torch)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes

from dynfocus.budget import OTHERS, Method, dynfocus_method
from dynfocus.errors import ConfigError
from dynfocus.inspection.charts import FIGURES, check_folder, write_chart, write_table
from dynfocus.inspection.durations import BENCHMARKS, LIMIT, Benchmark, read_durations
from dynfocus.settings import ConnectorSettings

FIXED = (16, 32)  # frames of DynFocus's other settings in the paper
SECONDS = (1, 2, 5, 10, 16, 20, 30, 45, 60, 90, 120, 180, 300, 600, 900, 1200, 1800, 2700, 3600, 5400, 7200)
COLORS = ("#0072b2", "#56b4e9", "#a6d4f2", "#d55e00", "#009e73", "#cc79a7", "#e8b8d2", "#8c8c8c", "#e69f00", "#5c4a3d")
MARKS = "oooosDdv^P"


@dataclass(frozen=True)
class Cost:
    """What one method spends on one benchmark.

    Attributes:
        benchmark: whose videos.
        method: who spends.
        frames: T that the formula is given, in the mean over its videos.
        tokens: visual tokens, in the mean over its videos.
    """

    benchmark: Benchmark
    method: Method
    frames: float
    tokens: float


def list_methods(settings: ConnectorSettings) -> tuple[Method, ...]:
    """DynFocus at one frame a second and at the paper's fixed numbers of frames, then the others."""
    return (dynfocus_method(settings), *(dynfocus_method(settings, frames) for frames in FIXED), *OTHERS)


def average_costs(
    benchmarks: Sequence[Benchmark], settings: ConnectorSettings, limit: int | None = LIMIT
) -> list[Cost]:
    """The mean of tokens over each benchmark's videos, which is not the tokens of a video of mean length.

    Args:
        benchmarks: whose videos.
        settings: DynFocus's.
        limit: frames that DynFocus reads of videos that are too long; None for all. Others have rules of their own.
    """
    costs = []
    for benchmark in benchmarks:
        for method in list_methods(settings):
            frames = benchmark.frames(limit if method.name == "DynFocus" else None)
            costs.append(Cost(benchmark, method, fmean(frames), fmean(map(method.tokens, frames))))
    return costs


def draw_figure_4(
    out: Path = FIGURES,
    durations: Path | None = None,
    events: int = 25,
    keep: float = 0.8,
    long_video_frames: int = 200,
) -> Path:
    """Write figure4.png and figure4.csv of one's own durations or of published means; returns the picture's path.

    Args:
        out: folder to write into.
        durations: a CSV file with columns benchmark and seconds, a line a video.
        events: L, event prototypes.
        keep: K/L, the share of them that is kept.
        long_video_frames: frames read of the long videos of LVBench and Video-MME; 0 for all.

    Raises:
        ConfigError: if a number is out of range.
        DataError: if the durations cannot be read.
        DiskError: if the files cannot be written.
    """
    if long_video_frames < 0:
        raise ConfigError(f"--long-video-frames {long_video_frames}", "at least 1, or 0 for all", "Raise it.")
    benchmarks = BENCHMARKS if durations is None else read_durations(durations)
    settings, limit = ConnectorSettings(events=events, keep=keep), long_video_frames or None
    check_folder(out)
    costs, notes = average_costs(benchmarks, settings, limit), list_notes(benchmarks, settings, limit)
    write_table(out / "figure4.csv", notes, [*map(list_fields, costs), *list_durations(settings)])
    with write_chart(out / "figure4.png", 13, 6.4, notes) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(1.45, 1))
        draw_bars(left, costs)
        draw_curves(right, settings)
    return out / "figure4.png"


def list_notes(benchmarks: Sequence[Benchmark], settings: ConnectorSettings, limit: int | None = LIMIT) -> list[str]:
    """What belongs beside the numbers."""
    lines = [
        f"DynFocus: L = {settings.events}, K/L = {settings.keep}; one frame a second unless a number is given.",
        "Per benchmark: the mean of tokens over its videos; where only a mean duration is known, tokens at that one.",
    ]
    if not all(benchmark.certain for benchmark in benchmarks):
        lines.append("* an estimate, or not seen at its publisher; the CSV says where each duration comes from.")
    ruled = [f"videos of {b.name} with more than {b.above} frames" for b in benchmarks if b.above is not None]
    if ruled and limit is not None:
        lines.append(f"DynFocus reads {limit} frames ({LIMIT} in its authors' code) of {' and of '.join(ruled)}.")
    published = [
        benchmark for benchmark in benchmarks if benchmark.name == "ActivityNet-QA" and benchmark in BENCHMARKS
    ]
    return lines + [check_claim(benchmark) for benchmark in published if settings == ConnectorSettings()]


def check_claim(benchmark: Benchmark) -> str:
    """How the paper's "about 25 % fewer tokens than ST-LLM on ANet-QA" stands to the formulas, with its settings."""
    spent = {cost.method.name: cost.tokens for cost in average_costs([benchmark], ConnectorSettings())}
    ours = [name for name in spent if name.startswith("DynFocus")]
    beside = [
        f"{spent[name]:.0f} ({name.removeprefix('DynFocus, ').replace('DynFocus', 'one a second')}): "
        + " and ".join(f"{spent[name] / spent[other] - 1:+.0%}" for other in ("ST-LLM", "ST-LLM, every frame"))
        for name in ours
    ]
    return (
        f'{benchmark.name}: the paper\'s "about 25 % fewer tokens than ST-LLM" follows from none of the settings '
        f"found. Beside ST-LLM's {spent['ST-LLM']:.0f} and {spent['ST-LLM, every frame']:.0f} (every frame), "
        "DynFocus has " + "; ".join(beside) + "."
    )


def list_fields(cost: Cost) -> dict[str, Any]:
    """A row of the table."""
    return {
        "panel": "benchmark",
        "benchmark": cost.benchmark.name,
        "seconds": cost.benchmark.mean,
        "videos": len(cost.benchmark.seconds),
        "method": cost.method.name,
        "T": cost.frames,
        "tokens": cost.tokens,
        "formula": cost.method.formula,
        "duration": cost.benchmark.source,
        "certain": cost.benchmark.certain,
    }


def list_durations(settings: ConnectorSettings) -> list[dict[str, Any]]:
    """The rows of the curves against duration."""
    return [
        list_fields(cost) | {"panel": "duration", "benchmark": "", "videos": "", "duration": "", "certain": ""}
        for cost in average_costs([Benchmark("", (float(seconds),), "") for seconds in SECONDS], settings)
    ]


def draw_bars(axes: Axes, costs: Sequence[Cost]) -> None:
    """Tokens of each method, benchmark by benchmark."""
    names = list(dict.fromkeys(cost.method.name for cost in costs))
    groups = list(dict.fromkeys(cost.benchmark for cost in costs))
    width = 0.86 / len(names)
    for n, name in enumerate(names):
        heights = [cost.tokens for cost in costs if cost.method.name == name]
        places = [group + (n - (len(names) - 1) / 2) * width for group in range(len(groups))]
        bars = axes.bar(places, heights, width, label=name, color=COLORS[n % len(COLORS)])
        if n == 0:
            axes.bar_label(bars, [f"{height:.0f}" for height in heights], fontsize=7, padding=2, weight="bold")
    labels = [f"{b.name}\n{b.mean:{'.0f' if b.mean >= 10 else '.2g'}} s{'' if b.certain else ' *'}" for b in groups]
    axes.set_xticks(range(len(groups)), labels)
    axes.set_yscale("log")
    axes.set_ylim(top=axes.get_ylim()[1] * 2.2)
    axes.set_ylabel("visual tokens of a video")
    axes.set_title("per benchmark, by the duration of its videos", loc="left")
    axes.legend(fontsize=7, ncols=3, loc="upper left", frameon=False)


def draw_curves(axes: Axes, settings: ConnectorSettings) -> None:
    """Tokens of each method over the seconds of a video."""
    for n, method in enumerate(list_methods(settings)):
        bold = method.name == "DynFocus"
        axes.plot(
            SECONDS,
            [method.tokens(seconds) for seconds in SECONDS],
            label=f"{method.name}:  {method.formula.partition(':')[0]}",
            color=COLORS[n % len(COLORS)],
            marker=MARKS[n % len(MARKS)],
            markersize=3,
            linewidth=2.5 if bold else 1.2,
            zorder=3 if bold else 2,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks([1, 10, 60, 600, 3600], ["1 s", "10 s", "1 min", "10 min", "1 h"])
    axes.minorticks_off()
    axes.set_xlabel("duration")
    axes.set_ylabel("visual tokens of a video")
    axes.set_title("against duration, T = its seconds", loc="left")
    axes.legend(fontsize=7, loc="upper left", frameon=False)
