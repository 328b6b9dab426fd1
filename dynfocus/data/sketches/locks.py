"""One process alone writes a share."""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from logging import getLogger
from pathlib import Path
from secrets import token_hex
from typing import Any, BinaryIO

from dynfocus.data.sketches.stores import Store
from dynfocus.errors import ConfigError, DiskError

RENEWED = 60.0  # seconds after which a writer says again, where it may, that it is at work
STALE = 1800.0  # seconds of silence after which another may go on: more than any one video takes
log = getLogger(__name__)


@contextmanager
def alone(store: Store, name: str) -> Iterator[Callable[[], None]]:
    """Hold a share while it is written; gives what to call after each sketch, which says that this one is at work.

    On a local disk the system holds the lock, and lets it go when the process ends in any way. Elsewhere a file says
    who writes and when last; one that has been silent for half an hour is taken to be dead.

    Raises:
        ConfigError: if another process writes this share, or has taken it over.
        DiskError: if the lock cannot be written.
    """
    with _locked(store, f"{name}.lock") if store.local else _leased(store, f"{name}.lock") as at_work:
        yield at_work


@contextmanager
def _locked(store: Store, name: str) -> Iterator[Callable[[], None]]:
    path = Path(store.path(name))
    while (file := _lock(store, path)) is None:
        pass
    with file:  # closing it lets the lock go
        file.truncate(0)
        file.write(_me(""))
        file.flush()
        try:
            yield lambda: None
        finally:
            path.unlink(missing_ok=True)


def _lock(store: Store, path: Path) -> BinaryIO | None:
    """The locked file; None if the one who held it has deleted it meanwhile."""
    import fcntl  # Windows has none, and needs it for nothing else

    with ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "a+b"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _same(file, path):
                stack.pop_all()
                return file
        except BlockingIOError as error:
            file.seek(0)
            raise _taken(store, path.name, _said(file.read())) from error
        except OSError as error:
            raise _unlocked(path, error) from error
    return None


def _same(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _unlocked(path: Path, error: OSError) -> DiskError:
    return DiskError(
        f"{path}, which cannot be locked ({error})",
        "a writable folder, on a file system with locks, so that no two processes write one share",
        "Check your permission, mount it with locks (such as -o flock), or write to another place.",
    )


@contextmanager
def _leased(store: Store, name: str) -> Iterator[Callable[[], None]]:
    mine, last = token_hex(8), time.monotonic()

    def other() -> dict[str, Any] | None:
        try:
            said = _said(store.read(name))
        except FileNotFoundError:
            return None
        return None if said["token"] == mine else said

    def at_work() -> None:
        nonlocal last
        if time.monotonic() - last > RENEWED:
            if (said := other()) is not None:
                raise _taken(store, name, said)
            store.write(name, _me(mine))
            last = time.monotonic()

    if (said := other()) is not None:
        if time.time() - said["time"] < STALE:
            raise _taken(store, name, said)
        log.warning("%s/%s was left by %s, and is taken over", store.url, name, _who(said))
    store.write(name, _me(mine))
    if (said := other()) is not None:  # two at once: the last to write has it
        raise _taken(store, name, said)
    try:
        yield at_work
    finally:
        if other() is None:
            store.delete(name)


def _me(token: str) -> bytes:
    said = {"process": os.getpid(), "host": socket.gethostname(), "time": time.time(), "token": token}
    return json.dumps(said).encode()


def _said(content: bytes) -> dict[str, Any]:
    try:
        said = json.loads(content)
        return {"process": said["process"], "host": said["host"], "time": float(said["time"]), "token": said["token"]}
    except (ValueError, TypeError, KeyError):
        return {"process": "unknown", "host": "unknown", "time": time.time(), "token": ""}


def _who(said: dict[str, Any]) -> str:
    return f"process {said['process']} on {said['host']}"


def _taken(store: Store, name: str, said: dict[str, Any]) -> ConfigError:
    return ConfigError(
        f"share {name.removesuffix('.lock')} in {store.url}, which {_who(said)} is writing",
        "one process for each share",
        f"Wait until it has ended, or give this one another share. If no such process runs any more, delete {name}.",
    )
