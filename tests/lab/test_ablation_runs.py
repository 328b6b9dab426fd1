"""Runs of ablations as real processes: killed, called again, and failing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import two_variants

from dynfocus.lab.ablations.planning import Run, Settings, Times, plan_runs
from dynfocus.lab.ablations.queue import Queue

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests" / "support" / "two_variants.py"
PATIENCE = 900.0  # seconds, of a machine with much else to do


def begin(place: Path, out: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), str(place), str(out)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def read_results(out: Path) -> dict[str, tuple[int, bytes]]:
    files = sorted(out.glob("runs/*/seed-*/metrics*.json"))
    return {str(file.relative_to(out)): (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def test_two_variants_and_two_seeds_are_killed_and_go_on(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "ablations"
    process = begin(place, out)
    until = time.monotonic() + PATIENCE
    while not any("/stage1/" not in name for name in Times(out / "times.json").known):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)  # it and the run that it has just begun
    process.communicate()
    before = read_results(out)
    timed = Times(out / "times.json").known
    assert 1 <= len(before) < 4
    process = begin(place, out)
    text, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, text
    after = read_results(out)
    assert {*after} == {f"runs/{variant}/seed-{seed}/metrics.json" for variant in ("full", "few") for seed in (0, 1)}
    assert {name: after[name] for name in before} == before  # what was finished was not touched
    assert {name: Times(out / "times.json").known[name] for name in timed} == timed
    assert f"{len(timed)} finished" in text or f"{len(timed) + 1} finished" in text
    assert "6 of 6 runs" in text
    assert {file.name for file in (out / "tables").iterdir()} == {
        *("ablations.md", "ablations.csv", "ablations.html", "two.png")
    }
    assert "| 0, 1 | place 1 |" in (out / "tables" / "ablations.md").read_text()
    check_alone(out, "runs/few/seed-1", tmp_path / "alone")


def check_alone(out: Path, run: str, alone: Path) -> None:
    """A process that imports all itself leaves the same files, to the bit."""
    settings = Settings(out, seeds=(0, 1), steps=3, configs=(out / "miniature.yaml",))
    [commands] = [planned.commands for planned in plan_runs(settings, [two_variants.STUDY]) if planned.name == run]
    for command in commands:
        words = [str(alone) if word == str(out / run) else word for word in command]
        subprocess.run([sys.executable, "-m", "dynfocus", *words], cwd=ROOT, check=True, capture_output=True)
    files = [path.relative_to(alone) for path in alone.rglob("*.safetensors")] + [Path("predictions.jsonl")]
    assert len(files) == 2
    assert [(alone / file).read_bytes() == (out / run / file).read_bytes() for file in files] == [True] * len(files)


def test_a_failing_run_is_named_and_stops_only_those_that_need_it(tmp_path: Path) -> None:
    def is_finished(command: tuple[str, ...]) -> bool:
        return command == ("figure", "9")

    runs = [
        Run("runs/stage1/seed-0", "stage 1", (("nonsense",),), 1.0),
        Run("runs/full/seed-0", "full", (("--version",),), 1.0, needs=("runs/stage1/seed-0",)),
        Run("runs/other/seed-0", "full", (("--version",), ("--version",)), 1.0, follows=("runs/stage1/seed-0",)),
        Run("runs/done/seed-0", "full", (("figure", "9"),), 1.0),
    ]
    times = Times(tmp_path / "times.json")
    queue = Queue(tmp_path, runs, is_finished, times, workers=2)
    queue.work()
    assert {*queue.failed} == {"runs/stage1/seed-0", "runs/full/seed-0"}
    assert "the verb 'nonsense'" in queue.failed["runs/stage1/seed-0"]
    assert "logs/runs_stage1_seed-0.txt" in queue.failed["runs/stage1/seed-0"]
    assert queue.failed["runs/full/seed-0"] == "not begun, because runs/stage1/seed-0 failed"
    assert {*queue.repeated} == {"runs/stage1/seed-0", "runs/other/seed-0"}
    assert {*times.known} >= {"runs/other/seed-0"}
    assert "runs/stage1/seed-0" not in times.known
    assert (tmp_path / "logs" / "runs_other_seed-0.txt").read_text().count("dynfocus ") == 2


def test_a_killed_run_takes_no_other_with_it(tmp_path: Path) -> None:
    names = [f"runs/{name}/seed-0" for name in ("killed", "before", "after")]
    commands = [("world", str(tmp_path / "world"), "--videos", "4000"), ("--version",), ("--version",)]
    runs = [Run(name, "any", (command,), 1.0) for name, command in zip(names, commands, strict=True)]
    queue = Queue(tmp_path, runs, lambda _: False, Times(tmp_path / "times.json"), workers=2)
    working = Thread(target=queue.work)
    working.start()
    until = time.monotonic() + PATIENCE
    while not (victim := [process for process in list(queue.processes) if process.name == names[0]]):
        assert time.monotonic() < until
        time.sleep(0.01)
    os.kill(victim[0].pid, signal.SIGKILL)
    working.join()
    assert {*queue.failed} == {names[0]}
    assert not (tmp_path / "world/world.json").exists()
    for name in names[1:]:
        assert (tmp_path / "logs" / f"{name.replace('/', '_')}.txt").read_text().startswith("dynfocus ")


def test_a_run_is_forked_with_all_that_its_configs_need(tmp_path: Path) -> None:
    configs = [str(ROOT / "lightning_configs" / name) for name in ("stage2.yaml", "world.yaml")]
    program = [sys.executable, str(ROOT / "tests/support/forked_facts.py"), str(tmp_path / "facts"), *configs]
    subprocess.run(program, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    facts = json.loads((tmp_path / "facts").read_text())
    assert {"torch", "lightning", "dynfocus.train.fit", "datamodules.world", "callbacks.probes"} <= {*facts["modules"]}
    assert "peft" not in facts["modules"]
    assert facts["threads"] == 1  # what other threads do or hold is lost in a fork
    assert facts["environ"]["OMP_NUM_THREADS"] == "1"
