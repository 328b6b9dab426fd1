"""An endpoint that judges, over real HTTP: right, slow, busy, broken, cut off, malformed and hostile."""

import logging
import traceback
from collections.abc import Iterator
from io import StringIO
from threading import Event
from typing import Any

import judge_server as served
import pytest

from dynfocus.errors import ConfigError, JudgeError
from dynfocus.evals.judges.endpoint import KEY, LARGEST, RETRIES, SILENCE, Endpoint
from dynfocus.evals.judges.judging import NoReply

SECRET = "sk-Tr0ub4dor-and-3-more-words"
REPLY = '{"correct": "yes", "score": 4}'


OPEN: list[Endpoint] = []


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(KEY, SECRET)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield
    while OPEN:
        OPEN.pop().close()


def connect(url: str | None, model: str | None = "judge-1", **options: Any) -> Endpoint:
    options = {"workers": 1, "max_requests": None, "timeout": 30.0, "temperature": 0.0, "pause": 0.01} | options
    OPEN.append(Endpoint(url, model, **options))
    return OPEN[-1]


def ask(endpoint: Endpoint) -> str:
    return endpoint.ask("Is it right?", Event())


def test_a_request_says_model_prompt_temperature_and_key() -> None:
    with served.serve(served.right()) as server:
        assert ask(connect(server.url)) == REPLY
    [request] = server.requests
    assert request == {
        "model": "judge-1",
        "messages": [{"role": "user", "content": "Is it right?"}],
        "temperature": 0.0,
    }
    assert server.keys == [f"Bearer {SECRET}"]


@pytest.mark.parametrize(
    "first",
    [
        served.error(429, retry_after="0.05"),
        served.error(429, retry_after="Wed, 21 Oct 2026 07:28:00 GMT"),
        served.error(500),
        served.error(503),
        served.error(408),
        served.body("<html>Bad gateway</html>", 502, "text/html"),
        served.endless(500),
        served.dripping(503),
        served.cut,
        served.hang_up,
    ],
)
def test_what_may_pass_is_asked_again(first: served.Behaviour) -> None:
    with served.serve(first, first, served.right()) as server:
        endpoint = connect(server.url)
        assert ask(endpoint) == REPLY
    assert len(server.requests) == endpoint.requests == 3


@pytest.mark.parametrize("first", [served.slow(5), served.dripping()])
def test_a_reply_that_takes_too_long_is_asked_again(first: served.Behaviour) -> None:
    with served.serve(first, served.right()) as server:
        endpoint = connect(server.url, timeout=0.5)
        reply = ask(endpoint)
    assert reply == REPLY
    assert endpoint.requests >= 2


def test_after_the_last_retry_this_prompt_has_no_reply() -> None:
    with served.serve(served.error(500, "out of memory")) as server:
        with pytest.raises(NoReply, match=r"status 500.*out of memory"):
            ask(connect(server.url))
        assert len(server.requests) == 1 + RETRIES


@pytest.mark.parametrize(
    "first",
    [
        served.body("<html>Sign in</html>", 200, "text/html"),
        served.body(REPLY),
        served.body("[]"),
        served.body("null"),
        served.body('{"choices": []}'),
        served.body('{"choices": [{"message": "yes"}]}'),
        served.body(b"\xff\xfe\x00"),
        served.body("[" * 100_000),
        served.body(""),
        served.right(None),
        served.right(["yes"]),
        served.right(f"{SECRET} {REPLY}"),
    ],
)
def test_what_is_no_chat_completion_is_no_reply(first: served.Behaviour) -> None:
    with served.serve(first) as server:
        with pytest.raises(ValueError, match=r"no chat completion|without a text|a reply that shows"):
            ask(connect(server.url))
        assert len(server.requests) == 1


@pytest.mark.parametrize("first", [served.body(b" " * (LARGEST + 1)), served.endless()])
def test_of_a_huge_body_no_more_is_read(first: served.Behaviour) -> None:
    with served.serve(first) as server:
        with pytest.raises(ValueError, match=f"a body of more than {LARGEST} bytes"):
            ask(connect(server.url))
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "first",
    [
        served.error(401, "wrong key"),
        served.error(403),
        served.error(404, "no such model"),
        served.error(429, "pay first", "insufficient_quota"),
    ],
)
def test_what_will_not_pass_ends_at_once(first: served.Behaviour) -> None:
    with served.serve(first) as server:
        with pytest.raises(JudgeError, match=r"judge-1 at 127.0.0.1, which gives no replies \(status 4"):
            ask(connect(server.url))
        assert len(server.requests) == 1


