"""Draw Figure 1a: how many frames of a data set repeat earlier ones, and how many a question does not need."""

import textwrap
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes

from dynfocus.data.annotations.dataset import Annotations
from dynfocus.data.annotations.sources import SETS, FormatName, Source
from dynfocus.errors import ConfigError
from dynfocus.inspection.charts import BLUE, FIGURES, GREY, ORANGE, check_folder, write_chart, write_table
from dynfocus.inspection.redundancy import THRESHOLD, Redundancy, measure, share_below

HIGHEST = 60  # grey levels; the threshold is moved up to here
BEFORE, EARLIER = "repeats the frame before it", "repeats any earlier frame"
NAMED, ALL = "irrelevant, questions that name frames", "irrelevant, all questions"


def draw_figure_1a(
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
    """Write figure1a.png and figure1a.csv of a data set below the folder ``data``; returns the picture's path.

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
        ConfigError: if there is no set of that name, or a number is out of range.
        DataError: if the data set cannot be read, or shows no video.
        DiskError: if ``out`` cannot be written into.
        VideoError: if none of its videos can be read.
    """
    if set is not None and set not in SETS:
        raise ConfigError(f"--set {set}", f"one of {', '.join(SETS)}", "Correct it, or give --file and --format.")
    if rows < 1:
        raise ConfigError(f"--rows {rows}", "at least 1", "Raise it.")
    if not (isfinite(threshold) and threshold > 0):
        raise ConfigError(f"--threshold {threshold:g}", "a number above 0", "Set it, such as 20.")
    check_folder(out)
    source = SETS[set] if set is not None else Source(f"{data.name}/{file}", file, format, media=media)
    return draw_shares(out, measure(Annotations(source, data, index), rows, fps), threshold)


def draw_shares(out: Path, redundancy: Redundancy, threshold: float = THRESHOLD) -> Path:
    """Write the figure and the table of what was measured; returns the picture's path; raises DiskError."""
    notes = list_notes(redundancy, threshold)
    write_table(out / "figure1a.csv", notes, list_shares(redundancy, threshold))
    with write_chart(out / "figure1a.png", 10, 4.8, notes) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        draw_bars(left, redundancy, threshold)
        draw_curves(right, redundancy, threshold)
    return out / "figure1a.png"


def list_notes(redundancy: Redundancy, threshold: float) -> list[str]:
    """The definitions, and what was looked at."""
    lines = [
        f"{redundancy.source}: {redundancy.videos} videos, {len(redundancy.before)} frames."
        + (f" Left out, as they could not be read: {len(redundancy.failed)}." if redundancy.failed else ""),
        f"Repeated: nearer than {threshold:g} grey levels of 255 to an earlier frame of its video; the distance is the "
        "root mean squared difference of the pixels of frames pooled to 16 x 16.",
    ]
    needs = group_needs(redundancy)
    if not needs:
        return [*lines, "Irrelevant frames: not known, no question of this data set names the frames it needs."]
    return [
        *lines,
        "Irrelevant: outside every event that a question needs, averaged over questions. "
        f"{len(needs[NAMED])} of {len(needs[ALL])} questions name their frames; the others need every frame.",
    ]


def group_needs(redundancy: Redundancy) -> dict[str, list[float]]:
    """Irrelevant shares of questions that name frames, of all, and of each group; empty where no question names any."""
    named = [need.irrelevant for need in redundancy.questions if need.names_frames]
    groups = {NAMED: named, ALL: [need.irrelevant for need in redundancy.questions]}
    for need in redundancy.questions:
        groups.setdefault(f"irrelevant, {need.group or 'no group'}", []).append(need.irrelevant)
    return groups if named else {}


def list_shares(redundancy: Redundancy, threshold: float) -> list[dict[str, Any]]:
    """The table: every share with what it is a share of."""

    def row(measure: str, share: float, of: int, what: str, level: float | str = "") -> dict[str, Any]:
        return {"measure": measure, "threshold": level, "share": share, "of": of, "unit": what}

    near = {"repeats the frame before": redundancy.before, "repeats an earlier frame": redundancy.earlier}
    rows = [row(name, share_below(gaps, threshold), len(gaps), "frames", threshold) for name, gaps in near.items()]
    rows += [row(name, fmean(some), len(some), "questions") for name, some in group_needs(redundancy).items()]
    for name, gaps in near.items():
        for level in map(float, range(1, HIGHEST + 1)):
            rows.append(row(f"{name}, threshold moved", share_below(gaps, level), len(gaps), "frames", level))
    return rows


def draw_bars(axes: Axes, redundancy: Redundancy, threshold: float) -> None:
    """The shares at one threshold."""
    bars = {BEFORE: share_below(redundancy.before, threshold), EARLIER: share_below(redundancy.earlier, threshold)}
    needs = group_needs(redundancy)
    bars |= {name: fmean(needs[name]) for name in (NAMED, ALL) if needs}
    names, colors = [textwrap.fill(name, 15) for name in bars], [BLUE, BLUE, ORANGE, ORANGE][: len(bars)]
    patches = axes.bar(names, [100 * share for share in bars.values()], 0.6, color=colors)
    axes.bar_label(patches, [f"{share:.1%}" for share in bars.values()], padding=2, weight="bold")
    axes.set_ylim(0, 108)
    axes.set_ylabel("% of the frames")
    axes.set_title("repeated and irrelevant frames", loc="left")
    if not needs:
        axes.text(0.98, 0.95, "irrelevant: not known here", transform=axes.transAxes, ha="right", va="top", color=GREY)


def draw_curves(axes: Axes, redundancy: Redundancy, threshold: float) -> None:
    """The shares of repeated frames at every threshold."""
    levels = range(HIGHEST + 1)
    for name, gaps, style in ((EARLIER, redundancy.earlier, "-"), (BEFORE, redundancy.before, "--")):
        axes.plot(levels, [100 * share_below(gaps, level) for level in levels], style, color=BLUE, label=name)
    axes.axvline(threshold, color=GREY, linewidth=1, label=f"threshold: {threshold:g}")
    axes.set_xlim(0, HIGHEST)
    axes.set_ylim(0, 108)
    axes.set_xlabel("threshold, grey levels of 255")
    axes.set_title("repeated frames, as the threshold moves", loc="left")
    axes.legend(fontsize=8, frameon=False, loc="lower right")
