"""Show how far long work is and how long it will take: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType

from tqdm import tqdm

PAUSE = 30.0  # seconds between two plain lines


class Progress:
    """One line on stderr: a bar that moves on a terminal; in a file or a pipe a line every half minute, and a last one.

    Args:
        total: how many pieces of work there are.
        name: what is done, such as ``answering``.
        unit: what a piece is, such as ``question``.
        shown: whether anything is shown at all.
        pause: seconds between two plain lines.
    """

    def __init__(self, total: int, name: str, unit: str, shown: bool = True, pause: float = PAUSE) -> None:
        self.total, self.name, self.unit, self.shown, self.pause = total, name, unit, shown, pause
        self.count, self.note = 0, ""
        self.left: float | None = None
        self.start = self.last = time.monotonic()
        on_terminal = shown and sys.stderr.isatty()
        self.bar = tqdm(total=total, desc=name, unit=unit, dynamic_ncols=True) if on_terminal else None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def update(self, count: int = 1, note: str = "", left: float | None = None) -> None:
        """Count pieces that are done; ``note`` stands behind the numbers, such as how many failed.

        Args:
            count: how many pieces were done since the last call.
            note: what else is to be said.
            left: seconds that are left, where the caller knows better than from the mean of what is done.
        """
        self.count, self.note, self.left = min(self.total, self.count + count), note, left
        if self.bar is not None:
            known = [] if left is None else [f"about {_format_time(left)} left"]
            self.bar.set_postfix_str(", ".join([*known, *filter(None, [note])]), refresh=False)
            self.bar.update(self.count - self.bar.n)
        elif time.monotonic() - self.last >= self.pause:
            self._print_line()

    def close(self) -> None:
        """Show the last state, once."""
        if self.bar is not None:
            self.bar.close()
        elif self.total:
            self._print_line()
        self.shown = False

    def _print_line(self) -> None:
        self.last = time.monotonic()
        passed = self.last - self.start
        left = passed / self.count * (self.total - self.count) if self.count and self.left is None else self.left
        times = [f"{_format_time(passed)} so far"] + ([f"about {_format_time(left)} left"] if left else [])
        parts = [f"{self.name}: {self.count} of {self.total} {self.unit}s", *times, *filter(None, [self.note])]
        if self.shown:
            sys.stderr.write(f"{', '.join(parts)}\n")
            sys.stderr.flush()


def _format_time(seconds: float) -> str:
    return str(tqdm.format_interval(seconds))