def test_a_prompt_that_is_refused_is_not_asked_again() -> None:
    with served.serve(served.right(), served.error(400, "too long")) as server:
        endpoint = connect(server.url)
        ask(endpoint)
        for _ in range(2 * SILENCE):
            with pytest.raises(NoReply, match=r"status 400: .*too long"):
                ask(endpoint)


def test_an_endpoint_that_refuses_everything_is_given_up() -> None:
    with served.serve(served.error(400, "temperature must be 1")) as server:
        endpoint = connect(server.url)
        for _ in range(SILENCE - 1):
            with pytest.raises(NoReply):
                ask(endpoint)
        with pytest.raises(JudgeError, match=f"no reply to {SILENCE} prompts in a row.*temperature must be 1"):
            ask(endpoint)


def test_requests_are_capped_retries_with_them() -> None:
    with served.serve(served.error(500)) as server:
        with pytest.raises(JudgeError, match=r"3 requests are sent.*higher --max-requests"):
            ask(connect(server.url, max_requests=3))
        assert len(server.requests) == 3


def test_a_key_does_not_follow_to_another_server() -> None:
    with served.serve(served.right()) as other:
        with served.serve(served.body("", 307, location=f"{other.url}/chat/completions")) as server:
            ask(connect(server.url))
        assert server.keys == [f"Bearer {SECRET}"]
        assert SECRET not in str(other.keys)


def test_a_short_placeholder_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for placeholder in ("4", "none", ""):
        monkeypatch.setenv(KEY, placeholder)
        with served.serve(served.right()) as server:
            assert ask(connect(server.url)) == REPLY


@pytest.mark.parametrize("bad", ["sk-first\nsk-second", "sk-clé-of-mine", "sk-\x7f12345678"])
def test_a_key_that_no_header_holds_is_refused_unseen(bad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, bad)
    with pytest.raises(ConfigError, match="no HTTP header") as raised:
        connect("http://127.0.0.1:1/v1")
    assert not any(part in str(raised.value) for part in bad.split())


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x/v1", "http://", f"{SECRET}"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="http://localhost:8000/v1") as raised:
        connect(url)
    assert SECRET not in str(raised.value)


def test_the_environment_names_address_and_model(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"without DYNFOCUS_JUDGE_URL.*--url"):
        connect(None, None)
    monkeypatch.setenv("DYNFOCUS_JUDGE_URL", "http://localhost:1/v1")
    with pytest.raises(ConfigError, match=r"without DYNFOCUS_JUDGE_MODEL.*--model"):
        connect(None, None)
    monkeypatch.setenv("DYNFOCUS_JUDGE_MODEL", "judge-2")
    assert connect(None, None).model == "judge-2"


def test_the_key_is_in_no_log_error_or_traceback() -> None:
    """Whatever a server does with the key, at the wordiest level of every logger."""
    echo = f"Incorrect API key provided: {SECRET}. " + "x" * 262 + SECRET
    behaviours = [
        *(served.error(status, echo) for status in (400, 401, 403, 404, 422, 429, 500)),
        *(served.error(429, echo, "insufficient_quota"), served.body(echo, 401), served.body(echo, 500)),
        *(served.body(echo), served.right(echo), served.right(f'{{"correct": "yes", "score": 4, "a": "{SECRET}"}}')),
        *(served.cut, served.hang_up, served.body(echo, 307, location=f"http://127.0.0.1:1/{SECRET}")),
        *(served.body(echo, 307, location=f"ftp://{SECRET}"), served.body(echo, 429, retry_after=SECRET)),
    ]
    stream = StringIO()
    log = logging.StreamHandler(stream)
    root, before = logging.getLogger(), logging.getLogger().level
    root.addHandler(log)
    root.setLevel(logging.DEBUG)
    try:
        for behaviour in behaviours:
            with served.serve(behaviour) as server:
                endpoint = connect(server.url, pause=0.001)
                try:
                    ask(endpoint)
                except Exception as error:
                    stream.write("".join(traceback.format_exception(error)) + repr(error))
                assert server.keys[0] == f"Bearer {SECRET}"
    finally:
        root.removeHandler(log)
        root.setLevel(before)
    text = stream.getvalue()
    assert "JudgeError" in text
    assert "NoReply" in text
    assert "POST" in text, "the client's own log is among it"
    assert SECRET not in text
    assert SECRET[:12] not in text
