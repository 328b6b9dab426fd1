"""Answer requests one after another in one thread, with a bounded line in front of it."""

import asyncio
import hmac
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from time import time
from typing import Any, Protocol, runtime_checkable
from uuid import uuid4

from dynfocus.bridge.serve.media import MediaShelf, ShownMedia
from dynfocus.bridge.serve.protocol import ChatRequest, Reply, TextPieces, read_request
from dynfocus.bridge.serve.refusals import BusyError, KeyMissingError, TooLargeError, UnknownNameError, rename
from dynfocus.errors import ConfigError, DynFocusError
from dynfocus.inspection.answer import Answer
from dynfocus.models.conversations import read_conversation
from dynfocus.models.watching import Watch
from dynfocus.records.rows import Row
from dynfocus.video.media import Media


@runtime_checkable
class AnswersRows(Protocol):
    """What answers: `Answerer` for a trained model, `HostAnswerer` for another one."""

    encoded: int

    def answer(self, row: Row, media: Media, max_new_tokens: int = 16, watch: Watch | None = None) -> Answer: ...


@dataclass(frozen=True)
class Limits:
    """What a server takes.

    Attributes:
        requests: at a time, those that wait included.
        body: bytes of a request.
        client_seconds: for a request to arrive.
        new_tokens: of an answer, where the request does not ask for fewer.
    """

    requests: int = 64
    body: int = 64 << 20
    client_seconds: float = 60.0
    new_tokens: int = 128

    def __post_init__(self) -> None:
        for name in ("requests", "body", "client_seconds", "new_tokens"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} = {getattr(self, name)}", "a number above 0", "Raise it.")


MOST_CHARACTERS = 1_000_000


class LeftError(Exception):
    """Nobody waits for the answer any more."""


@dataclass(eq=False)
class Task:
    """One request on its way.

    Attributes:
        model: the name under which it is asked.
        request: as it was read.
        row: its conversation.
        media: what that shows.
        shown: the files that it holds.
        pieces: of the answer as it grows; None after the last one.
        gone: whether its client has left.
    """

    model: str
    request: ChatRequest
    row: Row
    media: Media
    shown: ShownMedia
    pieces: asyncio.Queue[str | None] = field(default_factory=asyncio.Queue)
    gone: bool = False
    identity: str = field(default_factory=lambda: f"chatcmpl-{uuid4().hex}")
    created: int = field(default_factory=lambda: int(time()))


class Service:
    """A model, the one thread in which it answers, and the requests that wait for it.

    Args:
        answerer: what answers; it is used in one thread alone.
        shelf: where the files of requests are.
        limits: what is taken.
        name: under which the model is served.
        key: that each request has to bring; None for none.
    """

    def __init__(
        self, answerer: AnswersRows, shelf: MediaShelf, limits: Limits, name: str, key: str | None = None
    ) -> None:
        self.answerer, self.shelf, self.limits, self.name, self.key = answerer, shelf, limits, name, key
        self.thread = ThreadPoolExecutor(1, "answers")
        self.requests = self.answered = 0

    def check_key(self, header: str | None) -> None:
        """Raises KeyMissingError if the header ``Authorization`` does not bring the server's key."""
        wanted = f"Bearer {self.key}".encode()
        if self.key is not None and not hmac.compare_digest(wanted, (header or "").encode("utf-8", "replace")):
            raise KeyMissingError("a request without this server's key", "Authorization: Bearer KEY", "Add the key.")

    def admit(self) -> Callable[[], None]:
        """Count one more request; returns what takes it off again, and does so once. Raises BusyError."""
        if self.requests >= self.limits.requests:
            raise BusyError(
                f"one request more than the {self.limits.requests} that are taken at a time",
                "fewer at once",
                "Ask again later.",
            )
        self.requests += 1
        counted = [1]

        def release() -> None:
            self.requests -= counted.pop() if counted else 0

        return release

    def prepare(self, body: bytes) -> Task:
        """Read a request and find its files; raises RequestError, PathEscapeError, VideoError or PromptError."""
        request = read_request(body)
        if request.model not in (None, "", self.name):
            raise UnknownNameError(f"the model {request.model!r}", f"the model {self.name!r}", "Ask for that one.")
        shown = self.shelf.bring([message.model_dump() for message in request.messages])
        try:
            row, seen = read_conversation(shown.messages, 0)
            check_length(row)
            return Task(self.name, request, row, None if seen is None else seen.save(self.shelf.received), shown)
        except DynFocusError as error:
            self.shelf.release(shown)
            raise rename(error, shown.names) from error

    def begin(self, task: Task, release: Callable[[], None]) -> asyncio.Future[Reply]:
        """Let a task wait for its turn; ``release`` is called when it is done, whoever waits for it."""
        loop = asyncio.get_running_loop()
        pieces = TextPieces(task.request.stops)

        def send(piece: str | None) -> None:
            with suppress(RuntimeError):  # the loop is closed: the server was stopped by force
                loop.call_soon_threadsafe(task.pieces.put_nowait, piece)

        def watch(text: str) -> bool:
            if piece := pieces.add(text):
                send(piece)
            return task.gone or pieces.cut(text) != text

        def work() -> Reply:
            try:
                reply = self._answer(task, watch, pieces)
                send(pieces.finish(reply.text))
                return reply
            except DynFocusError as error:
                raise rename(error, task.shown.names) from error
            finally:
                self.shelf.release(task.shown)
                send(None)

        future = asyncio.wrap_future(self.thread.submit(work), loop=loop)

        def end(done: asyncio.Future[Reply]) -> None:
            release()
            if not done.cancelled():
                done.exception()  # else asyncio complains where nobody waits for it

        future.add_done_callback(end)
        return future

    def _answer(self, task: Task, watch: Watch, pieces: TextPieces) -> Reply:
        if task.gone:
            raise LeftError
        before = self.answerer.encoded
        most = min(task.request.new_tokens or self.limits.new_tokens, self.limits.new_tokens)
        answer = self.answerer.answer(task.row, task.media, most, watch)
        if task.gone:
            raise LeftError
        self.answered += 1
        text, shows = pieces.cut(answer.answer), task.media is not None
        reused = self.answerer.encoded == before
        return Reply(self.name, answer, text, shows, reused, task.identity, task.created)

    def describe(self) -> dict[str, Any]:
        """How the server is."""
        return {"status": "ok", "model": self.name, "requests": self.requests, "answered": self.answered}


def check_length(row: Row) -> None:
    """Refuse a conversation that no context holds, before it takes minutes to cut it into tokens."""
    length = sum(len(turn.question) + len(turn.answer or "") for turn in row.turns) + len(row.system or "")
    if length > MOST_CHARACTERS:
        raise TooLargeError(
            f"a conversation of {length} characters", f"{MOST_CHARACTERS} at most", "Shorten the conversation."
        )
