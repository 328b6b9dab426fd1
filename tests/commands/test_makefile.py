"""The Makefile's order, stamps and sentences: real make runs, whose Python is a script that notes what it is asked."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from sandbox import EVERYTHING, ROOT, Clone


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


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


@pytest.mark.parametrize("setting", ["ARGS=--model.lr 1", "CONFIG=a.yaml", "DEVICES=2", "NODES=2", "LAUNCH=srun"])
def test_settings_nobody_would_read_are_refused(clone: Clone, setting: str) -> None:
    code, out, calls = clone.make("check", setting)
    assert (code, calls) == (2, [])
    assert f"{setting.split('=')[0]} was given, but none of the" in out


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
