"""A folder of files on a local disk, or anywhere that fsspec reaches."""

import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from logging import getLogger
from pathlib import Path
from typing import Any, BinaryIO

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from dynfocus.errors import ConfigError, DiskError, DynFocusError
from dynfocus.records.atomic import atomic_write

PAUSES = (1.0, 5.0)  # seconds before a remote place is asked again
LASTING = (PermissionError, NotImplementedError)  # will be no better the next time
log = getLogger(__name__)


class Store:
    """Files under a path or URL; it may be carried into other processes, forked or not.

    Args:
        url: a folder, or a URL such as ``s3://bucket/folder``.

    Raises:
        ConfigError: if nothing that is installed reads such URLs.
    """

    def __init__(self, url: str) -> None:
        self.url = str(url)
        self._open: tuple[int, Any, str] | None = None
        self._opened()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": None}

    def _opened(self) -> tuple[Any, str]:
        # A connection must not be shared with the process that this one was forked from.
        if self._open is None or self._open[0] != os.getpid():
            try:
                self._open = (os.getpid(), *self._found())
            except (ImportError, ValueError) as error:
                given = f"{self.url}, which cannot be opened ({error})"
                raise ConfigError(given, "a folder, or a URL that fsspec reads", "Install what reads it.") from error
        return self._open[1:]

    def _found(self) -> tuple[Any, str]:
        if "://" in self.url:
            return url_to_fs(self.url)
        return LocalFileSystem(), os.path.abspath(os.path.expanduser(self.url))  # fsspec takes a::b for a in b

    @property
    def local(self) -> bool:
        return isinstance(self._opened()[0], LocalFileSystem)

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """A file's bytes, or those from ``start`` to before ``end``; a remote place is asked up to three times.

        Raises:
            FileNotFoundError: if there is no such file.
            DiskError: if it cannot be read.
        """
        content = self._asked(name, "read", lambda files, path: files.cat_file(path, start, end))
        if start is not None and end is not None and len(content) > end - start:
            raise self._unread(name, "it was sent whole where a range of bytes was asked for")
        return content

    def write(self, name: str, content: bytes | BinaryIO) -> None:
        """Write a file; on a local disk it is there whole or not at all, a remote place is asked up to three times.

        Raises:
            DiskError: if it cannot be written.
        """
        source = BytesIO(content) if isinstance(content, bytes) else content
        begin = source.tell()
        if self.local:
            with atomic_write(Path(self.path(name))) as part, open(part, "wb") as out:
                return shutil.copyfileobj(source, out, 1 << 20)

        def send(files: Any, path: str) -> None:
            source.seek(begin)
            with files.open(path, "wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)

        try:
            self._asked(name, "written", send)
        except (DiskError, FileNotFoundError) as error:
            raise DiskError(
                f"{self.url}/{name}, which could not be written ({_said(error.__cause__ or error)})",
                "a place with room that may be written to",
                "Check the address and your permission there.",
            ) from error

    def delete(self, name: str) -> None:
        """Delete a file where it is there; raises DiskError if it cannot be."""
        with suppress(FileNotFoundError):
            self._asked(name, "deleted", lambda files, path: files.rm_file(path))

    def path(self, name: str) -> str:
        """What the place itself calls a file."""
        return f"{self._opened()[1]}/{name}"

    def sweep(self, prefix: str) -> None:
        """Delete what a process that was killed while it wrote files of such names has left on a local disk."""
        for half in Path(self._opened()[1]).glob(f".{prefix}*") if self.local else ():
            half.unlink(missing_ok=True)

    def sizes(self) -> dict[str, int] | None:
        """The files' names and sizes; None where there is no listing them, as on a web server."""
        if "http" in self._opened()[0].protocol:
            return None

        def listed(files: Any, path: str) -> list[dict[str, Any]]:
            files.invalidate_cache()
            return files.ls(path.rstrip("/"), detail=True)

        try:
            return {Path(found["name"]).name: found["size"] or 0 for found in self._asked("", "listed", listed)}
        except FileNotFoundError:
            return {}

    def _asked(self, name: str, what: str, ask: Callable[[Any, str], Any]) -> Any:
        """What the place answers, which is asked again where it is remote and the answer may become another."""
        for pause in (*PAUSES, None):
            try:
                return ask(self._opened()[0], self.path(name))
            except (FileNotFoundError, DynFocusError):
                raise
            except Exception as error:  # every kind of place has errors of its own
                if pause is None or self.local or isinstance(error, LASTING):
                    raise self._unread(name, error) from error
                log.warning("%s/%s could not be %s (%s), and is tried again", self.url, name, what, error)
                time.sleep(pause)
        raise AssertionError

    def _unread(self, name: str, error: object) -> DiskError:
        return DiskError(
            f"{self.url}/{name}, which cannot be read ({_said(error)})",
            "a place that answers, with byte ranges of files",
            "Check the address, the connection and your permission there.",
        )


def _said(error: object) -> str:
    return " ".join(f"{type(error).__name__} {error}".split()) if isinstance(error, Exception) else str(error)
