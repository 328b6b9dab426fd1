"""Tiny hosts of seven families asked about a rendered clip, from their folders, as `dynfocus ask --host` does."""

import json
import os
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import tiny_hosts
import torch

from dynfocus import cli
from dynfocus.bridge.hosts.answerer import HostAnswerer, HostRule
from dynfocus.bridge.hosts.folder import identify, load_host
from dynfocus.errors import CheckpointError, ConfigError, PromptError, VideoError
from dynfocus.records.rows import FrameFiles, Row, Turn
from dynfocus.video.numbered import NumberedFrames

if find_spec("torchvision") is None and "CI" not in os.environ:  # CI must not skip
    pytest.skip("video processors need torchvision, which make install brings", allow_module_level=True)
QUESTION = "what color is the star?"
RULE = HostRule(keep=3, rods=2, frames=10)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("hosts")
    return {name: tiny_hosts.save(name, folder / name) for name in tiny_hosts.BUILDERS}


def count_calls(answerer: HostAnswerer, calls: list[int]) -> None:
    base = answerer.host.model.model
    tower = next(getattr(base, name) for name in ("visual", "vision_tower", "vision_model") if hasattr(base, name))
    tower.register_forward_hook(lambda *_: calls.append(1))


@pytest.mark.parametrize("name", tiny_hosts.BUILDERS)
def test_a_host_answers_a_clip_and_encodes_it_once(
    name: str, hosts: dict[str, Path], video: Path, tmp_path: Path
) -> None:
    answerer, calls = HostAnswerer(hosts[name], "mmr", RULE, tmp_path / "cache"), list[int]()
    count_calls(answerer, calls)
    answer = answerer.ask(video, QUESTION, 5)
    first = len(calls)
    assert first == 4  # ten frames, three at once
    other = answerer.ask(video, "which place is first", 5)
    assert len(calls) == first
    planned = answerer.read(video).budget
    for reply in (answer, other):
        assert len(reply.selection.kept) == 3
        assert len(reply.selection.seconds) == 10
        assert reply.selection.visual_tokens == planned.visual_tokens
        assert reply.selection.rods == 7 * 2
        assert reply.default is not None
        assert reply.default[0] == (8 if name == "smolvlm" else 20)
        assert reply.prompt_tokens > planned.visual_tokens
    again, later = HostAnswerer(hosts[name], "mmr", RULE, tmp_path / "cache"), list[int]()
    count_calls(again, later)
    assert again.ask(video, QUESTION, 5) == answer
    assert not later  # the cache holds what another process has encoded


@pytest.mark.parametrize("name", tiny_hosts.BUILDERS)
def test_a_question_with_any_special_token_is_answered_or_refused(name: str, hosts: dict[str, Path]) -> None:
    host = load_host(hosts[name])
    parts = host.show(host.encode(torch.zeros(2, 56, 56, 3, dtype=torch.uint8), 2), (0.0, 1.0), (0, 1))
    refused = set()
    for token in tiny_hosts.SPECIAL:
        try:
            inputs = host.feature_inputs(parts, 2.0, f"what is {token} here")
        except PromptError as error:
            assert token in error.given
            refused.add(token)
            continue
        assert len(host.generate(inputs, 1)) == 1
    assert host.processor.video_token in refused
    assert len(refused) == 2


