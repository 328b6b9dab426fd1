"""A folder of files on a local disk, or anywhere that fsspec reaches."""

import os
import shutil
import time
from io import BytesIO
from logging import getLogger
from pathlib import Path
from typing import Any, BinaryIO

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from dynfocus.disk import whole
from dynfocus.errors import ConfigError, DiskError

PAUSES = (1.0, 5.0)  # seconds before a remote place is asked again
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
                self._open = (os.getpid(), *url_to_fs(self.url))
            except (ImportError, ValueError) as error:
                given = f"{self.url}, which cannot be opened ({error})"
                raise ConfigError(given, "a folder, or a URL that fsspec reads", "Install what reads it.") from error
        return self._open[1:]

    @property
    def local(self) -> bool:
        return isinstance(self._opened()[0], LocalFileSystem)

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """A file's bytes, or those from ``start`` to before ``end``; a remote place is asked up to three times.

        Raises:
            FileNotFoundError: if there is no such file.
            DiskError: if it cannot be read.
        """
        content: bytes | None = None
        for pause in (*PAUSES, None):
            try:
                files, root = self._opened()
                content = files.cat_file(f"{root}/{name}", start, end)
                break
            except FileNotFoundError:
                raise
            except Exception as error:  # every kind of place has errors of its own
                if pause is None or self.local:
                    raise self._unread(name, error) from error
                log.warning("%s/%s could not be read (%s), and is tried again", self.url, name, error)
                time.sleep(pause)
        assert content is not None
        if start is not None and end is not None and len(content) > end - start:
            raise self._unread(name, "it was sent whole where a range of bytes was asked for")
        return content

    def write(self, name: str, content: bytes | BinaryIO) -> None:
        """Write a file; on a local disk it is there whole or not at all.

        Raises:
            DiskError: if it cannot be written.
        """
        source = BytesIO(content) if isinstance(content, bytes) else content
        files, root = self._opened()
        path = f"{root}/{name}"
        if self.local:
            with whole(Path(path)) as part, open(part, "wb") as out:
                return shutil.copyfileobj(source, out, 1 << 20)
        try:
            with files.open(path, "wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)
        except Exception as error:  # every kind of place has errors of its own
            raise DiskError(
                f"{self.url}/{name}, which could not be written ({_said(error)})",
                "a place with room that may be written to",
                "Check the address and your permission there.",
            ) from error

    def sweep(self, prefix: str) -> None:
        """Delete what a process that was killed while it wrote files of such names has left on a local disk."""
        for half in Path(self._opened()[1]).glob(f".{prefix}*") if self.local else ():
            half.unlink(missing_ok=True)

    def sizes(self) -> dict[str, int] | None:
        """The files' names and sizes; None where there is no listing them, as on a web server."""
        files, root = self._opened()
        if "http" in files.protocol:
            return None
        try:
            files.invalidate_cache()
            return {Path(found["name"]).name: found["size"] or 0 for found in files.ls(root, detail=True)}
        except FileNotFoundError:
            return {}
        except Exception as error:  # every kind of place has errors of its own
            raise self._unread("", error) from error

    def _unread(self, name: str, error: object) -> DiskError:
        return DiskError(
            f"{self.url}/{name}, which cannot be read ({_said(error)})",
            "a place that answers, with byte ranges of files",
            "Check the address, the connection and your permission there.",
        )


def _said(error: object) -> str:
    return " ".join(f"{type(error).__name__} {error}".split()) if isinstance(error, Exception) else str(error)
