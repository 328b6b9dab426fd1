"""A real server process is asked by OpenAI's client, and by clients that mean it ill; it answers with a tiny model."""

import base64
import json
import os
import shutil
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any

import openai
import pytest
from make_videos import write_video
from PIL import Image
from serving import KEY, Served, head, read_reply, start, wait_until

from dynfocus.inspection.answerer import Answerer
from dynfocus.models.conversations import read_conversation

if find_spec("uvicorn") is None and "CI" not in os.environ:  # CI must not skip
    pytest.skip("the server needs the extra serve, which make install brings", allow_module_level=True)
QUESTION, OTHER = "what color is the star", "how many circles"
MOST, BODY, PATIENCE, TOKENS = 50, 1 << 20, 30, 8


@dataclass
class House:
    """A server, the folder that it shows, and the same model in this process."""

    served: Served
    folder: Path
    answerer: Answerer

    def ask(self, address: str, question: str = QUESTION, kind: str = "video_url", **options: Any) -> Any:
        with self.served.client() as client:  # one each: a kept connection may be closed just as it is used again
            messages = chat(address, question, kind)
            reply = client.chat.completions.create(model="dynfocus", messages=messages, **options)
            return list(reply) if options.get("stream") else reply


def chat(address: str, question: str = QUESTION, kind: str = "video_url") -> list[Any]:
    return [{"role": "user", "content": [{"type": kind, kind: {"url": address}}, {"type": "text", "text": question}]}]


def data(path: Path, kind: str = "video/mp4") -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


