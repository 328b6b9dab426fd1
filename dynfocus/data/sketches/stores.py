"""Read and write files in a folder on a local disk, or anywhere that fsspec reaches."""

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

PAUSES = (1.0, 5.0)  # seconds before a request to a remote place is repeated
LASTING = (PermissionError, NotImplementedError)  # a repeated request would fail again
log = getLogger(__name__)


class Store:
    """Files under a path or URL; it may be passed to other processes, forked or not.

    Args:
        url: a folder, or a URL such as ``s3://bucket/folder``.

    Raises:
        ConfigError: if nothing that is installed reads such URLs.
    """

    def __init__(self, url: str) -> None:
        self.url = str(url)
        self._open: tuple[int, Any, str] | None = None
        self._connect()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": None}

    def _connect(self) -> tuple[Any, str]:
        # A connection must not be shared with the process that this one was forked from.
        if self._open is None or self._open[0] != os.getpid():
            try:
                self._open = (os.getpid(), *self._resolve())
            except (ImportError, ValueError) as error:
                problem = f"{self.url}, which cannot be opened ({error})"
                raise ConfigError(problem, "a folder, or a URL that fsspec reads", "Install what reads it.") from error
        return self._open[1:]

    def _resolve(self) -> tuple[Any, str]:
        if "://" in self.url:
            return url_to_fs(self.url)
        return LocalFileSystem(), os.path.abspath(os.path.expanduser(self.url))  # fsspec takes a::b for a in b

    @property
    def local(self) -> bool:
        return isinstance(self._connect()[0], LocalFileSystem)

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """Read a file's bytes, or those from ``start`` to before ``end``; tries a remote place up to three times.

        Raises:
            FileNotFoundError: if there is no such file.
            DiskError: if it cannot be read.
        """
        content = self._retry(name, "read", lambda files, path: files.cat_file(path, start, end))
        if start is not None and end is not None and len(content) > end - start:
            raise self._unreadable_error(name, "it was sent whole where a range of bytes was asked for")
        return content

    def write(self, name: str, content: bytes | BinaryIO) -> None:
        """Write a file, on a local disk whole or not at all; tries a remote place up to three times.

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
            self._retry(name, "written", send)
        except (DiskError, FileNotFoundError) as error:
            raise DiskError(
                f"{self.url}/{name}, which could not be written ({_describe_error(error.__cause__ or error)})",
                "a place with room that may be written to",
                "Check the address and your permission there.",
            ) from error

    def delete(self, name: str) -> None:
        """Delete a file where it is there; raises DiskError if it cannot be."""
        with suppress(FileNotFoundError):
            self._retry(name, "deleted", lambda files, path: files.rm_file(path))

    def path(self, name: str) -> str:
        """Return the name that the place itself has for a file."""
        return f"{self._connect()[1]}/{name}"

    def sweep(self, prefix: str) -> None:
        """Delete half-written files of such names on a local disk, which a killed process has left."""
        for half in Path(self._connect()[1]).glob(f".{prefix}*") if self.local else ():
            half.unlink(missing_ok=True)

    def sizes(self) -> dict[str, int] | None:
        """Return the files' names and sizes; None where they cannot be listed, as on a web server."""
        if "http" in self._connect()[0].protocol:
            return None

        def list_files(files: Any, path: str) -> list[dict[str, Any]]:
            files.invalidate_cache()
            return files.ls(path.rstrip("/"), detail=True)

        try:
            return {Path(entry["name"]).name: entry["size"] or 0 for entry in self._retry("", "listed", list_files)}
        except FileNotFoundError:
            return {}

    def _retry(self, name: str, what: str, ask: Callable[[Any, str], Any]) -> Any:
        """Return what ``ask`` returns, repeated where the place is remote and the error may pass."""
        for pause in (*PAUSES, None):
            try:
                return ask(self._connect()[0], self.path(name))
            except (FileNotFoundError, DynFocusError):
                raise
            except Exception as error:  # every kind of place has errors of its own
                if pause is None or self.local or isinstance(error, LASTING):
                    raise self._unreadable_error(name, error) from error
                log.warning("%s/%s could not be %s (%s), and is tried again", self.url, name, what, error)
                time.sleep(pause)
        raise AssertionError

    def _unreadable_error(self, name: str, error: object) -> DiskError:
        return DiskError(
            f"{self.url}/{name}, which cannot be read ({_describe_error(error)})",
            "a place that answers, with byte ranges of files",
            "Check the address, the connection and your permission there.",
        )


def _describe_error(error: object) -> str:
    return " ".join(f"{type(error).__name__} {error}".split()) if isinstance(error, Exception) else str(error)
