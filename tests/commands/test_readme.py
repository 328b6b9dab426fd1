"""What README.md and CONTRIBUTING.md show: make knows the targets, `plan` says its number, pictures are there."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from dynfocus.cli import main

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "CONTRIBUTING.md")


def commands(page: str) -> list[str]:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", (ROOT / page).read_text(), flags=re.M | re.S)
    return [line for language, block in blocks if language == "bash" for line in block.splitlines() if line.strip()]


SHOWN = sorted({line for page in PAGES for line in commands(page)})
MAKE = [line for line in SHOWN if line.startswith("make ")]
DYNFOCUS = [line for line in SHOWN if line.startswith(".venv/bin/dynfocus ")]
STAGES = [line for line in MAKE if re.search(r"\bstage\d.* ARGS=", line)]


def run(args: list[str]) -> int:
    try:
        return main(args)
    except SystemExit as stop:
        return int(stop.code or 0)


def test_every_shown_command_is_looked_at() -> None:
    assert len(MAKE) >= 5
    assert len(DYNFOCUS) >= 3
    assert STAGES
    assert set(MAKE) | set(DYNFOCUS) == set(SHOWN)


def test_code_blocks_name_their_language() -> None:
    for page in PAGES:
        fences = re.findall(r"^```(.*)$", (ROOT / page).read_text(), flags=re.M)
        assert set(fences[::2]) <= {"bash", "text", "yaml", "python"}


@pytest.mark.parametrize("line", MAKE)
def test_make_knows_the_target(line: str, tmp_path: Path) -> None:
    for name in ("Makefile", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "lightning_configs", tmp_path / "lightning_configs")
    (tmp_path / "my_overlay.yaml").touch()  # the reader's own
    done = subprocess.run(
        ["bash", "-c", line.replace("make ", "make -n ", 1)], cwd=tmp_path, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_targets_in_the_text_exist() -> None:
    text = "".join((ROOT / page).read_text() for page in PAGES)
    targets = set(re.findall(r"`make ([a-z]+\d?)\b", text))
    assert {"stage2", "test"} <= targets
    assert targets <= set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), flags=re.M))


@pytest.mark.parametrize("line", STAGES)
def test_args_of_a_stage_are_settings(
    line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    _, stage, args = shlex.split(line)
    pair = ["--config", f"lightning_configs/{stage}.yaml", "--config", "lightning_configs/world.yaml"]
    words = args.removeprefix("ARGS=").split()
    assert run(["fit", *pair, *words, "--print_config"]) == 0
    shown = capsys.readouterr().out
    values = [word for word in words if not word.startswith("--")]
    assert values
    assert all(value in shown or str(float(value)) in shown for value in values)


def test_plan_says_the_number_the_readme_says(capsys: pytest.CaptureFixture[str]) -> None:
    plans = [line for line in DYNFOCUS if " plan " in line and "--json" in line]
    assert plans
    for line in plans:
        assert run(shlex.split(line)[1:]) == 0
        tokens = re.search(r'"visual_tokens": (\d+)', capsys.readouterr().out)
        assert tokens
        assert f"= {tokens[1]} tokens" in (ROOT / "README.md").read_text().replace("\n", " ")


def test_pictures_are_there() -> None:
    shown = [name for page in PAGES for name in re.findall(r"!\[[^]]+\]\(([^)]+)\)", (ROOT / page).read_text())]
    assert shown
    assert all((ROOT / name).is_file() for name in shown)
