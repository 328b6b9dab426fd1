"""Runs of ablations as real processes: killed, called again, and failing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from dynfocus.lab.ablations.planning import Run, Times
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