def test_the_command_line_prints_the_answer_and_writes_the_page(
    hosts: dict[str, Path], video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, host = tmp_path / "out.html", hosts["smolvlm"]
    words = ["ask", str(video), QUESTION, "which place is first", "--host", str(host), "--selector", "uniform"]
    shown = ["--keep", "4", "--rods", "1", "--frames", "9", "--max-new-tokens", "3"]
    assert cli.main([*words, *shown, "--report", str(report)]) == 0
    out, page = capsys.readouterr().out, report.read_text()
    assert out.count("kept frames:   4 of 9, at 3 s, 7 s, 12 s, 16 s") == 2
    assert out.count("visual tokens: 21 (16 cones, 5 rods; 32 by its own processor, 8 frames)") == 2
    assert "its own processor, 8 frames" in page
    assert "4 of 9 frames kept; 21 visual tokens" in page
    assert "not kept (b = 0): rods alone" in page
    assert "kept (b = 1): cones" in page
    assert "kept (b = 1): cones and rods" not in page
    assert cli.main([*words, *shown, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["tokens"]["its own processor, 8 frames"] == 32
    assert document["settings"]["selector"] == "uniform"
    assert [len(reply["selection"]["kept"]) for reply in document["answers"]] == [4, 4]


def test_a_budget_keeps_as_many_frames_as_fit(hosts: dict[str, Path], video: Path) -> None:
    rule = HostRule(keep=8, rods=1, frames=10, budget=20)  # four tokens a frame
    answer = HostAnswerer(hosts["internvl"], None, rule).ask(video, QUESTION, 2)
    assert len(answer.selection.kept) == 3
    assert answer.selection.visual_tokens == 3 * 4 + 7
    with pytest.raises(ConfigError, match="at least 13"):
        HostAnswerer(hosts["internvl"], None, HostRule(rods=1, frames=10, budget=12)).ask(video, QUESTION)


@pytest.mark.parametrize("name", ["qwen3_vl", "internvl"])
def test_images_are_frames_one_a_second(name: str, hosts: dict[str, Path], video: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"{second}.png" for second in range(20)]
    for file, image in zip(files, NumberedFrames(video).images(range(20)), strict=True):
        image.save(file)
    row = Row("", 0, "images", (Turn(QUESTION, None),))
    answerer = HostAnswerer(hosts[name], "mmr", RULE, tmp_path / "cache")
    album = FrameFiles(tuple(files), is_album=True)
    answer = answerer.answer(row, album, 5)
    assert answer.selection.seconds == tuple(range(20))  # ten are taken of a video, and all of several images
    exact = HostAnswerer(hosts[name], "mmr", replace(RULE, frames=20)).ask(
        video, QUESTION, 5
    )  # the same frames and times
    assert answer == exact
    assert answerer.answer(row, replace(album, is_album=False), 5).selection.seconds == tuple(range(1, 20, 2))
    turned = answerer.answer(row, replace(album, paths=tuple(reversed(files))), 5)
    assert turned.selection.kept != answer.selection.kept  # memory and cache tell the orders apart
    assert answerer.encoded == len(list((tmp_path / "cache").glob("??/*.safetensors"))) == 3
    assert HostAnswerer(hosts[name], "mmr", RULE, tmp_path / "cache").answer(row, album, 5) == answer
    files[4].write_bytes(files[4].read_bytes()[:99])
    with pytest.raises(VideoError, match=r"/4\.png"):
        answerer.answer(row, album, 5)
    with pytest.raises(PromptError, match="nothing that is shown"):
        answerer.answer(row, None)


def test_features_are_kept_by_the_host_s_identity(hosts: dict[str, Path], tmp_path: Path, video: Path) -> None:
    before = identify(hosts["internvl"])
    assert before == identify(hosts["internvl"]) != identify(hosts["smolvlm"])
    model, processor = tiny_hosts.build("internvl")
    torch.nn.init.ones_(model.model.multi_modal_projector.linear_1.weight)
    model.save_pretrained(tmp_path / "other")
    processor.save_pretrained(tmp_path / "other")
    assert identify(tmp_path / "other") != before
    cache = tmp_path / "cache"
    for folder in (hosts["internvl"], tmp_path / "other"):
        HostAnswerer(folder, None, RULE, cache).ask(video, QUESTION, 1)
    entries = sorted(cache.glob("??/*.safetensors"))
    assert len(entries) == 2
    for entry in entries:  # damage is mended, not believed
        entry.write_bytes(entry.read_bytes()[:-1] + b"x")
    calls: list[int] = []
    answerer = HostAnswerer(hosts["internvl"], None, RULE, cache)
    count_calls(answerer, calls)
    answerer.ask(video, QUESTION, 1)
    assert calls


def test_what_is_no_host_is_refused(hosts: dict[str, Path], folder: Path, tmp_path: Path, video: Path) -> None:
    with pytest.raises(ConfigError, match="a model of type dynfocus"):
        load_host(folder)
    with pytest.raises(CheckpointError):
        load_host(tmp_path)
    bare = tmp_path / "bare"
    tiny_hosts.build("internvl")[0].save_pretrained(bare)
    with pytest.raises(CheckpointError):
        load_host(bare)
    words: list[Any] = ["ask", str(video), QUESTION]
    assert cli.main([*words, "--keep", "4"]) == 2
    assert cli.main([*words, "--host", str(hosts["smolvlm"]), "--trust-selector"]) == 2
    assert cli.main([*words, "--host", str(hosts["smolvlm"]), "--keep", "0"]) == 1


def test_selectors_and_a_host_are_evaluated_on_a_benchmark_and_a_stopped_run_goes_on(
    hosts: dict[str, Path], place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "world", str(place / "data"), "--out", str(tmp_path), "--host", str(hosts["internvl"])]
    words += ["--arms", "uniform", "random", "--keep", "2", "--rods", "1", "--frames", "6", "--rows", "3"]
    assert cli.main([*words, "--max-new-tokens", "2"]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert {name: arm["n"] for name, arm in metrics["arms"].items()} == {"uniform": 3, "random": 3}
    assert {arm["visual_tokens"] for arm in metrics["arms"].values()} == {2 * 4 + 4}
    answers = tmp_path / "answers" / "0.jsonl"
    lines = answers.read_text().splitlines()
    answers.write_text("\n".join(lines[:4]) + '\n{"id": "cut o')  # as a killed run leaves it
    assert cli.main([*words, "--max-new-tokens", "2"]) == 0
    assert answers.read_text().splitlines() == lines
    assert cli.main([*words, "--max-new-tokens", "3"]) == 1
    assert "max_new_tokens" in capsys.readouterr().err
    for option, value in (("--seed", "3"), ("--batch-size", "2"), ("--top-p", "0.5"), ("--model", "runs/other")):
        assert cli.main([*words, option, value]) == 2
        assert f"{option} with --host" in capsys.readouterr().err
    other = [*words, "--out", str(tmp_path / "other"), "--max-new-tokens", "1"]
    assert cli.main([*other, "--fps", "0"]) == 0  # every frame of the file, six of them evenly
    shown = json.loads((tmp_path / "other" / "metrics.json").read_text())["shown"]
    assert (shown["fps"], shown["frames"]) == (None, 6)
