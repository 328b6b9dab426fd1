"""Lock a share of sketches so that one process alone writes it."""

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

RENEWAL = 60.0  # seconds after which a writer renews its lease
STALE = 1800.0  # seconds after which a lease that was not renewed is void: more than any one video takes
log = getLogger(__name__)


@contextmanager
def lock_share(store: Store, name: str) -> Iterator[Callable[[], None]]:
    """Lock a share while it is written; yields a function that renews the lock, to be called after each sketch.

    On a local disk the system keeps the lock, and releases it however the process ends. Elsewhere a file is the lease
    of its writer; after half an hour without renewal another process takes it over.

    Raises:
        ConfigError: if another process writes this share, or has taken over the lease.
        DiskError: if the lock cannot be written.
    """
    with _system_lock(store, f"{name}.lock") if store.local else _lease(store, f"{name}.lock") as renew:
        yield renew


@contextmanager
def _system_lock(store: Store, name: str) -> Iterator[Callable[[], None]]:
    path = Path(store.path(name))
    while (file := _lock(store, path)) is None:
        pass
    with file:  # closing it releases the lock
        file.truncate(0)
        file.write(_own_record(""))
        file.flush()
        try:
            yield lambda: None
        finally:
            path.unlink(missing_ok=True)


def _lock(store: Store, path: Path) -> BinaryIO | None:
    """The locked file; None if its last owner has deleted it since it was opened: a lock on it would stop nobody."""
    import fcntl  # absent on Windows, where the rest of this module works

    with ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "a+b"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(file, path):
                stack.pop_all()
                return file
        except BlockingIOError as error:
            file.seek(0)
            raise _in_use(store, path.name, _parse(file.read())) from error
        except OSError as error:
            raise _no_lock(path, error) from error
    return None


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _no_lock(path: Path, error: OSError) -> DiskError:
    return DiskError(
        f"{path}, which cannot be locked ({error})",
        "a writable folder, on a file system with locks, so that no two processes write one share",
        "Check your permission, mount it with locks (such as -o flock), or write to another place.",
    )


@contextmanager
def _lease(store: Store, name: str) -> Iterator[Callable[[], None]]:
    token, last = token_hex(8), time.monotonic()

    def other_owner() -> dict[str, Any] | None:
        try:
            owner = _parse(store.read(name))
        except FileNotFoundError:
            return None
        return None if owner["token"] == token else owner

    def renew() -> None:
        nonlocal last
        if time.monotonic() - last > RENEWAL:
            if (owner := other_owner()) is not None:
                raise _in_use(store, name, owner)
            store.write(name, _own_record(token))
            last = time.monotonic()

    if (owner := other_owner()) is not None:
        if time.time() - owner["time"] < STALE:
            raise _in_use(store, name, owner)
        log.warning("%s/%s was left by %s, and is taken over", store.url, name, _describe(owner))
    store.write(name, _own_record(token))
    if (owner := other_owner()) is not None:  # two wrote at once: the last one owns it
        raise _in_use(store, name, owner)
    try:
        yield renew
    finally:
        if other_owner() is None:
            store.delete(name)


def _own_record(token: str) -> bytes:
    owner = {"process": os.getpid(), "host": socket.gethostname(), "time": time.time(), "token": token}
    return json.dumps(owner).encode()


def _parse(content: bytes) -> dict[str, Any]:
    try:
        owner = json.loads(content)
        return {name: owner[name] for name in ("process", "host", "token")} | {"time": float(owner["time"])}
    except (ValueError, TypeError, KeyError):
        return {"process": "unknown", "host": "unknown", "time": time.time(), "token": ""}


def _describe(owner: dict[str, Any]) -> str:
    return f"process {owner['process']} on {owner['host']}"


def _in_use(store: Store, name: str, owner: dict[str, Any]) -> ConfigError:
    return ConfigError(
        f"share {name.removesuffix('.lock')} in {store.url}, which {_describe(owner)} is writing",
        "one process for each share",
        f"Wait until it has ended, or give this one another share. If no such process runs any more, delete {name}.",
    )
