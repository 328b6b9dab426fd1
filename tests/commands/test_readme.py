"""Check what the pages show: commands and configs are valid, names and links lead somewhere, numbers hold."""

import inspect
import pydoc
import re
import shlex
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from datamodules.mixture import Mixture
from datamodules.world import WorldDataModule
from dynfocus.cli import main
from dynfocus.settings import ConnectorSettings
from dynfocus.train.module import DynFocusModule

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
TEXT = {page: (ROOT / page).read_text() for page in PAGES}


def blocks(page: str, language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", TEXT[page], flags=re.M | re.S)
    return [block for name, block in fenced if name == language]


def commands(page: str) -> list[str]:
    return [line for block in blocks(page, "bash") for line in block.splitlines() if line.strip()]


HOUR = "docs/first-hour.md"  # test_first_hour runs it whole
SHOWN = list(
    dict.fromkeys(line for page in PAGES if page != HOUR for line in commands(page))
)  # in the order of the pages
MAKE = [line for line in SHOWN if line.startswith("make ")]
DYNFOCUS = [line for line in SHOWN if line.startswith(".venv/bin/dynfocus ")]
STAGES = [line for line in MAKE if re.search(r"\bstage\d.* ARGS=", line)]
CONFIGS = [(page, number) for page in PAGES for number in range(len(blocks(page, "yaml")))]


def run(args: list[str]) -> int:
    try:
        return main(args)
    except SystemExit as stop:
        return int(stop.code or 0)


def slug(heading: str) -> str:
    """The address that a heading has on a page."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def test_every_shown_command_is_checked() -> None:
    assert len(MAKE) >= 30
    assert len(DYNFOCUS) >= 25
    assert len(STAGES) >= 5
    assert set(MAKE) | set(DYNFOCUS) == set(SHOWN)


def test_the_readme_is_short_and_names_every_page() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 10 * 1024
    assert all(f"]({page})" in TEXT["README.md"] for page in PAGES if page != "README.md")


@pytest.mark.parametrize("page", PAGES)
def test_code_blocks_name_their_language(page: str) -> None:
    fences = re.findall(r"^```(.*)$", TEXT[page], flags=re.M)
    assert set(fences[::2]) <= {"bash", "text", "yaml", "python", "bibtex"}
    assert set(fences[1::2]) <= {""}


@pytest.mark.parametrize("line", MAKE)
def test_make_knows_the_target(line: str, tmp_path: Path) -> None:
    for name in ("Makefile", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "lightning_configs", tmp_path / "lightning_configs")
    for name in re.findall(r"\bmy_\w+\.yaml", line):  # the reader's own
        (tmp_path / name).touch()
    done = subprocess.run(
        ["bash", "-c", line.replace("make ", "make -n ", 1)], cwd=tmp_path, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_targets_in_the_text_exist() -> None:
    targets = set(re.findall(r"`make ([a-z]+\d?)\b", "".join(TEXT.values())))
    assert {"stage2", "test"} <= targets
    assert targets <= set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), flags=re.M))


@pytest.mark.parametrize("line", STAGES)
def test_args_of_a_stage_are_settings(
    line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    _, stage, args = shlex.split(line)
    words = shlex.split(args.removeprefix("ARGS="))
    pair = ["--config", f"lightning_configs/{stage}.yaml", "--config", "lightning_configs/world.yaml"]
    assert run(["fit", *pair, *words, "--print_config"]) == 0
    resolved = yaml.safe_load(capsys.readouterr().out)
    assert words
    for name, value in zip(words[::2], words[1::2], strict=True):
        setting = resolved
        for key in name.removeprefix("--").split("."):
            setting = setting[key]
        assert setting == yaml.safe_load(value) or setting == float(value)


@pytest.mark.parametrize(("page", "number"), CONFIGS)
def test_configs_are_settings(
    page: str, number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    (tmp_path / "shown.yaml").write_text(blocks(page, "yaml")[number])
    configs = ["lightning_configs/stage2.yaml", str(tmp_path / "shown.yaml")]
    towers = ["--model.encoders", "towers", "--model.language_model", "towers"]
    code = run(["fit", *towers, *(word for path in configs for word in ("--config", path)), "--print_config"])
    assert code == 0, capsys.readouterr().err


def test_plan_says_the_number_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    plans = [line for line in DYNFOCUS if " plan " in line and "--json" in line]
    assert plans
    for line in plans:
        assert run(shlex.split(line)[1:]) == 0
        tokens = re.search(r'"visual_tokens": (\d+)', capsys.readouterr().out)
        assert tokens
        assert f"= {tokens[1]} tokens" in TEXT["docs/plan.md"].replace("\n", " ")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", TEXT[page]):
        path, _, place = link.partition("#")
        if "://" in link:
            continue
        target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert target.is_file(), link
        headings = re.findall(r"^#+ (.*)$", target.read_text(), flags=re.M) if place else []
        assert not place or place in map(slug, headings), link


@pytest.mark.parametrize("page", PAGES)
def test_files_and_names_in_the_text_exist(page: str) -> None:
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", TEXT[page], flags=re.M | re.S))
    packages = "dynfocus|datamodules|callbacks|lightning_configs|notebooks|perf|tests|docs"
    paths = [text for text in inline if re.fullmatch(rf"(?:{packages})/[\w./-]*", text)]
    assert [path for path in paths if not (ROOT / path).exists()] == []
    names = [text for text in inline if re.fullmatch(r"(?:dynfocus|datamodules|callbacks)(?:\.\w+)+", text)]
    assert [name for name in names if pydoc.locate(name) is None and name != "dynfocus.selectors"] == []


def test_settings_in_the_text_exist() -> None:
    connector = {field.name for field in fields(ConnectorSettings)}
    model = set(inspect.signature(DynFocusModule.__init__).parameters)
    data = {
        name for kind in (*Mixture.__mro__, WorldDataModule) for name in inspect.signature(kind.__init__).parameters
    }
    text = "".join(TEXT.values())
    assert set(re.findall(r"[`-]model\.(\w+)[`: =]", text)) <= model
    assert set(re.findall(r"\bconnector\.(\w+)[`: =]", text)) <= connector
    assert set(re.findall(r"\bdata\.init_args\.(\w+)[`: =]", text)) <= data


@pytest.mark.parametrize("variable", ["PYTHON", "TORCH", "TORCH_ARGS", "UV", "CONFIG", "ARGS", "AGAIN", "DEVICES"])
def test_variables_of_make_are_explained(variable: str) -> None:
    assert re.search(rf"\b{variable}\b", (ROOT / "Makefile").read_text())
    assert re.search(rf"\b{variable}\b", "".join(TEXT[page] for page in PAGES))
