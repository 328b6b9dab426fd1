"""The wheel alone, from an empty folder: its recipes, its metadata, and in the slow lane a training and an answer."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest
import tiny
import yaml
from packaging.requirements import Requirement
from tiny_world import CONFIGS, ROOT, SMALL

from dynfocus.cli import find_recipes, main
from dynfocus.errors import UsageError

Capture = pytest.CaptureFixture[str]
SOURCES = (
    "dynfocus",
    "datamodules",
    "callbacks",
    "lightning_configs",
    "setup.cfg",
    "pyproject.toml",
    "README.md",
    "LICENSE",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, as setuptools leaves its own folders beside what it builds."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    build = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, str(folder)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("dynfocus-*.whl")
    return found


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("dist-info/METADATA"))
        return message_from_string(archive.read(name).decode())


def test_the_wheel_holds_every_recipe_and_no_test(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {f"lightning_configs/{file.relative_to(CONFIGS)}" for file in CONFIGS.rglob("*.yaml")} <= names
    assert {name.partition("/")[0] for name in names if "dist-info" not in name} == {
        *("dynfocus", "datamodules", "callbacks", "lightning_configs")
    }
    data = [file for file in (ROOT / "dynfocus").rglob("*") if file.is_file() and file.suffix not in (".py", ".pyc")]
    assert {str(file.relative_to(ROOT)) for file in data} <= names


def test_the_metadata_are_whole_and_name_nobody(metadata: Message) -> None:
    for name in ("Summary", "Keywords", "Project-URL", "Requires-Python", "Description-Content-Type"):
        assert metadata[name], name
    assert metadata["License"] == "Apache-2.0"
    assert not {"Author", "Author-email", "Maintainer", "Maintainer-email"} & set(metadata.keys())
    versions = {
        one.rpartition(" ")[2] for one in metadata.get_all("Classifier", []) if re.search(r"Python :: 3\.\d", one)
    }
    assert versions == {"3.10", "3.11", "3.12", "3.13"}


def test_decord_is_asked_for_only_where_it_exists(metadata: Message) -> None:
    """It has wheels for Linux on x86-64 alone; everything else exists for aarch64 too."""
    needed = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    for machine, system, more in [
        ("x86_64", "linux", {"decord"}),
        ("aarch64", "linux", set()),
        ("arm64", "darwin", set()),
    ]:
        place = {"platform_machine": machine, "sys_platform": system, "extra": ""}
        names = {one.name for one in needed if one.marker is None or one.marker.evaluate(place)}
        assert names & {"decord", "av"} == {"av"} | more


def test_recipes_are_listed_copied_and_found_by_name(tmp_path: Path, capsys: Capture) -> None:
    assert main(["configs"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^stage2 +Stage 2, instruction tuning", printed, re.M)
    assert re.search(r"^worlds/long +The world `long`", printed, re.M)
    assert main(["configs", "--copy", str(tmp_path / "mine")]) == 0
    for file in CONFIGS.rglob("*.yaml"):
        assert (tmp_path / "mine" / file.relative_to(CONFIGS)).read_text() == file.read_text()
    (tmp_path / "mine/qlora.yaml").write_text("mine: 1\n")
    (tmp_path / "mine/stage1.yaml").unlink()
    assert main(["configs", "--copy", str(tmp_path / "mine")]) == 1
    assert "qlora.yaml, which is there" in capsys.readouterr().err
    assert not (tmp_path / "mine/stage1.yaml").exists()
    assert (tmp_path / "mine/qlora.yaml").read_text() == "mine: 1\n"


def test_only_a_config_names_a_recipe() -> None:
    stage, long = str(CONFIGS / "stage2.yaml"), str(CONFIGS / "worlds/long.yaml")
    words = ["fit", "--config", "dynfocus:stage2", "--config=dynfocus:worlds/long", "-c", "dynfocus:stage2"]
    assert find_recipes(words) == ["fit", "--config", stage, f"--config={long}", "-c", stage]
    asked = ["ask", "a.mp4", "dynfocus:stage2", "--report", "dynfocus:world", "--config", "mine.yaml"]
    assert find_recipes(asked) == asked
    with pytest.raises(UsageError, match=r"the recipe dynfocus:stage3.*Did you mean stage"):
        find_recipes(["fit", "--config", "dynfocus:stage3"])


@pytest.mark.slow
def test_the_wheel_trains_and_answers_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    """Installed beside nothing of the checkout: a small world, towers of random weights, both stages, three verbs."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    home = tmp_path / "home"
    home.mkdir()
    tiny.towers(home / "towers")
    overlay = yaml.safe_load(SMALL.format(place=".", what="null"))
    del overlay["trainer"]
    (home / "small.yaml").write_text(yaml.safe_dump(overlay))
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "installed"), "PYTHONSAFEPATH": "1"}

    def call(*words: str) -> str:
        start = "import sys; from dynfocus.cli import main; import dynfocus; print(dynfocus.__file__); sys.exit(main())"
        done = subprocess.run(
            [sys.executable, "-c", start, *words],
            cwd=home,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(str(tmp_path / "installed"))
        return done.stdout

    call("world", "data", "--videos", "8", "--val", "2", "--test", "2")
    small = ("--config", "small.yaml", "--trainer.max_steps", "3")
    for stage in ("stage1", "stage2"):
        call("fit", "--config", f"dynfocus:{stage}", "--config", "dynfocus:world", *small)
    film = "data/videos/test_000000.mp4"
    assert "kept frames:" in call("ask", film, "what color is the star")
    (home / "q.csv").write_text(f"video,question\n{film},what color is the star\n")
    assert "1 answered" in call("answer", "--questions", "q.csv", "--out", "a.jsonl")
    assert "2 questions" in call("evaluate", "world", "data", "--out", "runs/world/evaluation", "--rows", "2")
