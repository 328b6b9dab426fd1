"""Map addresses of HTTP to the service: chat completions, the list of models, and how the server is."""

import asyncio
from collections.abc import AsyncIterator
from logging import getLogger
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from dynfocus.bridge.serve.protocol import Reply, write_event, write_piece
from dynfocus.bridge.serve.refusals import (
    SlowClientError,
    TooLargeError,
    UnknownNameError,
    describe_error,
    describe_fault,
)
from dynfocus.bridge.serve.service import Limits, Service, Task
from dynfocus.errors import DynFocusError

log = getLogger(__name__)
LEFT = 499  # the status that nobody reads, as nginx has it


def build_app(service: Service) -> FastAPI:
    """The application that FastAPI's servers run."""
    app = FastAPI(title="DynFocus", docs_url=None, redoc_url=None, openapi_url=None)

    @app.exception_handler(DynFocusError)
    async def refuse(request: Request, error: DynFocusError) -> Response:
        status, body = describe_error(error)
        if status == 500:
            log.error("a request failed", exc_info=error)
        return JSONResponse(body, status, {"retry-after": "1"} if status == 429 else None)

    @app.exception_handler(HTTPException)
    async def refuse_address(request: Request, error: HTTPException) -> Response:
        given = f"{request.method} {request.url.path[:100]}"
        needed = "POST /v1/chat/completions, GET /v1/models or GET /health"
        body = describe_error(UnknownNameError(given, needed, "Correct the address."))[1]
        return JSONResponse(body, error.status_code, error.headers)

    @app.exception_handler(ClientDisconnect)
    async def say_nothing(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=LEFT)

    @app.exception_handler(Exception)
    async def say_fault(request: Request, error: Exception) -> Response:
        return JSONResponse(describe_fault(), 500)

    @app.get("/health")
    async def say_health() -> dict[str, Any]:
        return service.describe()

    @app.get("/v1/models")
    async def list_models(request: Request) -> dict[str, Any]:
        service.check_key(request.headers.get("authorization"))
        model = {"id": service.name, "object": "model", "created": 0, "owned_by": "dynfocus"}
        return {"object": "list", "data": [model]}

    @app.post("/v1/chat/completions")
    async def complete(request: Request) -> Response:
        service.check_key(request.headers.get("authorization"))
        release = service.admit()
        try:
            body = await read_body(request, service.limits)
            task = await asyncio.to_thread(service.prepare, body)
            future = service.begin(task, release)
        except BaseException:
            release()
            raise
        del body
        return await (stream(request, task, future) if task.request.stream else answer(request, task, future))

    return app


async def read_body(request: Request, limits: Limits) -> bytes:
    """The body of a request, of which no more is kept than the limit.

    Raises:
        TooLargeError: if it is larger, or says so.
        SlowClientError: if it does not arrive in time.
    """
    too_large = TooLargeError(
        f"a request of more than {limits.body} bytes", "one within the limit", "Send a smaller file."
    )
    if int(request.headers.get("content-length", "0")) > limits.body:  # a number: h11 has refused anything else
        raise too_large
    body = bytearray()

    async def read() -> None:
        async for block in request.stream():
            body.extend(block)
            if len(body) > limits.body:
                raise too_large

    try:
        await asyncio.wait_for(read(), limits.client_seconds)
    except asyncio.TimeoutError as error:
        raise SlowClientError(
            f"a request of which {len(body)} bytes came in {limits.client_seconds:g} s",
            "the whole request in that time",
            "Send less, or ask whoever runs the server to raise --client-seconds.",
        ) from error
    return bytes(body)


async def answer(request: Request, task: Task, future: asyncio.Future[Reply]) -> Response:
    """The whole reply, when it is there."""
    if not await wait_for_either(request, task, future):
        return Response(status_code=LEFT)
    return JSONResponse(future.result().whole())


async def stream(request: Request, task: Task, future: asyncio.Future[Reply]) -> Response:
    """The reply piece by piece; an error before the first one has a status of its own."""
    first = asyncio.ensure_future(task.pieces.get())
    if not await wait_for_either(request, task, first):
        return Response(status_code=LEFT)
    if first.result() is None:
        (await future).whole()  # raises what went wrong
    return StreamingResponse(write_stream(task, first.result(), future), media_type="text/event-stream")


async def write_stream(task: Task, piece: str | None, future: asyncio.Future[Reply]) -> AsyncIterator[str]:
    """The events of a stream, of which the first piece of text is there."""
    delta = {"role": "assistant", "content": ""}
    try:
        while piece is not None:
            if piece:
                yield write_piece(task.identity, task.created, task.model, delta | {"content": piece})
                delta = {}
            piece = await task.pieces.get()
        reply = await future
        options = task.request.stream_options
        yield reply.end(options is not None and options.include_usage)
    except DynFocusError as error:
        yield write_event(describe_error(error)[1])
    finally:
        task.gone = True  # nobody reads on: the model need not either


async def wait_for_either(request: Request, task: Task, future: asyncio.Future[Any]) -> bool:
    """Wait for a result, or until the client leaves, which ends its task; returns whether there is a result."""
    leaving = asyncio.ensure_future(_wait_until_left(request))
    try:
        await asyncio.wait({leaving, future}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        task.gone = not future.done()
    return future.done()


async def _wait_until_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
