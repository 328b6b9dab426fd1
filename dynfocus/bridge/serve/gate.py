"""Let only those requests through to Gradio that the page itself makes, within the server's limits."""

import base64
import binascii
import hmac
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dynfocus.bridge.serve.app import LEFT, read_body
from dynfocus.bridge.serve.media import MediaShelf
from dynfocus.bridge.serve.refusals import (
    BusyError,
    KeyMissingError,
    RequestFormError,
    UnknownNameError,
    describe_error,
)
from dynfocus.bridge.serve.service import Limits
from dynfocus.errors import DynFocusError

API, UPLOAD = "/gradio_api/", "/gradio_api/upload"
FILE = f"{API}file="
MANIFEST = "/manifest.json"  # holds the page's title alone; browsers ask for it without a password
PAGES = ("/", "/config", "/theme.css", "/favicon.ico", MANIFEST, "/robots.txt")
READS = tuple(f"{API}{name}" for name in ("info", "queue/data", "upload_progress", "startup-events"))
WRITES = (UPLOAD, *(f"{API}{name}" for name in ("queue/join", "cancel", "reset")))
SCRIPTS = ("/assets/", "/static/")
AROUND = 1 << 16  # bytes of a request around the file in it, and of one without a file
HEADERS = {
    # Scripts, styles and fonts are Gradio's own files and lines of its page; nothing is asked for elsewhere.
    "content-security-policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; worker-src 'self' blob:; "
        "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Gate:
    """Stands before Gradio, whose own routes also fetch addresses and show files of this machine.

    Args:
        app: what answers behind it.
        shelf: files in its folder alone may be named.
        limits: what is taken.
        key: that each request has to bring as a password; None for none.
        make_room: called before a file is taken.
    """

    def __init__(
        self, app: ASGIApp, shelf: MediaShelf, limits: Limits, key: str | None, make_room: Callable[[], None]
    ) -> None:
        self.app, self.shelf, self.limits, self.key, self.make_room = app, shelf, limits, key, make_room
        self.sending = 0  # requests that bring something

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            await self._pass(scope, receive, send_guarded)
        except DynFocusError as error:
            await refuse(error)(scope, receive, send_guarded)
        except ClientDisconnect:
            await Response(status_code=LEFT)(scope, receive, send_guarded)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, path = Request(scope, receive), scope["path"]
        if path != MANIFEST:
            self._check_key(request.headers.get("authorization", ""))
        if request.method in ("GET", "HEAD") and path.startswith(FILE):
            self.shelf.find_file(path.removeprefix(FILE), Path(path).name)
        elif request.method == "POST" and path in WRITES:
            await self._take(request, send)
            return
        elif request.method not in ("GET", "HEAD") or not (path in PAGES + READS or path.startswith(SCRIPTS)):
            given = f"{request.method} {path[:100]}"
            raise UnknownNameError(given, "the page at /", "Open that one in a browser.")
        await self.app(scope, receive, send)

    def _check_key(self, header: str) -> None:
        """HTTP's basic way: browsers ask for it by themselves, and every name of a user will do."""
        if self.key is None:
            return
        kind, _, text = header.partition(" ")
        try:
            given = base64.b64decode(text).partition(b":")[2] if kind.lower() == "basic" else b""
        except binascii.Error:
            given = b""
        if not hmac.compare_digest(given, self.key.encode()):
            raise KeyMissingError("a request without this server's key", "the key as the password", "Add the key.")

    async def _take(self, request: Request, send: Send) -> None:
        """Pass on what comes with a body, once all of it is here and names no file but those that were dropped."""
        if self.sending >= self.limits.requests:
            raise BusyError(f"more than {self.limits.requests} requests at a time", "fewer at once", "Try again later.")
        self.sending += 1
        try:
            is_file = request.url.path == UPLOAD
            most = self.limits.body + AROUND if is_file else AROUND
            body = await read_body(request, replace(self.limits, body=most))
            if is_file:
                self.make_room()
            else:
                for path in find_paths(body):
                    self.shelf.find_file(path, Path(path).name)
        finally:
            self.sending -= 1
        left = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_again() -> Message:
            return left.pop() if left else await request.receive()

        await self.app(request.scope, receive_again, send)


def find_paths(body: bytes) -> Iterator[str]:
    """The files that a request of Gradio's page names; raises RequestFormError if it is no such request."""
    wrong = RequestFormError("a request that the page does not make", "one of the page's own", "Use the page.")
    try:
        waiting: list[Any] = [json.loads(body)]
    except (ValueError, RecursionError) as error:
        raise wrong from error
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict) and "path" in one:
            if not isinstance(one["path"], str):
                raise wrong
            yield one["path"]
        waiting += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()


def refuse(error: DynFocusError) -> Response:
    """An error as the page shows it: one sentence."""
    status = describe_error(error)[0]
    more = {HTTPStatus.UNAUTHORIZED: {"www-authenticate": 'Basic realm="DynFocus"'}, 429: {"retry-after": "1"}}
    return PlainTextResponse(str(error), status, more.get(status))
