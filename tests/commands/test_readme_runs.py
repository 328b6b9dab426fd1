"""Run every dynfocus command and every selector of the pages: in a folder like the reader's, with a miniature in it."""

import glob
import importlib
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml
from PIL import Image
from sandbox import Clone
from test_readme import DYNFOCUS, PAGES, blocks, run
from tiny_world import CONFIGS

from dynfocus.method.selectors import build_selector

# What the reader's overlays lack for towers as small as these.
SIZES = {
    "model": {
        "system_prompt": False,
        "connector": {
            **{"patches": 36, "pooled": 4, "events": 5, "keep": 0.6},
            **{"spatial_prototypes": [6, 3], "spatial_neighbours": [4, 2]},
        },
        "frame_rule": {"size": 24},
    },
    "data": {"init_args": {"batch_size": 2, "global_batch": None}},
    "trainer": {"accelerator": "cpu", "precision": "32-true", "log_every_n_steps": 1},
}
OWN_VIDEOS = next(block for block in blocks("README.md", "bash") if "make qlora" in block).splitlines()
SELECTORS = [(page, number) for page in PAGES for number, b in enumerate(blocks(page, "python")) if "Selector" in b]


def laid_over(below: Any, above: Any) -> Any:
    """Settings with others laid over them, as configs are."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return below | {name: laid_over(below.get(name), value) for name, value in above.items()}


def overlays() -> dict[str, Any]:
    """The reader's overlays: those of the README by the name on their first line, that of the docs by its two parts."""
    readme = {re.findall(r"^# (\w+\.yaml)$", b, re.M)[0]: yaml.safe_load(b) for b in blocks("README.md", "yaml")}
    clips = next(block for block in blocks("docs/data.md", "yaml") if "sources:" in block)
    towers = yaml.safe_load(blocks("docs/weights.md", "yaml")[0])
    return readme | {"my_overlay.yaml": laid_over(towers, yaml.safe_load(clips))}


@pytest.fixture(scope="module")
def home(place: Path, trained_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the reader has after `make stage2`, beside weights, overlays and clips of their own."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(CONFIGS, home / "lightning_configs")
    (home / "cache/world").mkdir(parents=True)
    (home / "cache/world/data").symlink_to(place / "data")
    for folder in ("cache/world/towers/instructblip", "weights/instructblip-vicuna-7b"):
        shutil.copytree(place / "towers/encoders", home / folder)
    for folder in ("cache/world/towers/llm", "weights/vicuna-7b-v1.5"):
        shutil.copytree(place / "towers/language", home / folder)
    shutil.copytree(trained_runs, home / "runs/world")
    shutil.copytree(trained_runs / "stage2/model", home / "runs/7b/stage2/model")
    film = place / "data/videos/train_000000.mp4"
    media = "data/my_clips/media"
    for name in ("my_video.mp4", "my_videos/one.mp4", "my_videos/two.mp4", f"{media}/kitchen/1.mp4"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(film, home / name)
    (home / media / "plans").mkdir()
    Image.new("RGB", (24, 24)).save(home / media / "plans/ground floor.png")
    clips = next(block for block in blocks("docs/data.md", "text") if block.startswith('{"id"'))
    (home / "data/my_clips/clips.jsonl").write_text(clips.replace('"start": 12.5, "end": 41.0', '"start": 2, "end": 9'))
    questions = next(block for block in blocks("docs/bridge.md", "text") if block.startswith('{"id"'))
    (home / "my_questions.jsonl").write_text(questions)
    table = next(block for block in blocks("docs/inspect.md", "text") if block.startswith("id,video"))
    (home / "my_questions.csv").write_text(table)
    for name, settings in overlays().items():
        (home / name).write_text(yaml.safe_dump(laid_over(settings, SIZES)))
    return home


@pytest.mark.parametrize("line", [line for line in DYNFOCUS if line not in OWN_VIDEOS])
def test_it_runs(line: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(home)
    code = run([path for word in shlex.split(line)[1:] for path in (sorted(glob.glob(word)) or [word])])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert printed.out


def test_own_videos_from_stage_1_to_an_answer(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The README's block as it stands: make says which commands it calls, and each of them runs for real."""
    sandbox = Clone(tmp_path)
    shutil.copytree(CONFIGS, tmp_path / "lightning_configs", dirs_exist_ok=True)
    shutil.copy(home / "my_videos.yaml", tmp_path)
    monkeypatch.chdir(home)
    for line in OWN_VIDEOS:
        words = shlex.split(line)
        calls = [words[1:]]
        if words[0] == "make":
            code, printed, notes = sandbox.make(*words[1:])
            assert code == 0, printed
            calls = [shlex.split(call)[2:] for call in notes if "-m dynfocus" in call and " table " not in call]
        for call in calls:
            assert run(call) == 0, capsys.readouterr().err
    assert "kept frames:" in capsys.readouterr().out
    assert (home / "runs/mine/qlora/model").is_dir()


@pytest.mark.parametrize(("page", "number"), SELECTORS)
def test_selectors_on_the_pages_choose_frames(
    page: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved under the name that the page gives it, a selector ranks frames, whatever else is in the batch."""
    block = blocks(page, "python")[number]
    name = re.findall(r"^class (\w+)\((?:Frame|Set)Selector\)", block, re.M)[0]
    (tmp_path / f"{name.lower()}.py").write_text(block)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    settings = replace(tiny.SETTINGS, selector=f"{name.lower()}.{name}")
    selector = build_selector(settings, tiny.WIDTH, tiny.TEXT_WIDTH)
    one = tiny.sketch(12, settings=settings)
    relevance = torch.rand(1, 17, generator=tiny.generator(3))
    alone = selector(one, tiny.inputs(one, [4], 0, 0, relevance=relevance[:, :12]))
    more = tiny.pad_sketch(one, 5)
    padded = selector(more, tiny.inputs(more, [4], 0, 0, relevance=relevance))
    assert alone.frames.shape == (1, 4)
    assert torch.equal(alone.frames, padded.frames)
    first = tiny.sketch(1, settings=settings)
    assert selector(first, tiny.inputs(first, [1], 0, 0, relevance=relevance[:, :1])).frames.tolist() == [[0]]
