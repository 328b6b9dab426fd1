"""Ask a judge behind an OpenAI-compatible endpoint, with the `openai` client.

The key is never shown: errors are made anew without the client's own ones, and what a server says loses it.
"""

import json
import os
import random
import time
from collections.abc import Mapping
from logging import getLogger
from threading import Event, Lock
from typing import Any
from urllib.parse import urlsplit

from dynfocus.errors import ConfigError, JudgeError
from dynfocus.evals.judges.judging import NoReply

URL, MODEL, KEY = "DYNFOCUS_JUDGE_URL", "DYNFOCUS_JUDGE_MODEL", "DYNFOCUS_JUDGE_KEY"
RETRIES = 6
LONGEST_WAIT = 60.0  # seconds before a retry
LARGEST = 2**20  # bytes of a reply's body
LARGEST_ERROR = 2**14  # bytes of an error's body
SILENCE = 8  # prompts in a row without a reply after which nothing more is asked
HIDDEN = 8  # characters from which a key is one; placeholders such as "none" may stand in any text


class Endpoint:
    """A judge behind an address; see `Judge`.

    Args:
        url: base address, such as ``https://api.openai.com/v1``; None: the environment's ``DYNFOCUS_JUDGE_URL``.
        model: name that the endpoint takes; None: ``DYNFOCUS_JUDGE_MODEL``.
        workers: requests at once.
        max_requests: requests in all, retries with them; None: no limit.
        timeout: seconds for one reply.
        temperature: of its sampling.
        pause: seconds before the first retry; each further one waits twice as long.

    The key is ``DYNFOCUS_JUDGE_KEY``; servers of one's own may need none.

    Raises:
        ConfigError: if the client is not installed, the address or the model is missing, or one of them is none.
    """

    kind = "openai"

    def __init__(
        self,
        url: str | None,
        model: str | None,
        workers: int,
        max_requests: int | None,
        timeout: float,
        temperature: float,
        pause: float = 1.0,
    ) -> None:
        try:
            import openai
        except ImportError as error:
            raise ConfigError(
                "the judge openai, whose client is not installed",
                "the package openai",
                'Run `pip install "dynfocus[judge]"`.',
            ) from error
        self.url, self.model = url or _read_variable(URL, "--url"), model or _read_variable(MODEL, "--model")
        self.settings: Mapping[str, Any] = {"temperature": temperature}
        self.workers, self.max_requests, self.timeout, self.pause = workers, max_requests, timeout, pause
        self.requests, self.silent, self.replied, self.lock = 0, 0, False, Lock()
        self.key = os.environ.get(KEY, "").strip()
        if not (self.key.isascii() and self.key.isprintable()):
            raise ConfigError(
                f"{KEY} with signs that no HTTP header may hold", "a key of ASCII signs in one line", "Set it again."
            )
        if urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).hostname:
            raise ConfigError(
                self.hide(f"the judge's address {self.url!r}"),
                "one such as http://localhost:8000/v1",
                f"Correct {URL}.",
            )
        # They log addresses and the headers of replies, in which a server may repeat the key.
        for transport in ("httpx", "httpx2", "httpcore", "httpcore2"):
            getLogger(transport).setLevel("WARNING")
        self.openai: Any = openai
        self.client = openai.OpenAI(
            base_url=self.url,
            api_key=self.key or "none",
            max_retries=0,
            timeout=timeout,
            http_client=openai.DefaultHttpxClient(timeout=timeout, event_hooks={"response": [_leave_large_errors]}),
        )

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def ask(self, prompt: str, stop: Event) -> str:
        """Reply to one prompt, after retries where the endpoint is busy, broken, slow or away."""
        reason = ""
        for attempt in range(1 + RETRIES):
            self._count_request(stop)
            try:
                reply = self._send(prompt)
                self.silent, self.replied = 0, True
                return reply
            except self.openai.APIStatusError as error:
                reason = self._describe(error)
                if error.status_code in (401, 403, 404) or error.code == "insufficient_quota":
                    raise self._give_up(reason) from None
                if error.status_code not in (408, 409, 429) and error.status_code < 500:
                    if self.replied:  # what it refuses is this prompt
                        raise NoReply(reason) from None
                    break
                least = _read_seconds(error.response.headers.get("retry-after"))
            except (self.openai.APIConnectionError, _Broken) as error:
                reason, least = self._describe(error), 0.0
            # Waits differ from one another, so that requests which failed together do not come again together.
            if attempt < RETRIES and stop.wait(
                max(least, random.uniform(0.5, 1) * min(LONGEST_WAIT, self.pause * 2**attempt))
            ):
                break
        self.silent += 1
        if self.silent >= SILENCE:
            raise self._give_up(f"no reply to {SILENCE} prompts in a row, the last time {reason}")
        raise NoReply(reason)

    def _send(self, prompt: str) -> str:
        """Send one request and read its reply; raises ValueError where the body is no chat completion."""
        end = time.monotonic() + self.timeout
        messages = [{"role": "user", "content": prompt}]
        create = self.client.chat.completions.with_streaming_response.create
        body = b""
        with create(model=self.model, messages=messages, **self.settings) as response:  # type: ignore[arg-type]
            try:
                for part in response.iter_bytes():
                    body += part
                    if len(body) > LARGEST:
                        raise ValueError(f"a body of more than {LARGEST} bytes")
                    if time.monotonic() > end:
                        raise _Broken(f"no whole reply in {self.timeout:g} s")
            except (ValueError, _Broken):
                raise
            except Exception as error:  # of httpx, or of httpx2: it depends on the client's version
                raise _Broken(f"a reply that ended too early ({type(error).__name__})") from None
        try:
            content = json.loads(body)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError):
            raise ValueError("a body that is no chat completion") from None
        if not isinstance(content, str):
            raise ValueError("a chat completion without a text")
        if len(self.key) >= HIDDEN and self.key in content:
            raise ValueError(f"a reply that shows {KEY}")
        return content

    def _count_request(self, stop: Event) -> None:
        with self.lock:
            if stop.is_set():
                raise NoReply("stopped")
            if self.requests == self.max_requests:
                raise JudgeError(
                    f"{self.requests} requests are sent, and answers without a verdict are left",
                    "a higher --max-requests",
                    "Call it again: what was judged is kept, and the requests are counted anew.",
                )
            self.requests += 1

    def _describe(self, error: Exception) -> str:
        status = f"status {error.status_code}" if isinstance(error, self.openai.APIStatusError) else ""
        text = self.hide(" ".join(str(error).split()))[:300]
        return ": ".join(filter(None, (status, text)))

    def _give_up(self, reason: str) -> JudgeError:
        place = urlsplit(self.url)
        return JudgeError(
            self.hide(f"the judge {self.model} at {place.hostname}, which gives no replies ({reason})"),
            f"a running endpoint, and {URL}, {MODEL} and {KEY} that fit it",
            "Correct them and call it again: what was judged is kept.",
        )

    def hide(self, text: str) -> str:
        """A text without the key."""
        return text.replace(self.key, "***") if len(self.key) >= HIDDEN else text


class _Broken(Exception):
    """A reply that did not come whole."""


def _read_variable(name: str, option: str) -> str:
    if not (value := os.environ.get(name, "").strip()):
        raise ConfigError(f"the judge openai without {name}", "its address and model", f"Set {name}, or give {option}.")
    return value


def _read_seconds(text: str | None) -> float:
    try:
        return min(LONGEST_WAIT, max(0.0, float(text or 0)))
    except ValueError:  # a date
        return 0.0


def _leave_large_errors(response: Any) -> None:
    """Close a response that says an error in a large body, or in one of unknown size; the client reads it else."""
    length = response.headers.get("content-length", "")
    if response.is_error and not (length.isdecimal() and int(length) <= LARGEST_ERROR):
        response.close()
