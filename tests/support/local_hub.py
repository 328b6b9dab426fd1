"""A real HTTP server that keeps repositories of models as the Hugging Face Hub does, in memory."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlparse

COMMIT = "a" * 40


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "LocalHub"

    def do_POST(self) -> None:
        path, files = urlparse(self.path).path, self.server.files
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if path == "/api/repos/create":
            name = json.loads(body)["name"]
            self.reply({"url": f"{self.server.url}/me/{name}", "id": f"me/{name}"})
        elif "/preupload/" in path:
            named = [file["path"] for file in json.loads(body)["files"]]
            self.reply({"files": [{"path": one, "uploadMode": "regular", "shouldIgnore": False} for one in named]})
        elif "/commit/" in path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.reply({"success": True, "commitUrl": f"{self.server.url}/me/x/commit/{COMMIT}", "commitOid": COMMIT})
        else:
            self.reply({"errors": [], "warnings": []})  # of /api/validate-yaml

    def do_GET(self) -> None:
        name = urlparse(self.path).path.partition("/resolve/main/")[2]
        found = self.server.files.get(name)
        if found is None:
            self.reply({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
        else:
            facts = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(found).hexdigest()}"'}
            self.reply(found, 200, facts)

    do_HEAD = do_GET

    def reply(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in ({"content-length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Nothing on the screen."""


class LocalHub(ThreadingHTTPServer):
    """One repository; ``files`` are what was uploaded, by their names."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.url = f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serve_hub() -> Iterator[LocalHub]:
    """A Hub that listens at ``url`` until the block ends."""
    hub = LocalHub()
    thread = Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
