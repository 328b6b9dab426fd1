"""Read requests of OpenAI's chat completions, and write replies in their form, whole or piece by piece."""

from dataclasses import dataclass, field
from json import dumps
from time import time
from typing import Annotated, Any
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dynfocus.bridge.serve.refusals import RequestFormError
from dynfocus.inspection.answer import Answer
from dynfocus.inspection.output import finite


class Message(BaseModel):
    """One message of a conversation; the parts of its content are read by `read_conversation`."""

    model_config = ConfigDict(strict=True)
    role: str
    content: str | list[dict[str, Any]] | None = None


class StreamOptions(BaseModel):
    """What a stream holds beside the text."""

    model_config = ConfigDict(strict=True)
    include_usage: bool = False


class ChatRequest(BaseModel):
    """A request; fields that are not named here are left out of account, as are temperature and top_p."""

    model_config = ConfigDict(strict=True)
    model: str | None = None
    messages: list[Message] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    n: int | None = Field(None, ge=1, le=1)
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts before which an answer ends."""
        return tuple(filter(None, [self.stop] if isinstance(self.stop, str) else self.stop or []))

    @property
    def new_tokens(self) -> int | None:
        """Most tokens of the answer, if the request says it."""
        return self.max_completion_tokens or self.max_tokens


def read_request(body: bytes) -> ChatRequest:
    """The request that a body holds; raises RequestFormError."""
    try:
        return ChatRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise RequestFormError(
            f"a request whose {place or 'body'} is wrong ({first['msg']})",
            "JSON as OpenAI's chat completions have it, with one answer (n) and finite numbers",
            "Correct it.",
        ) from error


@dataclass
class TextPieces:
    """Cuts an answer that grows into pieces that are safe to send: nothing that stands in one changes later.

    Attributes:
        stops: texts before which the answer ends.
        sent: what went out.
    """

    stops: tuple[str, ...] = ()
    sent: str = ""

    def cut(self, text: str) -> str:
        """A text until the first of the stops."""
        places = [place for stop in self.stops if (place := text.find(stop)) >= 0]
        return text[: min(places)].strip() if places else text

    def add(self, text: str) -> str:
        """What can be sent now of an answer that is so far ``text``."""
        held = max(map(len, self.stops), default=1) - 1  # a stop may have begun
        safe = self.cut(text)
        safe = (
            (safe[: len(safe) - held] if safe == text else safe).rstrip("\ufffd").strip()
        )  # or a letter, half written
        return self.finish(safe) if len(safe) > len(self.sent) and safe.startswith(self.sent) else ""

    def finish(self, text: str) -> str:
        """What is left to send of a whole answer."""
        left = text[len(self.sent) :]
        self.sent = text
        return left


@dataclass(frozen=True)
class Reply:
    """What was answered to one request.

    Attributes:
        model: the name under which the model is served.
        answer: the answer, and what it rests on.
        text: its text until the first stop.
        shows: whether the conversation shows anything.
        reused: whether the video was encoded before, for another question.
        identity: of the reply.
        created: in seconds since 1970.
    """

    model: str
    answer: Answer
    text: str
    shows: bool
    reused: bool
    identity: str = field(default_factory=lambda: f"chatcmpl-{uuid4().hex}")
    created: int = field(default_factory=lambda: int(time()))

    @property
    def finish(self) -> str:
        """Why the answer ends."""
        return "length" if self.answer.cut and self.text == self.answer.answer else "stop"

    @property
    def usage(self) -> dict[str, Any]:
        """The tokens that it cost."""
        answer = self.answer
        return {
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.new_tokens,
            "total_tokens": answer.prompt_tokens + answer.new_tokens,
            "prompt_tokens_details": {"visual_tokens": answer.visual_tokens},
        }

    @property
    def selection(self) -> dict[str, Any] | None:
        """Which frames the answer rests on; None where nothing is shown."""
        if not self.shows:
            return None
        chosen, scores = self.answer.selection, self.answer.selection.frame_scores
        return finite(
            {
                "frames": len(chosen.seconds),
                "kept_seconds": [chosen.seconds[frame] for frame in chosen.kept],
                "kept_scores": [scores[frame] for frame in chosen.kept] if scores else None,
                "cones": chosen.cones,
                "rods": chosen.rods,
                "reused": self.reused,
                "unknown_words": self.answer.unknown,
            }
        )

    def whole(self) -> dict[str, Any]:
        """The reply as one object."""
        message = {"role": "assistant", "content": self.text}
        choice = {"index": 0, "message": message, "finish_reason": self.finish, "logprobs": None}
        return self._write("chat.completion", [choice], usage=self.usage, dynfocus=self.selection)

    def end(self, with_usage: bool) -> str:
        """The last pieces of a stream."""
        choice = {"index": 0, "delta": {}, "finish_reason": self.finish}
        pieces = [self._write("chat.completion.chunk", [choice], dynfocus=self.selection)]
        pieces += [self._write("chat.completion.chunk", [], usage=self.usage)] * with_usage
        return "".join(map(write_event, pieces)) + "data: [DONE]\n\n"

    def _write(self, kind: str, choices: list[Any], **further: Any) -> dict[str, Any]:
        head = {"id": self.identity, "object": kind, "created": self.created, "model": self.model}
        return head | {"choices": choices} | further


def write_piece(identity: str, created: int, model: str, delta: dict[str, str]) -> str:
    """A piece of a stream, before its end."""
    head = {"id": identity, "object": "chat.completion.chunk", "created": created, "model": model}
    return write_event(head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})


def write_event(content: dict[str, Any]) -> str:
    """One event of a stream."""
    return f"data: {dumps(content, allow_nan=False)}\n\n"
