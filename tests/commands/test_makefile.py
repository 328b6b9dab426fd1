"""The Makefile's order and sentences: real make runs, whose Python only notes what takes minutes."""

import os
import shutil
import signal
import subprocess
import time
from configparser import ConfigParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from sandbox import EVERYTHING, ROOT, Clone, label


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_stage2_does_everything_in_order_and_then_nothing(clone: Clone) -> None:
    code, out, calls = clone.make("stage2")
    assert code == 0, out
    assert [call.split()[2] for call in calls if "dynfocus" in call] == ["world", "towers", "fit", "fit", "test"]
    headings = [line for line in out.splitlines() if " minute" in line and ": " in line]
    assert [line.partition(":")[0] for line in headings] == [
        *("the embedded world, 1 of 2", "the embedded world, 2 of 2", "stage 1 of 2", "stage 2 of 2", "test"),
    ]
    assert calls[0] == "-m venv --clear .venv"
    assert "-m dynfocus towers cache/world/data cache/world/towers" in calls
    settings = "--config lightning_configs/stage2.yaml --config lightning_configs/world.yaml"
    settings += " --trainer.default_root_dir runs/world/stage2"
    assert [f"-m dynfocus fit {settings}", f"-m dynfocus test {settings}"] == calls[-2:]
    ending = out[out.index("THE TABLE") :]
    for word in ("runs/world/stage2/model", " ask 'v 1.mp4' 'what color is the star'", "make tensorboard"):
        assert word in ending
    code, out, calls = clone.make("stage2")
    assert (code, calls) == (0, [])
    assert "runs/world/stage2 is trained with these settings already (--again, AGAIN=1 of make" in out
    assert out.count("already") == 1
    assert "minute" not in out
    assert "THE TABLE" in out


def test_torch_is_installed_first_and_held_afterwards(clone: Clone) -> None:
    _, _, calls = clone.make("install", "TORCH=torch==9.9", "TORCH_ARGS=--index-url https://example.org/cpu")
    installs = [call for call in calls if "install" in call]
    assert installs[0].endswith("--index-url https://example.org/cpu torch==9.9")
    assert installs[1].endswith("-c .venv/constraints.txt -e .[dev]")
    assert installs[2].endswith("--index-url https://example.org/cpu -c .venv/constraints.txt torchvision>=0.21")
    assert len(installs) == 3
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


def test_the_lowest_versions_are_those_of_setup_cfg(clone: Clone) -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lists = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    named = [Requirement(line) for text in lists for line in text.splitlines() if line and not line.startswith("#")]
    lowest = {one.name: f"{one.name}=={str(one.specifier).removeprefix('>=')}" for one in reversed(named)}
    code, out, calls = clone.make("test-lowest", "TORCH_ARGS=--pre", "ARGS=-x")
    assert code == 0, out
    held = "-m pip install -q --disable-pip-version-check -c cache/lowest/constraints.txt"
    assert calls[:3] == ["-m venv --clear cache/lowest", f"{held} --pre torch torchvision", f"{held} -e .[dev]"]
    (tests,) = calls[3:]
    assert tests.startswith("-m pytest -q -m not slow and not gpu -W default")
    assert tests.endswith(" -x")
    assert sorted((clone.folder / "cache/lowest/installed").read_text().split()) == sorted(lowest.values())
    assert len(clone.make("test-lowest")[2]) == 1
    (clone.folder / "setup.cfg").write_text("    av>=99\n")
    assert len(clone.make("test-lowest")[2]) == 4, "other bounds are other versions"
    code, out, calls = clone.make("test-lowest", OLD="1")
    assert code == 0, "nothing is installed anew"
    (clone.folder / "cache/lowest/installed").unlink()
    code, out, calls = clone.make("test-lowest", OLD="1")
    assert code == 2
    assert "Python 3.10 to 3.12 alone" in out
    assert calls == []


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
    assert "PYTHON=no-such-python, but a Python of 3.10 or newer is needed" in out


def test_args_reach_the_named_target_alone(clone: Clone) -> None:
    _, _, calls = clone.make("stage2", "ARGS=--model.lr 1e-4 --x '[1, 2]'")
    asked = [call for call in calls if "--model.lr 1e-4 --x [1, 2]" in call]
    assert [call.split()[2] for call in asked] == ["fit", "test"]
    assert all("stage2.yaml" in call for call in asked)
    assert clone.steps("stage2", "ARGS=--model.lr 1e-4 --x '[1, 2]'") == []
    assert clone.steps("stage2", "ARGS=--model.lr 2e-4") == ["fit2", "test"]
    assert clone.steps("stage2") == ["fit2", "test"]


