"""A real server process in which another video language model answers, asked by OpenAI's client."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import openai
import pytest
import tiny_hosts
from serving import Served, start

from dynfocus.bridge.hosts.answerer import HostAnswerer, HostRule
from dynfocus.inspection.answer import Answer

for library in ("uvicorn", "torchvision"):
    if find_spec(library) is None and "CI" not in os.environ:  # CI must not skip
        pytest.skip(f"a server of a host needs {library}, which make install brings", allow_module_level=True)
QUESTION, OTHER, TOKENS = "what color is the star?", "which place is first", 6


@dataclass
class Hosted:
    """A server, the file of its tower's runs, and the same host in this process."""

    served: Served
    runs: Path
    answerer: HostAnswerer

    def ask(self, messages: list[Any], **options: Any) -> Any:
        with self.served.client() as client:
            reply = client.chat.completions.create(model="dynfocus", messages=messages, **options)
            return list(reply) if options.get("stream") else reply

    def count_runs(self) -> int:
        return len(self.runs.read_text().splitlines()) if self.runs.exists() else 0


def show(name: str, question: str = QUESTION) -> list[Any]:
    video = {"type": "video_url", "video_url": {"url": name}}
    return [{"role": "user", "content": [video, {"type": "text", "text": question}]}]


@pytest.fixture(scope="module")
def hosted(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    root = tmp_path_factory.mktemp("hosted")
    host, runs = tiny_hosts.save("internvl", root / "host"), root / "runs.txt"
    media = place / "data" / "videos"
    words = ["--selector", "k_means", "--keep", "3", "--rods", "2", "--frames", "10", "--media", str(media)]
    with start(host, *words, "--max-new-tokens", str(TOKENS), model="--host", runs=runs) as served:
        yield Hosted(served, runs, HostAnswerer(host, "k_means", HostRule(keep=3, rods=2, frames=10)))


def check_reply(reply: Any, exact: Answer, reused: bool) -> None:
    """A whole reply against the answer of this process."""
    chosen = exact.selection
    assert reply.choices[0].message.content == exact.answer
    assert reply.choices[0].finish_reason == ("length" if exact.cut else "stop")
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (exact.prompt_tokens, exact.new_tokens)
    assert reply.usage.prompt_tokens_details.visual_tokens == chosen.visual_tokens == 3 * 4 + 7 * 2
    assert reply.dynfocus == {
        "frames": 10,
        "kept_seconds": [chosen.seconds[frame] for frame in chosen.kept],
        "kept_scores": None,
        "cones": 3 * 4,
        "rods": 7 * 2,
        "reused": reused,
        "unknown_words": [],
    }


def test_two_questions_about_one_video_run_the_tower_once(hosted: Hosted, video: Path) -> None:
    assert hosted.count_runs() == 0
    check_reply(hosted.ask(show(video.name)), hosted.answerer.ask(video, QUESTION, TOKENS), reused=False)
    once = hosted.count_runs()
    assert once > 0
    check_reply(hosted.ask(show(video.name, OTHER)), hosted.answerer.ask(video, OTHER, TOKENS), reused=True)
    assert hosted.count_runs() == once
    uniform = hosted.answerer.open_chooser("uniform")
    kept = hosted.answerer.ask(video, QUESTION, TOKENS, uniform).selection.kept
    assert kept != hosted.answerer.ask(video, QUESTION, TOKENS).selection.kept, "the option --selector is what counts"


def test_a_stream_holds_the_same(hosted: Hosted, video: Path) -> None:
    whole = hosted.ask(show(video.name))
    events = hosted.ask(show(video.name), stream=True, stream_options={"include_usage": True})
    pieces = [event.choices[0].delta.content or "" for event in events if event.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert (events[-2].dynfocus, events[-1].usage) == (whole.dynfocus, whole.usage)
    short = hosted.ask(show(video.name), max_tokens=2)
    assert (short.usage.completion_tokens, short.choices[0].finish_reason) == (2, "length")


def test_what_a_host_is_not_asked_here_is_refused_in_a_sentence(hosted: Hosted, video: Path) -> None:
    system = {"role": "system", "content": "how many"}
    turns = [{"role": "assistant", "content": "red"}, {"role": "user", "content": OTHER}]
    for messages in ([system, *show(video.name)], [*show(video.name), *turns], [{"role": "user", "content": OTHER}]):
        with pytest.raises(openai.BadRequestError, match="one question about one video") as refused:
            hosted.ask(messages)
        assert refused.value.code == "invalid_prompt"
    for tag in ("<video>", "<IMG_CONTEXT>"):  # what stands for a video, or for its tokens
        with pytest.raises(openai.BadRequestError) as refused:
            hosted.ask(show(video.name, f"what is {tag} here"))
        assert refused.value.code == "invalid_prompt"
    status, reply = hosted.served.send(json.dumps({"messages": show("../absent.mp4")}).encode())
    assert (status, reply["error"]["code"]) == (400, "path_not_allowed")
