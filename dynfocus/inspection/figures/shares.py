"""Figure 1a as a chart and a table of what `dynfocus.inspection.figures.redundancy` found."""

import textwrap
from pathlib import Path
from typing import Any

from dynfocus.inspection.figures.chart import BLUE, GREY, ORANGE, caption, charted, write_table
from dynfocus.inspection.figures.redundancy import THRESHOLD, Redundancy, repeated

HIGHEST = 60  # grey levels; the threshold is moved up to here
BEFORE, EARLIER = "repeats the frame before it", "repeats any earlier frame"
NAMED, ALL = "irrelevant, where a question names frames", "irrelevant, over all questions"


def draw(out: Path, found: Redundancy, threshold: float = THRESHOLD) -> Path:
    """Write figure1a.png and figure1a.csv into ``out``; returns the picture's path.

    Raises:
        ConfigError: if matplotlib is not installed.
        DiskError: if they cannot be written.
    """
    notes = told(found, threshold)
    with charted(out / "figure1a.png", 10, 4.8) as figure:
        write_table(out / "figure1a.csv", notes, table(found, threshold))
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        _bars(left, found, threshold)
        _curve(right, found, threshold)
        caption(figure, notes)
    return out / "figure1a.png"


def told(found: Redundancy, threshold: float) -> list[str]:
    """The definitions, and what was looked at."""
    lines = [
        f"{found.source}: {found.videos} videos, {len(found.before)} frames."
        + (f" Left out, as they could not be read: {len(found.failed)}." if found.failed else ""),
        f"Repeated: nearer than {threshold:g} grey levels of 255 to an earlier frame of its video; the distance is the "
        "root mean squared difference of the pixels of frames pooled to 16 x 16.",
    ]
    if not found.knows:
        return [*lines, "Irrelevant frames: not known, no question of this data set names the frames it needs."]
    naming = len(found.shares(naming=True))
    every = len(found.shares())
    return [
        *lines,
        f"Irrelevant: outside every event that a question needs, averaged over questions. {naming} of {every} "
        "questions name their frames; the others need every frame.",
    ]


def table(found: Redundancy, threshold: float) -> list[dict[str, Any]]:
    """The table: every share with what it is a share of."""

    def row(measure: str, share: float, of: int, what: str, level: float | str = "") -> dict[str, Any]:
        return {"measure": measure, "threshold": level, "share": share, "of": of, "unit": what}

    near = {"repeats the frame before": found.before, "repeats an earlier frame": found.earlier}
    rows = [row(name, repeated(gaps, threshold), len(gaps), "frames", threshold) for name, gaps in near.items()]
    if found.knows:
        naming, every = found.shares(naming=True), found.shares()
        rows.append(row("irrelevant, questions that name frames", _mean(naming), len(naming), "questions"))
        rows.append(row("irrelevant, all questions", _mean(every), len(every), "questions"))
        for kind, shares in found.irrelevant.items():
            rows.append(row(f"irrelevant, {kind or 'no kind'}", _mean(shares), len(shares), "questions"))
    for name, gaps in near.items():
        moved = (float(level) for level in range(1, HIGHEST + 1))
        rows += [row(f"{name}, threshold moved", repeated(gaps, level), len(gaps), "frames", level) for level in moved]
    return rows


def _bars(axes: Any, found: Redundancy, threshold: float) -> None:
    bars = {BEFORE: repeated(found.before, threshold), EARLIER: repeated(found.earlier, threshold)}
    if found.knows:
        bars |= {NAMED: _mean(found.shares(naming=True)), ALL: _mean(found.shares())}
    names = [textwrap.fill(name, 15) for name in bars]
    colours = [BLUE, BLUE, ORANGE, ORANGE]
    drawn = axes.bar(names, [100 * share for share in bars.values()], 0.6, color=colours[: len(bars)])
    axes.bar_label(drawn, [f"{share:.1%}" for share in bars.values()], padding=2, weight="bold")
    axes.set_ylim(0, 108)
    axes.set_ylabel("% of the frames")
    axes.set_title("repeated and irrelevant frames", loc="left")
    if not found.knows:
        axes.text(0.98, 0.95, "irrelevant: not known here", transform=axes.transAxes, ha="right", va="top", color=GREY)


def _curve(axes: Any, found: Redundancy, threshold: float) -> None:
    levels = range(HIGHEST + 1)
    for name, gaps, style in ((EARLIER, found.earlier, "-"), (BEFORE, found.before, "--")):
        axes.plot(levels, [100 * repeated(gaps, level) for level in levels], style, color=BLUE, label=name)
    axes.axvline(threshold, color=GREY, linewidth=1, label=f"threshold: {threshold:g}")
    axes.set_xlim(0, HIGHEST)
    axes.set_ylim(0, 108)
    axes.set_xlabel("threshold, grey levels of 255")
    axes.set_title("repeated frames, as the threshold moves", loc="left")
    axes.legend(fontsize=8, frameon=False, loc="lower right")


def _mean(shares: list[float]) -> float:
    return sum(shares) / len(shares)
