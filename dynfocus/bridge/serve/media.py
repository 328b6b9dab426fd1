"""Find what a request shows: in its own text, below one folder, or, where that is allowed, at a web address."""

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from os.path import isfile
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any
from urllib.parse import unquote, unquote_to_bytes, urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    UnknownHandler,
)

import av

from dynfocus.bridge.serve.refusals import TooLargeError, rename
from dynfocus.data.sketches.digests import Stamp, file_stamp
from dynfocus.errors import DynFocusError, MissingFileError, PathEscapeError, PromptError
from dynfocus.models.conversations import KINDS
from dynfocus.records.atomic import atomic_write
from dynfocus.video.containers import open_container
from dynfocus.video.numbered import NumberedFrames

BLOCK = 1 << 16
MOST_FILES = 256  # of one request
SHOWN = 60  # characters of an address in an error


@dataclass
class ShownMedia:
    """A conversation whose files lie on this machine.

    Attributes:
        messages: with paths in place of addresses.
        names: what the client calls each path.
        received: of these paths, those that were received.
    """

    messages: list[dict[str, Any]]
    names: dict[str, str] = field(default_factory=dict)
    received: list[Path] = field(default_factory=list)


class MediaShelf:
    """Finds the files of requests, and keeps those that clients sent until others have taken their place.

    Args:
        folder: files below it may be asked about; None for no files.
        received: an empty folder of this server's own, for what clients send.
        remembered: how many received files stay there while no request needs them.
        most_bytes: of a file at a web address.
        most_seconds: of a video.
        patience: seconds that a web address may take.
        allow_remote: whether web addresses are fetched.
    """

    def __init__(
        self,
        folder: Path | None,
        received: Path,
        remembered: int,
        most_bytes: int,
        most_seconds: float,
        patience: float,
        allow_remote: bool = False,
    ) -> None:
        self.folder = None if folder is None else folder.resolve()
        self.received, self.remembered, self.allow_remote = received, remembered, allow_remote
        self.most_bytes, self.most_seconds, self.patience = most_bytes, most_seconds, patience
        self.users: dict[Path, int] = {}  # of each received file, requests that need it; the latest used comes last
        self.lengths: dict[Stamp, float] = {}
        self.lock = Lock()

    def bring(self, messages: Sequence[Mapping[str, Any]]) -> ShownMedia:
        """A conversation with paths in place of addresses; `release` gives back what it holds.

        Raises:
            PathEscapeError: if a path leads out of the folder, or there is none.
            MissingFileError: if there is no such file.
            VideoError: if a file cannot be read.
            PromptError: if an address is of no form that is taken.
            TooLargeError: if a file is too large, or a video too long.
        """
        shown = ShownMedia([])
        try:
            for message in messages:
                content = message.get("content")
                parts = [self._bring(part, shown) for part in content] if isinstance(content, list) else content
                shown.messages.append({"role": message.get("role"), "content": parts})
            for path, name in shown.names.items():
                self.check_length(Path(path), name)
        except DynFocusError as error:
            self.release(shown)
            raise rename(error, shown.names) from error
        except BaseException:
            self.release(shown)
            raise
        return shown

    def release(self, shown: ShownMedia) -> None:
        """Say that a request needs its files no longer."""
        with self.lock:
            for path in shown.received:
                self.users[path] -= 1
            unused = [path for path, count in self.users.items() if not count]
            for path in unused[: max(0, len(self.users) - self.remembered)]:
                del self.users[path]
                path.unlink(missing_ok=True)

    def _bring(self, part: Mapping[str, Any], shown: ShownMedia) -> dict[str, Any]:
        kind = part.get("type")
        if not isinstance(kind, str) or kind not in KINDS:
            return dict(part)
        given = next((part[key] for key in (kind, "url", "path") if part.get(key) is not None), None)
        given = given.get("url") if isinstance(given, Mapping) else given
        addresses: list[Any] = given if isinstance(given, list) else [given]
        if not addresses or not all(isinstance(one, str) and one for one in addresses):
            raise PromptError(
                f"a part of type {kind} without an address", f'{{"{kind}": {{"url": "..."}}}}', "Correct the request."
            )
        if len(shown.names) + len(addresses) > MOST_FILES:
            raise TooLargeError(f"a request that shows more than {MOST_FILES} files", "fewer", "Leave some out.")
        paths = [str(self._find(address, shown)) for address in addresses]
        return {"type": kind, kind: paths if isinstance(given, list) else paths[0]}

    def _find(self, address: str, shown: ShownMedia) -> Path:
        scheme = address.partition(":")[0].lower()
        if scheme == "data":
            return self._keep(decode_data(address), address, shown)
        if scheme in ("http", "https"):
            return self._keep(self._fetch(address), address, shown)
        path = self.find_file(address)
        shown.names[str(path)] = shorten(address)
        return path

    def find_file(self, address: str, name: str = "") -> Path:
        """The file in the folder that an address, or ``name``, names; raises PathEscapeError or MissingFileError."""
        name = name or shorten(address)
        if self.folder is None:
            raise PathEscapeError(
                f"the file {name}, to a server that shows no folder",
                "a data: address",
                "Send the file itself, or let whoever runs the server start it with --media FOLDER.",
            )
        text = address
        if address.lower().startswith("file:"):
            parts = urlsplit(address)
            text = unquote(parts.path) if parts.netloc in ("", "localhost") else ""
        try:
            path = (self.folder / text).resolve()
        except (OSError, ValueError, RuntimeError):  # a NUL, a circle of links, a name that is too long
            path = Path("/")
        if not text or not path.is_relative_to(self.folder):
            raise PathEscapeError(
                f"the file {name}, which does not lie in the folder that this server shows",
                "a path below that folder, relative to it or whole; links must not lead out of it",
                "Correct the path.",
            )
        if not isfile(path):  # nor a pipe, which would never end
            raise MissingFileError(f"there is no file {name}", "a video or image file", "Check the path.")
        return path

    def _keep(self, data: bytes, address: str, shown: ShownMedia) -> Path:
        """The file with this content, which has the same path and times as long as it stays."""
        path = self.received / hashlib.sha256(data).hexdigest()
        with self.lock:
            if path not in self.users:
                with atomic_write(path) as part:
                    part.write_bytes(data)
            self.users[path] = self.users.pop(path, 0) + 1
            shown.received.append(path)
        shown.names[str(path)] = shorten(address)
        return path

    def _fetch(self, address: str) -> bytes:
        if not self.allow_remote:
            raise PromptError(
                f"the web address {shorten(address)}, to a server that fetches none",
                "a data: address, or a file in the folder that the server shows",
                "Fetch it yourself, or let whoever runs the server start it with --allow-remote.",
            )
        end, data = monotonic() + self.patience, bytearray()
        try:
            with _build_opener().open(address, timeout=self.patience) as reply:
                while block := reply.read1(BLOCK):
                    data += block
                    if len(data) > self.most_bytes:
                        raise TooLargeError(
                            f"{shorten(address)}, which is larger than {self.most_bytes} bytes",
                            "a file within the limit",
                            "Make it smaller, or cut it.",
                        )
                    if monotonic() > end:
                        raise TimeoutError(f"it takes longer than {self.patience:g} s")
        except (OSError, ValueError, HTTPException) as error:
            raise MissingFileError(
                f"{shorten(address)}, which cannot be fetched ({error})", "an address with a file", "Check the address."
            ) from error
        return bytes(data)

    def check_length(self, path: Path, name: str) -> None:
        """Raises TooLargeError if the video at ``path``, which clients call ``name``, is too long."""
        stamp = file_stamp(path)
        if stamp not in self.lengths:
            with self.lock:
                for oldest in list(self.lengths)[:-1000]:
                    del self.lengths[oldest]
            self.lengths[stamp] = measure_seconds(path)
        if self.lengths[stamp] > self.most_seconds:
            raise TooLargeError(
                f"{name}, which lasts {self.lengths[stamp]:.0f} s",
                f"videos of at most {self.most_seconds:g} s",
                "Cut it into parts.",
            )