@pytest.fixture(scope="module")
def house(folder: Path, place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    root = tmp_path_factory.mktemp("served")
    media, outside = root / "media", root / "outside"
    (media / "deep er").mkdir(parents=True)
    outside.mkdir()
    for number, name in enumerate(("clip.mp4", "deep er/clip.mp4", "third.mp4")):
        shutil.copy(place / f"data/videos/train_{number:06}.mp4", media / name)
    Image.new("RGB", (24, 24), "red").save(media / "red.png")
    Image.new("RGB", (24, 24), "blue").save(media / "blue.png")
    Image.new("RGB", (24, 24)).save(outside / "secret.png")
    shutil.copytree(outside, root / "media of others")  # whose name begins as the folder's
    (media / "link.png").symlink_to(outside / "secret.png")
    (media / "door").symlink_to(outside)
    (media / "inner.mp4").symlink_to(media / "clip.mp4")
    (media / "circle").symlink_to(media / "circle")
    (media / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nclip.mp4\n#EXT-X-ENDLIST\n")
    (media / "list.mp4").write_text("ffconcat version 1.0\nfile clip.mp4\n")
    (media / "half.mp4").write_bytes((media / "clip.mp4").read_bytes()[:900])
    os.mkfifo(media / "pipe.mp4")
    write_video(media / "long.mp4", 5, millis=[0, 10_000, 20_000, 30_000, 40_000])
    limits = {"--requests": MOST, "--max-body": BODY / 2**20, "--max-duration": 30, "--client-seconds": PATIENCE}
    words = [word for pair in limits.items() for word in map(str, pair)]
    words += ["--media", str(media), "--max-new-tokens", str(TOKENS), "--remember", "3", "--allow-remote"]
    with start(folder, *words) as served:
        yield House(served, media, Answerer(folder))


def test_the_client_gets_the_answer_its_cost_and_the_kept_frames(house: House) -> None:
    exact = house.answerer.ask(house.folder / "clip.mp4", QUESTION, TOKENS)
    reply = house.ask("clip.mp4", temperature=0, max_tokens=4000, extra_body={"nobody_knows_this": {"at": ["all"]}})
    assert reply.choices[0].message.content == exact.answer
    assert reply.choices[0].finish_reason == ("length" if exact.cut else "stop")
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (exact.prompt_tokens, exact.new_tokens)
    assert reply.usage.total_tokens == exact.prompt_tokens + exact.new_tokens
    assert reply.usage.prompt_tokens_details.visual_tokens == exact.selection.visual_tokens > 0
    chosen = exact.selection
    assert reply.dynfocus["kept_seconds"] == [chosen.seconds[frame] for frame in chosen.kept] != []
    assert reply.dynfocus["kept_scores"] == pytest.approx([chosen.frame_scores[frame] for frame in chosen.kept])
    assert reply.dynfocus["frames"] == len(chosen.seconds)
    with house.served.client() as client:
        assert [model.id for model in client.models.list()] == ["dynfocus"]


def test_questions_about_one_video_rest_on_one_sketch_whichever_way_it_comes(house: House) -> None:
    path = house.folder / "deep er/clip.mp4"
    addresses = [f"file://{house.folder}/deep%20er/clip.mp4", "deep er/clip.mp4", str(path)]
    replies = [house.ask(address, question) for address in addresses for question in (QUESTION, OTHER)]
    assert [reply.dynfocus["reused"] for reply in replies] == [False] + [True] * 5
    sent = [house.ask(data(path), question) for question in (QUESTION, OTHER)]
    assert [reply.dynfocus["reused"] for reply in sent] == [False, True]
    exact = [house.answerer.ask(path, question, TOKENS).answer for question in (QUESTION, OTHER)]
    assert [reply.choices[0].message.content for reply in replies + sent] == exact * 4
    others = ["clip.mp4", "third.mp4", "red.png"]
    assert not any(house.ask(other).dynfocus["reused"] for other in others[1:])
    house.ask(others[0])
    assert not house.ask("deep er/clip.mp4").dynfocus["reused"]  # three are remembered


@pytest.mark.parametrize("stop", [None, "a", ["never written", "e"]])
def test_a_stream_holds_the_same(house: House, stop: Any) -> None:
    whole = house.ask("clip.mp4", stop=stop)
    events = house.ask("clip.mp4", stop=stop, stream=True, stream_options={"include_usage": True})
    pieces = [event.choices[0].delta.content or "" for event in events if event.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert stop is None or not any(text in "".join(pieces) for text in stop)
    assert stop is not None or sum(map(bool, pieces)) > 1  # it came in pieces
    assert events[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert events[-2].dynfocus == whole.dynfocus
    assert events[-1].usage == whole.usage
    assert len({event.id for event in events}) == 1


def test_images_turns_and_text_alone_are_answered(house: House) -> None:
    pictures = [house.folder / "red.png", house.folder / "blue.png"]
    album = [{"type": "image_url", "image_url": {"url": one}} for one in (data(pictures[0], "image/png"), "blue.png")]
    text = {"type": "text", "text": QUESTION}
    local = [{"type": "image", "image": str(one)} for one in pictures]
    turns = [{"role": "assistant", "content": "red"}, {"role": "user", "content": OTHER}]
    system = {"role": "system", "content": "how many"}
    asked = [
        ([{"role": "user", "content": [*album, text]}], [{"role": "user", "content": [*local, text]}]),
        ([system, *chat("blue.png", kind="image_url"), *turns], [system, *chat(str(pictures[1])), *turns]),
        ([{"role": "user", "content": QUESTION}],) * 2,
    ]
    for messages, here in asked:
        with house.served.client() as client:
            reply: Any = client.chat.completions.create(model="dynfocus", messages=messages)
        row, shown = read_conversation(here, 0)
        inputs = house.answerer.processor.apply_chat_template(here, tokenize=True, return_dict=True, new_tokens=TOKENS)
        ids = house.answerer.model.generate(**inputs, max_new_tokens=TOKENS)
        exact = house.answerer.processor.decode(ids[0], skip_special_tokens=True).strip()
        assert reply.choices[0].message.content == exact
        assert reply.usage.prompt_tokens == inputs["input_ids"].shape[1]
        image_id = house.answerer.processor.collate.image_id
        assert reply.usage.prompt_tokens_details.visual_tokens == int((inputs["input_ids"] == image_id).sum())
        assert (reply.dynfocus is None) == (shown is None)
        assert len(row.turns) == (2 if messages[0] == system else 1)


OUTSIDE = [
    *("../outside/secret.png", "link.png", "door/secret.png", "deep er/../../outside/secret.png"),
    *("file://{root}/outside/secret.png", "{root}/outside/secret.png", "{root}/media of others/secret.png"),
    *(
        "file://{media}/%2e%2e/outside/secret.png",
        "file://{media}/..%2Foutside%2Fsecret.png",
        "file:../outside/secret.png",
    ),
    *("file://elsewhere{media}/red.png", "FILE://{root}/outside/secret.png", "/etc/passwd", "circle", "red.png\0.mp4"),
    *("file:", ".."),
]
ELSEWHERE = [
    *("absent.png", "file://{media}/link%2Epng%00", "pipe.mp4", "deep er", "ftp://here/red.png", "concat:clip.mp4"),
    *("..%2Foutside%2Fsecret.png", "s3://bucket/red.png", "a/" * 3000),
]
LISTS = ("#EXTM3U\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile /etc/passwd\n")
SENT = [f"data:video/mp4;base64,{base64.b64encode(text.encode()).decode()}" for text in (*LISTS, "hello world")]
UNREADABLE = ["list.m3u8", "list.mp4", "half.mp4", *SENT]
NO_DATA = ["data:video/mp4;base64,%%%", "data:", "data:image/png;base64,", "data:image/png;base64,abc"]


@pytest.mark.parametrize(
    ("addresses", "codes"),
    [
        (OUTSIDE, {"path_not_allowed"}),
        (ELSEWHERE, {"media_not_found", "path_not_allowed"}),
        (UNREADABLE, {"media_unreadable"}),
        (NO_DATA, {"invalid_prompt"}),
        (["long.mp4"], {"request_too_large"}),
    ],
)
def test_no_file_but_those_shown_is_opened(house: House, addresses: list[str], codes: set[str]) -> None:
    for template in addresses:
        address = template.format(root=house.folder.parent, media=house.folder)
        for kind, part in (("image_url", {"url": address}), ("video", None), ("image", "path"), ("video", "url")):
            shown = part if isinstance(part, dict) else address
            named = {"type": kind, part if isinstance(part, str) else kind: shown}
            body = {"messages": [{"role": "user", "content": [named, {"type": "text", "text": QUESTION}]}]}
            status, reply = house.served.send(json.dumps(body).encode())
            assert status == (413 if "request_too_large" in codes else 400), (address, reply)
            error = reply["error"]
            assert error["code"] in codes, (address, error)
            assert error["message"] == f"{error['given']}. Needed: {error['needed']}. {error['do']}"
            assert "{" in template or str(house.folder.parent) not in error["message"]  # where files lie is not said


CONTENT = [{"type": "text", "text": QUESTION}]
WRONG = [
    *(b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"messages": []}', b'{"messages": "hello"}', b"[" * 100_000),
    *(b'{"messages": [' + b"[" * 5000 + b"]" * 5000 + b"]}", b'{"messages": [1]}', b'{"messages": [{}]}'),
    *(b'{"messages": [{"role": "user", "content": 5}]}', b'{"messages": [{"role": "user", "content": "\\ud800"}]}'),
    *(b'{"messages": [{"role": "user", "content": [[]]}]}', b'{"messages": [{"role": "user", "content": [5]}]}'),
]
FIELDS: list[dict[str, Any]] = [
    *({"messages": [{"role": role, "content": "hello"}]} for role in ("assistant", "tool", "jester", "", 7, None)),
    *(
        {"messages": [{"role": "user", "content": content}]}
        for content in (None, "", " ", {}, [{}], [{"type": "text"}])
    ),
    *({"messages": [{"role": "user", "content": [{"type": kind}]}]} for kind in (None, 5, [], "audio", "video_url")),
    *({"messages": chat(address)} for address in (None, 5, [], {}, ["red.png", 5], "")),
    {"messages": chat("clip.mp4") + chat("third.mp4")},
    *({"temperature": value} for value in (float("nan"), float("inf"), -1, "hot")),
    *({"top_p": value} for value in (float("nan"), 2)),
    *({name: value} for name in ("max_tokens", "max_completion_tokens", "n") for value in (0, -1, "5", 1.5, [])),
    *({"n": 2}, {"stream": "yes"}, {"stop": 5}, {"stop": ["x"] * 17}, {"stream_options": 3}, {"model": 5}),
]


def test_wrong_requests_cost_one_sentence_each(house: House) -> None:
    bodies = WRONG + [json.dumps({"messages": [{"role": "user", "content": CONTENT}]} | one).encode() for one in FIELDS]
    for body in bodies:
        status, reply = house.served.send(body)
        assert status == 400, (body[:200], reply)
        assert set(reply["error"]) == {"message", "type", "param", "code", "given", "needed", "do"}
        assert reply["error"]["type"] == "invalid_request_error"
        assert len(reply["error"]["message"]) < 1000
    assert house.ask("clip.mp4").choices[0].message.content


def test_the_client_raises_the_error_that_is_meant(house: House) -> None:
    messages = chat("clip.mp4")
    with house.served.client(api_key="one") as stranger, house.served.client() as client:
        with pytest.raises(openai.AuthenticationError, match="key"):
            stranger.chat.completions.create(model="dynfocus", messages=messages)
        with pytest.raises(openai.AuthenticationError, match="key"):
            stranger.models.list()
        with pytest.raises(openai.NotFoundError, match="gpt-4"):
            client.chat.completions.create(model="gpt-4", messages=messages)
        with pytest.raises(openai.NotFoundError, match="POST /v1/chat/completions"):
            client.embeddings.create(model="dynfocus", input="hello")
    with pytest.raises(openai.BadRequestError, match="context") as long:
        house.ask("clip.mp4", "how many " * 600)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.APIStatusError) as long_text:
        house.ask("clip.mp4", "x" * (BODY - 1000), stream=True)
    assert long_text.value.status_code in (400, 413)
    with pytest.raises(openai.BadRequestError, match="absent"):
        house.ask("absent.mp4", stream=True)


def test_a_body_over_the_limit_is_refused_announced_or_not(house: House) -> None:
    served = house.served
    with served.connect() as raw:  # two gigabytes are announced, and none is waited for
        raw.sendall(head(content_length=str(2 << 30)))
        status, reply = read_reply(raw)
    assert (status, reply["error"]["code"]) == (413, "request_too_large")
    block = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    with served.connect() as raw:  # which never says how much is to come
        raw.sendall(head(transfer_encoding="chunked") + block * (BODY // 0x10000))
        raw.sendall(b"1\r\nx\r\n")
        status, reply = read_reply(raw)
    assert (status, reply["error"]["code"]) == (413, "request_too_large")
    wait_until(lambda: served.health()["requests"] == 0)


def test_slow_clients_are_hung_up_on(house: House) -> None:
    served = house.served
    starts = [
        b"",
        b"POST /v1/chat",
        head(content_length="100"),
        head(content_length="100") + b"{",
        head("GET", "/health"),
    ]
    sockets = [served.connect() for _ in starts]
    for raw, text in zip(sockets, starts, strict=True):
        raw.sendall(text)
    assert read_reply(sockets[4])[0] == 200
    sockets[4].sendall(b"GET /hea")  # a second request, of which no more comes
    assert house.ask("clip.mp4").choices[0].message.content  # others need not wait
    for raw in sockets[2:4]:
        status, reply = read_reply(raw)
        assert (status, reply["error"]["code"]) == (408, "request_timeout")
    for raw in sockets:
        with suppress(ConnectionResetError):
            assert raw.recv(1) == b""
        raw.close()


def test_fifty_at_once_are_all_answered_and_none_is_mixed_up(house: House) -> None:
    names = ["clip.mp4", "deep er/clip.mp4", "third.mp4"]
    texts = [QUESTION, OTHER, "what comes after the blue square ?"]
    asked = [(names[n % 3], texts[n // 3 % 3]) for n in range(50)]
    with ThreadPoolExecutor(50) as threads:
        replies = list(threads.map(lambda one: house.ask(one[0], one[1]).choices[0].message.content, asked))
    exact = {one: house.answerer.ask(house.folder / one[0], one[1], TOKENS).answer for one in set(asked)}
    assert replies == [exact[one] for one in asked]
    assert len(set(replies)) > 5
    wait_until(lambda: house.served.health()["requests"] == 0)


def test_one_request_too_many_is_refused_and_may_come_again(house: House) -> None:
    body = json.dumps({"messages": chat("clip.mp4")}).encode()
    waiting = [house.served.connect() for _ in range(MOST)]
    for raw in waiting:
        raw.sendall(head(content_length=str(len(body))))
    wait_until(lambda: house.served.health()["requests"] == MOST)
    with pytest.raises(openai.RateLimitError) as refused:
        house.ask("clip.mp4")
    assert refused.value.response.headers["retry-after"] == "1"
    for raw in waiting[1:]:
        raw.close()
    waiting[0].sendall(body)
    assert read_reply(waiting[0])[0] == 200
    waiting[0].close()
    wait_until(lambda: house.served.health()["requests"] == 0)
    assert house.ask("clip.mp4").choices[0].message.content


def test_a_client_that_leaves_holds_no_place(house: House) -> None:
    for stream in (False, True):
        body = json.dumps({"messages": chat("clip.mp4"), "stream": stream}).encode()
        sockets = [house.served.connect() for _ in range(20)]
        for raw in sockets:
            raw.sendall(head(content_length=str(len(body))) + body)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, not a goodbye
            raw.close()
    wait_until(lambda: house.served.health()["requests"] == 0)
    assert house.ask("clip.mp4").choices[0].message.content


class Remote(BaseHTTPRequestHandler):
    """A picture, a way to a file of this machine, and a file without end."""

    def do_GET(self) -> None:
        self.send_response(302 if self.path == "/away" else 200 if self.path != "/absent" else 404)
        self.send_header("location", "file:///etc/passwd")
        self.end_headers()
        try:
            while self.path == "/endless":
                self.wfile.write(b"x" * 65536)
        except (BrokenPipeError, ConnectionResetError):
            return
        self.wfile.write(self.server.picture)  # type: ignore[attr-defined]

    def log_message(self, *args: Any) -> None:
        """Tests print nothing."""


def test_web_addresses_are_fetched_within_limits(house: House) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Remote) as remote:
        remote.picture = (house.folder / "red.png").read_bytes()  # type: ignore[attr-defined]
        thread = Thread(target=remote.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        root = f"http://127.0.0.1:{remote.server_address[1]}"
        reply = house.ask(f"{root}/red.png", kind="image_url")
        assert reply.choices[0].message.content == house.answerer.ask(house.folder / "red.png", QUESTION, TOKENS).answer
        codes = {"away": "media_not_found", "absent": "media_not_found", "endless": "request_too_large"}
        for path, code in codes.items():
            with pytest.raises(openai.APIStatusError) as refused:
                house.ask(f"{root}/{path}")
            assert refused.value.code == code
        remote.shutdown()
        thread.join()


def test_without_its_options_no_file_and_no_address_is_opened_and_ctrl_c_ends_it(house: House, folder: Path) -> None:
    with start(folder) as served, ThreadingHTTPServer(("127.0.0.1", 0), Remote) as remote:
        other = House(served, house.folder, house.answerer)
        for address, advice in (
            (f"http://127.0.0.1:{remote.server_address[1]}/red.png", "--allow-remote"),
            ("clip.mp4", "--media"),
        ):
            with pytest.raises(openai.APIStatusError) as refused:
                other.ask(address)
            assert 400 <= refused.value.status_code < 500
            assert advice in refused.value.message
        served.process.send_signal(signal.SIGINT)
        out, err = served.process.communicate(timeout=600)
    assert (served.process.returncode, out, err) == (0, "stopped after 0 answers\n", "")


def test_a_stop_finishes_what_runs_and_takes_nothing_new(house: House) -> None:
    """The last test of this file: the server ends."""
    body = json.dumps({"messages": chat("clip.mp4")}).encode()
    with house.served.connect() as raw:
        raw.sendall(head(content_length=str(len(body))) + body[:10])
        wait_until(lambda: house.served.health()["requests"] == 1)
        answered = house.served.health()["answered"]
        house.served.process.send_signal(signal.SIGTERM)

        def is_closed() -> bool:
            try:
                house.served.connect().close()
            except ConnectionRefusedError:
                return True
            return False

        wait_until(is_closed)
        raw.sendall(body[10:])
        status, reply = read_reply(raw)
    exact = house.answerer.ask(house.folder / "clip.mp4", QUESTION, TOKENS)
    assert (status, reply["choices"][0]["message"]["content"]) == (200, exact.answer)
    out, err = house.served.process.communicate(timeout=120)
    assert house.served.process.returncode == 0
    assert out == f"stopped after {answered + 1} answers\n"
    assert err == ""
    assert KEY not in out
