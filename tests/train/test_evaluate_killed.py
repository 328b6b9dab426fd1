"""An evaluation is killed with SIGKILL at five moments, and each time called again: it ends as if nothing had been."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from tqdm import tqdm

from callbacks import append_answers
from dynfocus.cli import main
from dynfocus.evals import summary
from dynfocus.records.predictions import read_answers

RESULTS = ("predictions.jsonl", "verdicts.jsonl", "metrics.json")
QUESTIONS = 16


def command(place: Path, trained_runs: Path, out: Path, *more: str) -> list[str]:
    model = str(trained_runs / "stage2" / "model")
    return ["evaluate", "world", str(place / "data"), "--out", str(out), "--model", model, "--batch-size", "2", *more]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_while_it_appends(batch: int, share: float) -> Callable[[], None]:
    """Kill the process when it has written so large a share of a batch's answers."""

    def prepare() -> None:
        real, numbers = append_answers.append_jsonl, count()

        def append(path: Path, records: Any) -> None:
            if next(numbers) < batch:
                return real(path, records)
            whole = path.with_name("whole")
            whole.unlink(missing_ok=True)
            real(whole, records)
            with path.open("ab") as file:
                file.write(whole.read_bytes()[: round(whole.stat().st_size * share)])
            die()

        append_answers.append_jsonl = append  # type: ignore[assignment]

    return prepare


def die_before_the_verdicts() -> None:
    def write(path: Path, records: Any) -> None:
        assert path.name == "predictions.jsonl"
        real(path, records)
        die()

    real, summary.write_jsonl = summary.write_jsonl, write  # type: ignore[assignment]


def run_forked(words: list[str], prepare: Callable[[], None], asked: Path) -> int:
    """Run a command in a process of its own, which loads nothing anew; lists what it asks, returns its exit code."""

    def work() -> None:
        tqdm.set_lock(threading.RLock())
        real = append_answers.AppendAnswers.on_test_batch_end

        def list_asked(self: Any, trainer: Any, module: Any, outputs: Any, *rest: Any) -> None:
            with asked.open("a") as file:
                file.writelines(f"{one.arm} {one.id}\n" for one in outputs)
            real(self, trainer, module, outputs, *rest)

        append_answers.AppendAnswers.on_test_batch_end = list_asked  # type: ignore[method-assign]
        prepare()
        os._exit(main(words))

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(300)
    return process.exitcode if process.exitcode is not None else -1


def read_results(out: Path) -> list[str]:
    return [(out / name).read_text() for name in RESULTS]


def test_kill_9_at_five_moments_changes_nothing_and_asks_nothing_twice(
    place: Path, trained_runs: Path, tmp_path: Path
) -> None:
    """Before any answer, in the middle of a line, between two batches, in the last answers, and among the results."""
    arms = ("--arms", "random", "blind", "--temperature", "1")
    assert main(command(place, trained_runs, tmp_path / "whole", *arms)) == 0
    out = tmp_path / "killed"
    moments = [
        *(die_while_it_appends(0, 0.0), die_while_it_appends(0, 0.1), die_while_it_appends(2, 1.0)),
        *(die_while_it_appends(4, 0.1), die_before_the_verdicts),
    ]
    answered = []
    for number, prepare in enumerate(moments):
        before, asked = read_answers(out).keys(), tmp_path / f"asked{number}"
        assert run_forked(command(place, trained_runs, out, *arms), prepare, asked) == -signal.SIGKILL
        assert not before & {tuple(line.split(" ", 1)) for line in asked.read_text().splitlines()}
        answered.append(len(read_answers(out)))
        assert not (out / "metrics.json").exists()
    assert answered == [0, 0, 12, 28, 2 * QUESTIONS]
    assert main(command(place, trained_runs, out, *arms)) == 0
    assert read_results(out) == read_results(tmp_path / "whole")
    lines = [json.loads(line) for line in (out / "answers" / "0.jsonl").read_text().splitlines()]
    assert len({(line["arm"], line["id"]) for line in lines}) == len(lines) == 2 * QUESTIONS


@pytest.mark.slow
def test_processes_of_the_command_line_killed_at_any_time(place: Path, trained_runs: Path, tmp_path: Path) -> None:
    """Five times, when so many more answers are there, and a moment later."""

    def count_lines() -> int:
        return sum(file.read_text().count("\n") for file in (tmp_path / "killed" / "answers").glob("*.jsonl"))

    def call(out: str) -> subprocess.Popen:
        words = command(place, trained_runs, tmp_path / out, "--arms", "learned", "uniform", "random", "blind")
        return subprocess.Popen([sys.executable, "-m", "dynfocus", *words], stdout=subprocess.DEVNULL)

    assert call("whole").wait() == 0
    draw: Iterator[float] = (random.Random(0).uniform(0, 0.05) for _ in count())
    for least in (0, 4, 12, 28, 40):
        process = call("killed")
        while process.poll() is None and count_lines() < least:
            time.sleep(0.002)
        time.sleep(next(draw))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert call("killed").wait() == 0
    assert read_results(tmp_path / "killed") == read_results(tmp_path / "whole")
    assert count_lines() == 4 * QUESTIONS