def measure_seconds(path: Path) -> float:
    """How long a video lasts by its packets, or by its header where they do not tell; 0 of an image.

    Raises:
        VideoError: if it cannot be read.
    """
    video = NumberedFrames(path)
    if video.by_pillow:
        return 0.0
    if video.packets.times is not None:
        return float(video.packets.times[-1]) if len(video.packets.times) else 0.0
    with open_container(path) as container:
        return (container.duration or 0) / av.time_base


def decode_data(address: str) -> bytes:
    """What a data: address holds; raises PromptError if it is damaged, or nothing."""
    head, comma, text = address.partition(",")
    try:
        is_base64 = head.lower().endswith(";base64")
        data = base64.b64decode(unquote_to_bytes(text), validate=True) if is_base64 else unquote_to_bytes(text)
    except (binascii.Error, ValueError):
        data = b""
    if not comma or not data:
        raise PromptError(
            f"the address {shorten(address)}, which holds no data",
            "data:video/mp4;base64, and then the file in base64",
            "Encode the file again.",
        )
    return data


def shorten(address: str) -> str:
    """An address as an error names it."""
    if address[:5].lower() == "data:":
        return address[:SHOWN].partition(",")[0] + ",..."
    return address if len(address) <= SHOWN else address[:SHOWN] + "..."


def _build_opener() -> OpenerDirector:
    """What opens http and https alone, also where it is sent on; without the environment's proxies."""
    opener = OpenerDirector()
    errors = (HTTPErrorProcessor(), HTTPDefaultErrorHandler(), UnknownHandler())
    for handler in (HTTPHandler(), HTTPSHandler(), HTTPRedirectHandler(), *errors):
        opener.add_handler(handler)
    return opener