def test_a_seed_is_one_of_the_named_stage(clone: Clone) -> None:
    _, _, calls = clone.make("stage2", "SEED=1")
    seeded = [call for call in calls if call.endswith(" --seed_everything 1")]
    assert [label(call) for call in seeded] == ["fit2", "test"]
    assert clone.steps("stage2", "SEED=1") == []
    assert clone.steps("stage2", "SEED=2") == ["fit2", "test"], "a run of another seed is another run"
    assert clone.steps("stage2") == ["fit2", "test"]
    assert clone.steps("lora", "SEED=1") == ["fitlora", "test"]


@pytest.mark.parametrize(
    ("word", "nearest"), [("GPUS=2", "DEVICES"), ("args=--model.lr 1", "ARGS"), ("SEDE=1", "SEED"), ("data=x", "")]
)
def test_a_variable_that_nobody_reads_is_refused(clone: Clone, word: str, nearest: str) -> None:
    code, out, calls = clone.make("stage2", word)
    assert (code, calls) == (2, [])
    assert f"{word.split('=')[0]} is no variable of this Makefile, the nearest is {nearest}" in out


def test_stage2_builds_on_the_stage1_that_is_there(clone: Clone) -> None:
    assert clone.steps("stage1", "ARGS=--model.lr 5") == ["world", "towers", "fit1"]
    assert clone.steps("stage2") == ["fit2", "test"]
    assert clone.steps("stage2", "STAGE1_ARGS=--model.lr 5") == []
    assert clone.steps("stage2", "STAGE1_ARGS=--model.lr 6") == ["fit1"], "the same projectors"
    assert clone.steps("stage2") == []
    assert clone.steps("stage1") == ["fit1"]


def test_changed_files_are_seen(clone: Clone) -> None:
    assert clone.steps("stage2") == EVERYTHING
    shutil.rmtree(clone.folder / "runs/world/stage2")
    assert clone.steps("stage2") == ["fit2", "test"]
    (clone.folder / "lightning_configs/stage2.yaml").write_text("stage2: 2\n")
    assert clone.steps("stage2") == ["fit2", "test"]
    (clone.folder / "lightning_configs/stage1.yaml").write_text("stage1: 2\n")
    assert clone.steps("stage2") == ["fit1"]
    (clone.folder / "runs/world/stage1/projectors.safetensors").write_text("others")
    assert clone.steps("stage2") == ["fit2", "test"]
    assert clone.steps("towers", "AGAIN=1") == ["towers"]
    assert clone.steps("stage1") == ["fit1"]


def test_again_repeats_what_was_named(clone: Clone) -> None:
    clone.make("stage2")
    assert clone.steps("stage2", "AGAIN=1") == ["fit2", "test"]
    assert clone.steps("stage1", "AGAIN=1") == ["fit1"]
    assert clone.steps("stage2", "AGAIN=0") == []


def test_config_replaces_the_pair(clone: Clone) -> None:
    mine = clone.folder / "mine.yaml"
    mine.write_text("mine: 1\n")
    config = "CONFIG=lightning_configs/stage1.yaml lightning_configs/world.yaml mine.yaml"
    _, _, calls = clone.make("stage1", config)
    configs = " ".join(f"--config {name}" for name in config[7:].split())
    assert calls[-1].endswith(f"fit {configs} --trainer.default_root_dir runs/world/stage1")
    assert clone.steps("stage2") == ["fit2", "test"], "stage 1 is there, whichever config made it"
    mine.write_text("mine: 2\n")
    assert clone.steps("stage1", config) == ["fit1"]
    code, out, calls = clone.make("stage1", "CONFIG=nowhere.yaml")
    assert (code, calls) == (2, [])
    assert "CONFIG names nowhere.yaml, which is not there" in out


