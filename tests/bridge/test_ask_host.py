"""Tiny hosts of seven families asked about a rendered clip, from their folders, as `dynfocus ask --host` does."""

import json
import os
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import tiny_hosts
import torch
from PIL import Image

from dynfocus import cli
from dynfocus.bridge import select
from dynfocus.bridge.hosts.answerer import HostAnswerer, HostRule
from dynfocus.bridge.hosts.folder import identify, load_host
from dynfocus.errors import CheckpointError, ConfigError, PromptError, VideoError
from dynfocus.evals.benchmarks.mvbench import TASKS
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
    refused: dict[str, str] = {}
    for token in tiny_hosts.SPECIAL:
        try:
            inputs = host.feature_inputs(parts, 2.0, f"what is {token} here")
        except PromptError as error:
            refused[token] = error.given
            continue
        assert len(host.generate(inputs, 1)) == 1
    assert all(token in given for token, given in refused.items())
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


def test_the_page_shows_the_score_of_every_frame_where_the_selector_has_them(
    hosts: dict[str, Path], video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, host = tmp_path / "out.html", hosts["smolvlm"]
    choice = json.dumps({"class_path": "dpp", "init_args": {"weight": 0}})
    words = ["ask", str(video), QUESTION, "--host", str(host), "--keep", "2", "--frames", "9", "--max-new-tokens", "1"]
    assert cli.main([*words, "--selector", "random", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    selection = document["answers"][0]["selection"]
    scores = selection["own_scores"]
    assert len(scores) == 9
    assert selection["kept"] == sorted(sorted(range(9), key=lambda frame: -scores[frame])[:2])
    assert cli.main([*words, "--selector", "random", "--report", str(report)]) == 0
    page = report.read_text()
    data = json.loads(page.partition('<script type="application/json">')[2].partition("</script>")[0])
    assert data["own"] == pytest.approx(scores, rel=1e-3)
    assert data["scores"] == []  # no events are scored
    assert page.count("<br>score = ") == 2
    assert "numbered from the highest score" in page
    assert "of each frame" in page  # the curve's name
    assert all(f"<td>{score:.4g}</td>" in page for score in scores)
    assert cli.main([*words, "--selector", choice, "--report", str(report)]) == 0
    page = report.read_text()
    assert "dpp(weight=0)" in page
    assert "of each frame" not in page


def test_frames_are_chosen_by_a_host_s_own_tower_for_any_program(
    hosts: dict[str, Path], video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As many candidates as for every other encoder, and for one number of them the frames that the host is shown."""
    for name in ("internvl", "qwen3_vl"):
        picked = select(video, QUESTION, 3, "mmr", host=hosts[name], fps=1.0, frames=8)
        answerer = HostAnswerer(hosts[name], "mmr", HostRule(keep=8, frames=8))
        shown = answerer.chooser.choose(answerer.read(video).sketched, QUESTION, 3)
        assert (picked.frames, picked.candidates) == (shown.frames, shown.candidates)
        assert picked.scores == pytest.approx(shown.scores)
    words = ["select", str(video), QUESTION, "--selector", "mmr", "--keep", "3", "--host", str(hosts["internvl"])]
    assert cli.main(words) == 0
    printed = capsys.readouterr().out
    assert "features of internvl in" in printed
    assert "candidates at 2 fps, at most 512" in printed
    assert cli.main([*words, "--encoder", str(hosts["internvl"])]) == 2
    assert "an encoder and a host" in capsys.readouterr().err


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


def test_what_is_no_host_is_refused(
    hosts: dict[str, Path], folder: Path, tmp_path: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match="a model of type dynfocus"):
        load_host(folder)
    with pytest.raises(CheckpointError):
        load_host(tmp_path)
    bare = tmp_path / "bare"
    tiny_hosts.build("internvl")[0].save_pretrained(bare)
    with pytest.raises(CheckpointError):
        load_host(bare)
    words: list[Any] = ["ask", str(video), QUESTION]
    for options, told in (
        (["--keep", "4", "--rods", "0"], "--keep and --rods without --host"),
        (["--pair", "same"], "--pair without --host"),
        (["--host", str(hosts["smolvlm"]), "--trust-selector"], "--trust-selector with --host"),
        (["--host", str(hosts["smolvlm"]), "--model", str(folder)], "--model with --host"),
    ):
        for verb in (words, ["serve", "--port", "0"]):
            assert cli.main([*verb, *options]) == 2
            assert told in capsys.readouterr().err
    assert cli.main([*words, "--host", str(hosts["smolvlm"]), "--pair", "next"]) == 1
    assert "--pair next with a smolvlm" in capsys.readouterr().err
    assert cli.main([*words, "--host", str(hosts["smolvlm"]), "--selector", "{mmr}"]) == 1
    assert "JSON with class_path" in capsys.readouterr().err
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
    for option, value in (("--batch-size", "8"), ("--workers", "0"), ("--devices", "1"), ("--model", "runs/other")):
        assert cli.main([*words, option, value]) == 2
        assert f"{option} with --host" in capsys.readouterr().err
    for more, code, told in (
        (["--top-p", "0.5"], 2, "--top-p 0.5 without --temperature"),
        (["--shuffle"], 1, "--shuffle with world, whose questions have no options"),
        (["--arms", "learned"], 1, "the arm learned of a host"),
        (["--pair", "next", "--out", str(tmp_path / "paired")], 1, "--pair next with a internvl"),
    ):
        assert cli.main([*words, *more]) == code
        assert told in capsys.readouterr().err
    other = [*words, "--out", str(tmp_path / "other"), "--max-new-tokens", "1"]
    assert cli.main([*other, "--fps", "0"]) == 0  # every frame of the file, six of them evenly
    shown = json.loads((tmp_path / "other" / "metrics.json").read_text())["shown"]
    assert (shown["fps"], shown["frames"]) == (None, 6)


def test_an_evaluated_host_tells_what_it_owes_to_the_frames(
    hosts: dict[str, Path], place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hit rates of the frames that questions need, an arm without video, a selector with settings, and sampling."""
    mmr = json.dumps({"class_path": "mmr", "init_args": {"balance": 0.7}})
    words = ["evaluate", "world", str(place / "data"), "--host", str(hosts["qwen3_vl"]), "--keep", "3"]
    words += ["--max-new-tokens", "3", "--cache", str(tmp_path / "cache"), "--out"]
    arms = ["--arms", "oracle", "random", mmr, "blind"]
    assert cli.main([*words, str(tmp_path / "a"), *arms]) == 0
    needed = {row["id"]: row["questions"][-1] for row in json.loads((place / "data" / "test.json").read_text())}
    rows = [json.loads(line) for line in (tmp_path / "a" / "predictions.jsonl").read_text().splitlines()]
    assert [*dict.fromkeys(row["arm"] for row in rows)] == ["oracle", "random", "mmr(balance=0.7)", "blind"]
    for row in rows:
        segments = needed[row["id"]]["segments"]
        hits = [bool({*segment} & {*row["kept"]}) for segment in segments]
        shows = row["arm"] != "blind"
        assert row["hit"] == (sum(hits) / len(hits) if hits and shows else None)
        assert row["arm"] != "oracle" or row["hit"] in (1.0, None)
        assert len(row["kept"]) == 3 * shows
        assert bool(row["visual_tokens"]) == bool(row["scores"]) == shows
        assert len(row["scores"]) == len(row["seconds"]) == 20 * shows
    metrics = json.loads((tmp_path / "a" / "metrics.json").read_text())
    assert metrics["arms"]["oracle"]["hit_rate"] == 1 > metrics["arms"]["random"]["hit_rate"] > 0
    assert metrics["arms"]["blind"]["hit_rate"] is None
    assert cli.main(["report-card", str(tmp_path / "a")]) == 0
    assert "random, K = 3, kept frames alone" in capsys.readouterr().out

    few = [*words, str(tmp_path / "few"), "--frames", "5", "--keep", "1", "--rows", "4"]
    assert cli.main([*few, "--arms", "uniform"]) == 0  # frames 2, 6, 10, 14 and 18 of the file, of which 10 is kept
    for line in (tmp_path / "few" / "predictions.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert row["seconds"] == [2, 6, 10, 14, 18]
        segments = needed[row["id"]]["segments"]
        assert row["hit"] == (sum(10 in part for part in segments) / len(segments) if segments else None)
        assert row["segments"] == [[(n - 2) // 4 for n in part if n % 4 == 2] for part in segments]

    def sample(name: str, *more: str) -> tuple[list[str], list[list[int]]]:
        drawn = ["--temperature", "3", "--top-p", "0.99", "--rows", "3", "--arms", "random", *more]
        assert cli.main([*words, str(tmp_path / name), *drawn]) == 0
        made = [json.loads(line) for line in (tmp_path / name / "predictions.jsonl").read_text().splitlines()]
        return [row["answer"] for row in made], [row["kept"] for row in made]

    first, again, other = sample("s1", "--seed", "1"), sample("s2", "--seed", "1"), sample("s3", "--seed", "2")
    assert first == again
    assert first[0] != other[0]
    assert first[1] != other[1]  # what the selector draws follows from the seed too
    encoded = {*(tmp_path / "cache").glob("??/*.safetensors")}
    assert len(encoded) == 3  # two videos of which three frames are kept, and one of which one is
    assert sample("s4", "--seed", "1", "--pair", "next")[1] == first[1]
    paired = {*(tmp_path / "cache").glob("??/*.safetensors")} - encoded
    assert len(paired) == 1  # its frames are encoded with the next ones
    assert json.loads((tmp_path / "s4" / "card.json").read_text())["shown"]["pair"] == "next"


def test_a_host_is_asked_about_segments_folders_of_frames_and_no_picture(
    hosts: dict[str, Path], video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three kinds of MVBench's and ScienceQA's questions; videos that are missing are named."""
    root, row = tmp_path / "mvbench", {"question": "Which?", "candidates": ["A bag.", "A cup."], "answer": "A cup."}
    asked = {"action_localization": {**row, "video": "a.mp4", "start": 4, "end": 9}}
    asked |= {"episodic_reasoning": {**row, "video": "clip", "start": 0.5, "end": 1.5}}
    asked["action_count"] = {**row, "video": "none.mp4"}
    frames = root / "video/tvqa/frames_fps3_hq/clip"
    for folder in (root / "json", root / "video/sta/sta_video", frames):
        folder.mkdir(parents=True)
    for task in TASKS:
        (root / "json" / f"{task}.json").write_text(json.dumps([asked[task]] if task in asked else []))
    shutil.copy(video, root / "video/sta/sta_video/a.mp4")
    for number in range(6):
        Image.new("RGB", (24, 24), (40 * number, 0, 0)).save(frames / f"{number:05}.jpg")
    words = ["--host", str(hosts["internvl"]), "--max-new-tokens", "1", "--keep", "2", "--fps", "0", "--out"]
    mvbench = ["evaluate", "mvbench", str(root), *words, str(tmp_path / "out")]
    assert cli.main(mvbench) == 1
    assert "1 of the 3 videos of mvbench are not below" in capsys.readouterr().err
    assert cli.main([*mvbench, "--allow-missing", "--shuffle"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    seconds = {line["group"]: line["seconds"] for line in lines}
    assert seconds == {"action_localization": [4, 5, 6, 7, 8], "episodic_reasoning": [0.667, 1, 1.333]}
    assert all(len(line["kept"]) == 2 for line in lines)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["missing"] == ["perception/videos/none.mp4"]
    assert (metrics["questions_left_out"], metrics["options_shuffled"]) == (1, True)

    science = tmp_path / "science"
    science.mkdir()
    for name in ("problems", "pid_splits"):
        shutil.copy(Path(__file__).parents[1] / "data" / f"scienceqa_{name}.json", science / f"{name}.json")
    assert cli.main(["evaluate", "scienceqa", str(science), *words, str(tmp_path / "out2"), "--allow-missing"]) == 0
    (line,) = map(json.loads, (tmp_path / "out2" / "predictions.jsonl").read_text().splitlines())
    assert (line["visual_tokens"], line["kept"], line["hit"]) == (0, [], None)

    line_row = {"video_key": "a", "uid": "1", "question": "Who", "answer": "A", "question_type": ["reasoning"]}
    seen = tmp_path / "lvbench"
    seen.mkdir()
    (seen / "lvbench.jsonl").write_text(json.dumps({**line_row, "time_reference": "00:03-00:05"}) + "\n")
    shutil.copy(video, seen / "a.mp4")
    arms = [*words, str(tmp_path / "out3"), "--arms", "uniform", "oracle"]
    assert cli.main(["evaluate", "lvbench", str(seen), *arms]) == 0
    lines = [json.loads(one) for one in (tmp_path / "out3" / "predictions.jsonl").read_text().splitlines()]
    assert {tuple(map(tuple, one["segments"])) for one in lines} == {((3, 4, 5),)}
    assert [(one["arm"], one["hit"]) for one in lines] == [("uniform", 1.0), ("oracle", 1.0)]
    assert 3 in lines[1]["kept"]
