"""Define why a server refuses a request, and write errors in OpenAI's form."""

from typing import Any

from dynfocus.errors import (
    ContextLengthError,
    DynFocusError,
    MissingFileError,
    PathEscapeError,
    PromptError,
    RequestError,
    VideoError,
)


class RequestFormError(RequestError):
    """A request of another form than that of chat completions."""


class KeyMissingError(RequestError):
    """A request without the server's key."""


class UnknownNameError(RequestError):
    """An address or a model that the server does not have."""


class SlowClientError(RequestError):
    """A request whose body does not arrive in time."""


class TooLargeError(RequestError):
    """A request or a video that is larger or longer than the server takes."""


class BusyError(RequestError):
    """One request more than the server takes at a time."""


# The HTTP status and OpenAI's `code` of each error, the narrower class first; any other is the server's own fault.
ANSWERS: tuple[tuple[type[DynFocusError], int, str], ...] = (
    (KeyMissingError, 401, "invalid_api_key"),
    (UnknownNameError, 404, "not_found"),
    (SlowClientError, 408, "request_timeout"),
    (TooLargeError, 413, "request_too_large"),
    (BusyError, 429, "rate_limit_exceeded"),
    (RequestFormError, 400, "invalid_request"),
    (PathEscapeError, 400, "path_not_allowed"),
    (MissingFileError, 400, "media_not_found"),
    (VideoError, 400, "media_unreadable"),
    (ContextLengthError, 400, "context_length_exceeded"),
    (PromptError, 400, "invalid_prompt"),
)
TYPES = {401: "authentication_error", 429: "rate_limit_error", 500: "server_error"}


def rename(error: DynFocusError, names: dict[str, str]) -> DynFocusError:
    """The same error, with the client's own names of files (by their paths) in place of where they lie here."""
    parts = [error.given, error.needed, error.do]
    for path, name in names.items():
        parts = [text.replace(path, name) for text in parts]
    return type(error)(*parts)


def describe_error(error: DynFocusError) -> tuple[int, dict[str, Any]]:
    """The HTTP status of an error, and the body that says it."""
    status, code = next((answer[1:] for answer in ANSWERS if isinstance(error, answer[0])), (500, "server_error"))
    parts = {"message": str(error), "given": error.given, "needed": error.needed, "do": error.do}
    kind = TYPES.get(status, "invalid_request_error")
    return status, {"error": parts | {"type": kind, "param": None, "code": code}}


def describe_fault() -> dict[str, Any]:
    """The body that says that the server failed, without its secrets; the log has the cause."""
    fault = DynFocusError(
        "a request at which the server failed", "nothing else of you", "Whoever runs the server finds it in its log."
    )
    return describe_error(fault)[1]
