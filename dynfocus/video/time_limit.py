"""Limit the seconds that reading one file may take, so that a file whose decoding never ends holds up no run."""

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from dynfocus.errors import ConfigError, VideoError

# A variable of the environment: it reaches every process that reads, and is no part of what frames are.
NAME, DEFAULT = "DYNFOCUS_FILE_SECONDS", 1800.0
current = threading.local()  # the deadline of the file that this thread reads


@contextmanager
def limit_time(path: Path) -> Iterator[None]:
    """Limit the time that the block may take to read a file; within another limit that one holds.

    Raises:
        VideoError: in place of the block's own error, once the time is over.
        ConfigError: if the environment variable is no number of seconds above 0.
    """
    if find_deadline() is not None:
        yield
        return
    limit = read_limit()
    current.deadline = monotonic() + limit
    try:
        yield
    except Exception as error:
        if monotonic() < current.deadline:
            raise
        raise VideoError(
            f"{path} is not read after {limit:g} s",
            f"a file that is read in that time ({NAME})",
            f"Encode the file again, drop its rows, or set {NAME} higher.",
        ) from error
    finally:
        current.deadline = None


@contextmanager
def share_limit(deadline: float | None) -> Iterator[None]:
    """Hold, for the block, a thread to the deadline of another, which is `find_deadline` there."""
    current.deadline = deadline
    try:
        yield
    finally:
        current.deadline = None


def find_deadline() -> float | None:
    """Return when the file that this thread reads has to be read, on the monotonic clock; None without a limit."""
    return getattr(current, "deadline", None)


def seconds_left() -> float | None:
    """Return the seconds that reading the present file may still take; None where there is no limit.

    Raises:
        TimeoutError: once they are over; `limit_time` makes it the file's error.
    """
    deadline = find_deadline()
    if deadline is None:
        return None
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError("its time is over")
    return left


def read_limit() -> float:
    """Read the limit from the environment: seconds a file; raises ConfigError."""
    text = os.environ.get(NAME, "") or str(DEFAULT)
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not 0 < limit < math.inf:
        raise ConfigError(f"{NAME}={text}", "a number of seconds above 0, such as 1800", "Correct or unset it.")
    return limit
