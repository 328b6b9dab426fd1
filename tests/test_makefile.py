"""The Makefile's order, stamps and sentences: real make runs, whose Python is a script that notes what it is asked."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dynfocus.cli import LIGHTNING, main, parser

ROOT = Path(__file__).parents[1]
# Stands for Python: it records each call and leaves the files that the real commands leave.
PYTHON = f"""#!/usr/bin/env bash
case "$*" in
  -c*version_info*) [ -z "${{OLD-}}" ] || exec {sys.executable} -c \
    'import sys; sys.version_info = (3, 9); exec(sys.argv[1])' "$2" ;;&
  -c*metadata*) echo torch==9.9; exit 0 ;;
  -c*) exec {sys.executable} "$@" ;;
esac
echo "$*" >> calls.txt
case "$*" in
  *refuse*) exit 2 ;;
  *pip\\ install*) [ -z "${{OFFLINE-}}" ] || exit 1 ;;
  -m\\ venv*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  *dynfocus\\ world*) mkdir -p cache/world/data ;;
  *dynfocus\\ towers*) mkdir -p cache/world/towers && date +%N > cache/world/towers/model.safetensors ;;
  *fit*stage1.yaml*) mkdir -p runs/world/stage1; echo "${{SLEEP-}}" > runs/world/stage1/projectors.safetensors
    trap 'exit 0' INT; [ -z "${{SLEEP-}}" ] || {{ touch asleep; sleep "$SLEEP"; }} ;;
  *fit*stage2.yaml*) mkdir -p runs/world/stage2 ;;
  *dynfocus\\ test*) [ -z "${{FAIL-}}" ] || exit 1; echo '{{}}' > runs/world/stage2/metrics.json ;;
  *table*) echo THE TABLE ;;
