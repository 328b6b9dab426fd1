"""Run the service over HTTP until it is stopped: slow clients are hung up on, and what runs is finished."""

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from dynfocus.errors import ConfigError


class PatientProtocol(H11Protocol):
    """uvicorn's, that gives a client limited time to write a request, or the rest of one that is refused.

    uvicorn itself waits for ever for the end of a request's head, and reads what follows a refusal as long as it comes.

    Args:
        patience: seconds; while a request is answered they do not count, for reading its body has a limit of its own.
    """

    def __init__(self, *args: Any, patience: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self.patience = patience
        self.deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """As uvicorn's; the time begins."""
        super().connection_made(transport)
        self.mark()

    def data_received(self, data: bytes) -> None:
        """As uvicorn's; the time begins where nothing is being answered, and ends where something is."""
        super().data_received(data)
        self.mark()

    def connection_lost(self, exc: Exception | None) -> None:
        """As uvicorn's; the time ends."""
        if self.deadline is not None:
            self.deadline.cancel()
        super().connection_lost(exc)

    def mark(self) -> None:
        """Start or stop the time."""
        if self.cycle is not None and not self.cycle.response_complete:
            if self.deadline is not None:
                self.deadline.cancel()
            self.deadline = None
        elif self.deadline is None:
            self.deadline = self.loop.call_later(self.patience, self.hang_up)

    def hang_up(self) -> None:
        """End the connection, unless something is being answered now."""
        self.deadline = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()


class QuietServer(uvicorn.Server):
    """uvicorn's, that ends like any program when it is told to stop, and prints nothing itself."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at SIGTERM and SIGINT; a second SIGINT does not wait for what runs."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def open_socket(address: str, port: int) -> socket.socket:
    """A socket that listens; port 0 is any free one. Raises ConfigError where there can be none."""
    try:
        family, kind, _, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(place)
        opened.listen(256)
        return opened
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"--address {address} --port {port}, where nothing can listen ({error})",
            "an address of this machine and a free port",
            "Choose another port; 0 takes any free one.",
        ) from error


def run_server(app: FastAPI, opened: socket.socket, client_seconds: float, stop_seconds: float) -> None:
    """Answer until SIGTERM or SIGINT; then take nothing new, and finish what runs, for ``stop_seconds`` at most.

    A client has ``client_seconds`` to send the head of a request.
    """
    protocol: Any = partial(PatientProtocol, patience=client_seconds)
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(stop_seconds)),
    )
    QuietServer(config).run(sockets=[opened])