def test_a_config_without_the_world_builds_no_world(clone: Clone) -> None:
    (clone.folder / "lightning_configs/stage2.yaml").write_text("trainer: {default_root_dir: runs/mine/stage2}\n")
    config = "CONFIG=lightning_configs/stage2.yaml"
    assert clone.steps("stage2", config) == ["fit2", "test"]
    code, out, calls = clone.make("stage2", config)
    assert (code, calls) == (0, [])
    assert "runs/mine/stage2 is trained with these settings already" in out
    assert "THE TABLE" in out
    assert clone.steps("stage2", config, "RUN=runs/other") == ["fit2", "test"]
    assert (clone.folder / "runs/other/stage2/model").exists()


@pytest.mark.parametrize(
    "setting",
    ["ARGS=--model.lr 1", "CONFIG=a.yaml", "SEED=1", "DEVICES=2", "NODES=2", "LAUNCH=srun", "BENCH=mlvu", "MODEL=m"],
)
def test_settings_nobody_would_read_are_refused(clone: Clone, setting: str) -> None:
    code, out, calls = clone.make("check", setting)
    assert (code, calls) == (2, [])
    assert f"{setting.split('=')[0]} was given, but none of the" in out


def test_ablations_build_on_the_worlds_towers(clone: Clone) -> None:
    code, out, calls = clone.make("ablations", "SEEDS=0,1", "ARGS=--only table6")
    assert code == 0, out
    assert [call.split()[2] for call in calls if "dynfocus" in call] == ["world", "towers", "ablations"]
    assert calls[-1] == "-m dynfocus ablations --seeds 0,1 --out runs/world/ablations --only table6"
    calls = clone.make("ablations-full", "WORLD=standard")[2]
    assert calls[-1] == (
        "-m dynfocus ablations --recipe standard --seeds 0,1,2 --out runs/world-standard/ablations --full"
    )


def test_evaluate_needs_a_benchmark_and_its_files(clone: Clone) -> None:
    clone.make("install")
    for given in ((), ("BENCH=mlvu",)):
        code, out, calls = clone.make("evaluate", *given)
        assert (code, calls) == (2, [])
        assert f"make evaluate needs {'ROOT' if given else 'BENCH'}=" in out
    made = ["make", "-n", "evaluate", "BENCH=mlvu", "ROOT=my data", "MODEL=m", "ARGS=--rows 3"]
    printed = subprocess.run(made, cwd=clone.folder, capture_output=True, text=True, check=True).stdout
    assert "dynfocus evaluate 'mlvu' 'my data' --out 'runs/world/evaluate/mlvu' --model 'm' --rows 3" in printed


def test_an_interrupted_fit_is_not_finished(clone: Clone) -> None:
    clone.make("stage1")
    process = clone.start("stage1", "AGAIN=1", SLEEP="30")
    deadline = time.monotonic() + 30
    while not (clone.folder / "asleep").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode != 0
    assert clone.steps("stage1") == ["fit1"]


def test_a_failed_test_does_not_train_again(clone: Clone) -> None:
    code, _, _ = clone.make("stage2", FAIL="1")
    assert code != 0
    assert clone.steps("stage2") == ["test"]
    assert clone.steps("stage2") == []


def test_a_refused_setting_leaves_what_was_done(clone: Clone) -> None:
    clone.make("stage2")
    code, _, calls = clone.make("stage2", "ARGS=--refuse")
    assert code != 0
    assert "--refuse" in calls[-1]
    assert clone.steps("stage2") == []


def test_clean_keeps_what_took_long(clone: Clone) -> None:
    clone.make("stage2")
    (clone.folder / ".stamps").mkdir()  # of earlier versions
    code, out, _ = clone.make("clean")
    assert code == 0
    assert "kept .venv, cache and runs" in out
    assert (clone.folder / "runs/world/stage2/metrics.json").exists()
    assert not (clone.folder / ".stamps").exists()
    assert clone.steps("stage2") == []


def test_help_lists_every_variable(clone: Clone) -> None:
    out = clone.make("help")[1]
    known = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("variables :="))
    assert all(f"{name}=" in out or f" {name} " in out for name in known.split()[2:])


def test_help_lists_every_target() -> None:
    out = subprocess.run(["make", "help"], cwd=ROOT, text=True, capture_output=True, check=True).stdout
    phony = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith(".PHONY:"))
    listed = {line.split()[0] for line in out.splitlines() if line.startswith("  ") and "  " in line.strip()}
    assert set(phony.split()[1:]) <= listed
