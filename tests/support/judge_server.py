"""A real HTTP server that speaks the protocol of chat completions: rightly, slowly, wrongly, or not at all."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

Behaviour = Callable[["Handler", str], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "JudgeServer"

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            self.server.requests.append(request)
            self.server.keys.append(self.headers.get("authorization"))
            script = self.server.script
            behave = script.pop(0) if len(script) > 1 else script[0]
        try:
            behave(self, request["messages"][-1]["content"])
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_POST

    def reply(self, body: bytes, status: int = 200, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"content-type": kind, "content-length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def begin(self, status: int = 200) -> None:
        """Begin a body of unknown length, which lasts as long as the connection."""
        self.close_connection = True
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("connection", "close")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Nothing on the screen."""


class JudgeServer(ThreadingHTTPServer):
    """Answers request after request by a script of behaviours; the last one goes on.

    Attributes:
        requests, keys: the bodies and the headers of authorization that have come.
    """

    daemon_threads = True

    def __init__(self, script: list[Behaviour]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.lock = list(script), Lock()
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, *args: Any) -> None:
        """A client that has gone is no mistake."""


@contextmanager
def serve(*script: Behaviour) -> Iterator[JudgeServer]:
    with JudgeServer(list(script)) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()


def completion(content: Any) -> bytes:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
    return json.dumps({"id": "1", "object": "chat.completion", "model": "m", "choices": [choice]}).encode()


def right(content: Any = '{"correct": "yes", "score": 4}') -> Behaviour:
    return lambda handler, prompt: handler.reply(completion(content))


def body(text: str | bytes, status: int = 200, kind: str = "application/json", **headers: str) -> Behaviour:
    data = text.encode() if isinstance(text, str) else text
    return lambda handler, prompt: handler.reply(data, status, kind, **headers)


def error(status: int, message: str = "no", code: str | None = None, **headers: str) -> Behaviour:
    return body(json.dumps({"error": {"message": message, "type": "t", "code": code}}), status, **headers)


def slow(seconds: float) -> Behaviour:
    def behave(handler: Handler, prompt: str) -> None:
        time.sleep(seconds)
        handler.reply(completion('{"correct": "yes", "score": 4}'))

    return behave


def dripping(status: int = 200) -> Behaviour:
    """A body that begins, and goes on a byte at a time for ever."""

    def behave(handler: Handler, prompt: str) -> None:
        handler.begin(status)
        while True:
            handler.wfile.write(b" ")
            time.sleep(0.02)

    return behave


def endless(status: int = 200) -> Behaviour:
    def behave(handler: Handler, prompt: str) -> None:
        handler.begin(status)
        while True:
            handler.wfile.write(b" " * 2**16)

    return behave


def cut(handler: Handler, prompt: str) -> None:
    """Half of the body that was announced."""
    whole = completion('{"correct": "yes", "score": 4}')
    handler.send_response(200)
    handler.send_header("content-length", str(len(whole)))
    handler.end_headers()
    handler.wfile.write(whole[: len(whole) // 2])
    handler.close_connection = True


def hang_up(handler: Handler, prompt: str) -> None:
    handler.close_connection = True
