"""A real process of `dynfocus serve` or `dynfocus demo`, and raw connections to it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai

KEY = "one two three"
PATIENCE = 600  # seconds, after which a condition counts as never met
# The command line of a process that may need a torchvision beside torch, and notes each run of a vision tower.
NOTING = """
import sys
from torchvision_beside_torch import import_torchvision
import_torchvision()
import torch
from dynfocus import cli
def note(module, *_):
    if type(module).__name__.endswith(("VisionModel", "VisionTransformer", "VisionTower")):
        with open(sys.argv[1], "a") as file:
            print(type(module).__name__, file=file)
torch.nn.modules.module.register_module_forward_hook(note)
sys.exit(cli.main(sys.argv[2:]))
"""


@dataclass
class Served:
    """A server's process and where it listens."""

    process: subprocess.Popen[str]
    url: str

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2].partition("/")[0])

    def client(self, **options: Any) -> openai.OpenAI:
        return openai.OpenAI(**{"base_url": self.url, "api_key": KEY, "max_retries": 0, "timeout": PATIENCE, **options})

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def send(self, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
        """Send a whole request of any bytes, and read the status and the JSON of the reply."""
        with self.connect() as raw:
            raw.sendall(head(**{"content-length": str(len(body)), **headers}) + body)
            return read_reply(raw)

    def health(self) -> dict[str, Any]:
        with self.connect() as raw:
            raw.sendall(head("GET", "/health"))
            return read_reply(raw)[1]


@contextmanager
def start(
    folder: Path, *options: str, verb: str = "serve", model: str = "--model", runs: Path | None = None
) -> Iterator[Served]:
    """A server of a trained model or ``--host`` on a free port; ``runs`` gets a line for each run of a vision tower."""
    python = [sys.executable, *(("-m", "dynfocus") if runs is None else ("-c", NOTING, str(runs)))]
    command = [*python, verb, model, str(folder), "--port", "0", "--device", "cpu"]
    places = {"DYNFOCUS_SERVE_KEY": KEY, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    places["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | places
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert " at http://" in line, process.stderr and process.stderr.read()
        yield Served(process, line.split()[-1])
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()


def head(method: str = "POST", path: str = "/v1/chat/completions", **headers: str) -> bytes:
    """The head of a request."""
    lines = {"host": "here", "authorization": f"Bearer {KEY}", **headers}
    text = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{text}\r\n".encode()


def read_reply(raw: socket.socket) -> tuple[int, dict[str, Any]]:
    """The status of one reply and its JSON."""
    with raw.makefile("rb") as lines:
        status = int(lines.readline().split()[1])
        headers = dict(line.decode().strip().lower().split(": ", 1) for line in iter(lines.readline, b"\r\n"))
        return status, json.loads(lines.read(int(headers["content-length"])))


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; one that is not met fails the test."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
