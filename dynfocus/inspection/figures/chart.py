"""Charts and tables as files: the same numbers make the same bytes (matplotlib, imported only where it draws)."""

import csv
import io
import os
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dynfocus.errors import ConfigError, DiskError
from dynfocus.records.atomic import atomic_write, write_text

DOTS = 150  # to the inch
BLUE, ORANGE, GREY, GREEN = "#0072b2", "#d55e00", "#8c8c8c", "#009e73"  # told apart by the colour-blind too


def check_folder(out: Path) -> None:
    """Refuse a folder that could not be written into, before anything is measured; raises DiskError."""
    there = next(place for place in (out.absolute(), *out.absolute().parents) if place.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        given = f"--out {out}, where {there} is {'not writable' if there.is_dir() else 'no folder'}"
        raise DiskError(given, "a folder to write into", "Choose another place.")


def check_matplotlib() -> None:
    """Raises ConfigError if matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"a chart without matplotlib ({error})",
            "matplotlib, which the project's extra `figures` brings",
            'Run: pip install -e ".[figures]"',
        ) from error


@contextmanager
def charted(path: Path, width: float, height: float) -> Iterator[Any]:
    """Give an empty matplotlib figure of that many inches, and write what is drawn on it to ``path`` as a PNG.

    A person's own matplotlib style is not read, so that everybody gets the same picture.

    Raises:
        ConfigError: if matplotlib is not installed.
        DiskError: if the file cannot be written.
    """
    check_matplotlib()
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style = matplotlib.rcParamsDefault | {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}
    with matplotlib.rc_context({name: value for name, value in style.items() if name != "backend"}):
        figure = Figure((width, height), dpi=DOTS, layout="constrained")
        yield figure
        with atomic_write(path) as part:
            FigureCanvasAgg(figure).print_png(part, metadata={"Software": None})


def caption(figure: Any, lines: Sequence[str]) -> None:
    """Write lines under everything else of a figure, broken where they would not fit."""
    fit = [part for line in lines for part in textwrap.wrap(line, int(18 * figure.get_figwidth()))]
    figure.supxlabel("\n".join(fit), fontsize=7, x=0.01, ha="left", color="#444444")


def write_table(path: Path, notes: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    """Write rows of one form as CSV, under notes that begin with ``#``; numbers at full precision.

    Raises:
        DiskError: if the file cannot be written.
    """
    rows, file = list(rows), io.StringIO()
    table = csv.DictWriter(file, list(rows[0]) if rows else [], lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(path, "".join(f"# {note}\n" for note in notes) + file.getvalue())