esac
"""


class Clone:
    """A copy of the files that make reads, and what its Python was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("Makefile", "setup.cfg", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)
        (folder / "lightning_configs").mkdir()
        for name in ("stage1", "stage2", "world"):
            (folder / f"lightning_configs/{name}.yaml").write_text(f"{name}: 1\n")
        (folder / "python").write_text(PYTHON)
        (folder / "python").chmod(0o755)

    def start(self, *args: str, **env: str) -> subprocess.Popen[str]:
        clean = {k: v for k, v in os.environ.items() if k not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "ARGS", "CONFIG"}}
        return subprocess.Popen(
            ["make", "PYTHON=./python", *args],
            cwd=self.folder,
            env={**clean, **env},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def make(self, *args: str, **env: str) -> tuple[int, str, list[str]]:
        """The exit code, what was printed, and the Python calls of one make."""
        (self.folder / "calls.txt").unlink(missing_ok=True)
        process = self.start(*args, **env)
        out, _ = process.communicate(timeout=60)
        return process.returncode, out, self.calls()

    def calls(self) -> list[str]:
        path = self.folder / "calls.txt"
        return path.read_text().splitlines() if path.exists() else []

    def steps(self, *args: str, **env: str) -> list[str]:
        """The sub-commands of `dynfocus` that one successful make calls, a stage's fit with its number."""
        code, out, calls = self.make(*args, **env)
        assert code == 0, out
        words = [call.split() for call in calls if "dynfocus" in call]
        return [w[2] + (w[4][-6] if w[2] == "fit" else "") for w in words]


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


EVERYTHING = ["world", "towers", "fit1", "fit2", "test", "table"]


def test_stage2_does_everything_in_order_and_then_nothing(clone: Clone) -> None:
    code, out, calls = clone.make("stage2")
    assert code == 0, out
    assert [call.split()[2] for call in calls if "dynfocus" in call] == [
        "world",
        "towers",
        "fit",
        "fit",
        "test",
        "table",
    ]
    assert calls[0] == "-m venv --clear .venv"
    assert "-m dynfocus towers cache/world/data cache/world/towers" in calls
    pair = "--config lightning_configs/stage2.yaml --config lightning_configs/world.yaml"
    assert [f"-m dynfocus fit {pair}", f"-m dynfocus test {pair}", "-m dynfocus table runs/world/stage2"] == calls[-3:]
    code, out, calls = clone.make("stage2")
    assert (code, calls) == (0, ["-m dynfocus table runs/world/stage2"])
    assert "stage2 is done with these settings: runs/world/stage2 (make stage2 AGAIN=1 repeats it)" in out
    assert out.count("is done") == 1
    assert "THE TABLE" in out


def test_torch_is_installed_first_and_held_afterwards(clone: Clone) -> None:
    _, _, calls = clone.make("install", "TORCH=torch==9.9", "TORCH_ARGS=--index-url https://example.org/cpu")
    installs = [call for call in calls if "install" in call]
    assert installs[0].endswith("--index-url https://example.org/cpu torch==9.9")
    assert installs[1].endswith("-c .venv/constraints.txt -e .[dev]")
    assert len(installs) == 2
    assert (clone.folder / ".venv/constraints.txt").read_text() == "torch==9.9\n"


def test_install_is_repeated_only_for_a_changed_setting_or_file(clone: Clone) -> None:
    clone.make("install", "TORCH_ARGS=--pre '$$x'")
    code, out, calls = clone.make("install")
    assert (code, calls) == (0, [])
    assert "up to date" in out
    assert any("--pre $y" in call for call in clone.make("install", "TORCH_ARGS=--pre '$$y'")[2])
    assert any("uv pip install" in call for call in clone.make("install", "UV=1")[2])
    assert clone.make("world")[2] == ["-m dynfocus world cache/world/data"]
    (clone.folder / "setup.cfg").write_text("# changed\n")
    calls = clone.make("test")[2]
    assert any("uv pip install" in call and "--pre" in call for call in calls), "the last settings are kept"
    assert not any("venv --clear" in call for call in calls)
    assert clone.make("install")[2] == []
    shutil.rmtree(clone.folder / ".venv")
    assert clone.make("install")[2][0] == "-m venv --clear .venv"


def test_a_failed_install_is_tried_again(clone: Clone) -> None:
    code, _, _ = clone.make("install", OFFLINE="1")
    assert code != 0
    assert any("pip install" in call for call in clone.make("install")[2])


def test_a_wrong_python_is_named_in_one_sentence(clone: Clone) -> None:
    code, out, calls = clone.make("install", OLD="1")
    assert code != 0
    assert "3.10 or newer is needed" in out
    assert calls == []
    code, out, _ = clone.make("install", "PYTHON=no-such-python")
    assert code != 0
    assert "PYTHON=no-such-python: there is no such command" in out


def test_args_reach_the_named_target_alone(clone: Clone) -> None:
    _, _, calls = clone.make("stage2", "ARGS=--model.lr 1e-4 --x '[1, 2]'")
    asked = [call for call in calls if "--model.lr 1e-4 --x [1, 2]" in call]
    assert [call.split()[2] for call in asked] == ["fit", "test"]
    assert all("stage2.yaml" in call for call in asked)
    assert clone.steps("stage2", "ARGS=--model.lr 1e-4 --x '[1, 2]'") == ["table"]
    assert clone.steps("stage2", "ARGS=--model.lr 2e-4") == ["fit2", "test", "table"]
    assert clone.steps("stage2") == ["fit2", "test", "table"]


def test_the_real_command_line_takes_these_calls(
    clone: Clone, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, calls = clone.make("stage2")
    asked = [call.split()[2:] for call in calls if "dynfocus" in call]
    assert len(asked) == len(EVERYTHING)
    monkeypatch.chdir(ROOT)
    for verb, *rest in asked:
        if verb in LIGHTNING:
            with pytest.raises(SystemExit) as stop:
                main([verb, *rest, "--print_config"])
            assert not stop.value.code, capsys.readouterr().err
        else:
            parser().parse_args([verb, *rest])


def test_stage2_builds_on_the_stage1_that_is_there(clone: Clone) -> None:
    assert clone.steps("stage1", "ARGS=--model.lr 5") == ["world", "towers", "fit1"]
    assert clone.steps("stage2") == ["fit2", "test", "table"]
    assert clone.steps("stage2", "STAGE1_ARGS=--model.lr 5") == ["table"]
    assert clone.steps("stage2", "STAGE1_ARGS=--model.lr 6") == ["fit1", "table"], "the same projectors"
    assert clone.steps("stage1") == ["fit1"]


def test_changed_files_are_seen(clone: Clone) -> None:
    assert clone.steps("stage2") == EVERYTHING
    shutil.rmtree(clone.folder / "runs/world/stage2")
    assert clone.steps("stage2") == ["fit2", "test", "table"]
    (clone.folder / "lightning_configs/stage2.yaml").write_text("stage2: 2\n")
    assert clone.steps("stage2") == ["fit2", "test", "table"]
    (clone.folder / "lightning_configs/stage1.yaml").write_text("stage1: 2\n")
    assert clone.steps("stage2") == ["fit1", "table"]
    (clone.folder / "runs/world/stage1/projectors.safetensors").write_text("others")
    assert clone.steps("stage2") == ["fit2", "test", "table"]
    assert clone.steps("towers", "AGAIN=1") == ["towers"]
    assert clone.steps("stage1") == ["fit1"]


def test_again_repeats_what_was_named(clone: Clone) -> None:
    clone.make("stage2")
    assert clone.steps("stage2", "AGAIN=1") == ["fit2", "test", "table"]
    assert clone.steps("stage1", "AGAIN=1") == ["fit1"]
    assert clone.steps("stage2", "AGAIN=0") == ["table"]


def test_config_replaces_the_pair(clone: Clone) -> None:
    mine = clone.folder / "mine.yaml"
    mine.write_text("mine: 1\n")
    config = "CONFIG=lightning_configs/stage1.yaml lightning_configs/world.yaml mine.yaml"
    _, _, calls = clone.make("stage1", config)
    assert calls[-1].endswith("fit " + " ".join(f"--config {name}" for name in config[7:].split()))
    assert clone.steps("stage2") == ["fit2", "test", "table"], "stage 1 is there, whichever config made it"
    mine.write_text("mine: 2\n")
    assert clone.steps("stage1", config) == ["fit1"]
    code, out, calls = clone.make("stage1", "CONFIG=nowhere.yaml")
    assert (code, calls) == (2, [])
    assert "CONFIG names nowhere.yaml, which is not there" in out


def test_a_config_without_the_world_builds_no_world(clone: Clone) -> None:
    assert clone.steps("stage2", "CONFIG=lightning_configs/stage2.yaml") == ["fit2", "test"]
    assert clone.steps("stage2", "CONFIG=lightning_configs/stage2.yaml", "RUN=runs/world") == ["table"]


def test_settings_nobody_would_read_are_refused(clone: Clone) -> None:
    for setting in ("ARGS=--model.lr 1", "CONFIG=a.yaml"):
        code, out, calls = clone.make("check", setting)
        assert (code, calls) == (2, [])
        assert "was given, but n" in out


def test_an_interrupted_fit_leaves_no_stamp(clone: Clone) -> None:
    clone.make("stage1")
    process = clone.start("stage1", "AGAIN=1", SLEEP="30")
    deadline = time.monotonic() + 30
    while not (clone.folder / "asleep").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode != 0
    assert not (clone.folder / ".stamps/stage1").exists()
    assert clone.steps("stage1") == ["fit1"]


def test_a_failed_test_does_not_train_again(clone: Clone) -> None:
    code, _, _ = clone.make("stage2", FAIL="1")
    assert code != 0
    assert clone.steps("stage2") == ["test", "table"]
    assert clone.steps("stage2") == ["table"]


def test_a_refused_setting_leaves_what_was_done(clone: Clone) -> None:
    clone.make("stage2")
    code, _, calls = clone.make("stage2", "ARGS=--refuse")
    assert code != 0
    assert "--refuse" in calls[-1]
    assert clone.steps("stage2") == ["table"]


def test_clean_keeps_what_took_long(clone: Clone) -> None:
    clone.make("stage2")
    code, out, _ = clone.make("clean")
    assert code == 0
    assert "kept .venv, cache and runs" in out
    assert (clone.folder / "runs/world/stage2/metrics.json").exists()
    assert not (clone.folder / ".stamps").exists()


def test_help_lists_every_target() -> None:
    out = subprocess.run(["make", "help"], cwd=ROOT, text=True, capture_output=True, check=True).stdout
    phony = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith(".PHONY:"))
    listed = {line.split()[0] for line in out.splitlines() if line.startswith("  ") and "  " in line.strip()}
    assert set(phony.split()[1:]) <= listed
