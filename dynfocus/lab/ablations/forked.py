"""Fork processes that run commands of this project from a server that has imported what these need."""

import multiprocessing
import os
import re
import runpy
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import forkserver
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

NEEDED = "dynfocus.train.fit"  # by every training
OWN = ("callbacks.", "datamodules.", "dynfocus.")


@dataclass(frozen=True)
class PassedFile:
    """An open file, by its number, that a process is started with; it holds the same locks there."""

    number: int

    def __reduce__(self) -> Any:
        return _receive_file, (DupFd(self.number),)


def _receive_file(passed: Any) -> PassedFile:
    return PassedFile(passed.detach())


def list_modules(commands: Iterable[Sequence[str]]) -> list[str]:
    """List the modules of this project whose classes the configs of some commands name, and that of training."""
    words = [pair for command in commands for pair in pairwise(command)]
    files = {Path(value) for option, value in words if option == "--config"}
    texts = {file: file.read_text() for file in sorted(files) if file.is_file()}
    for file in list(texts):  # and the files beside it that it names, such as `trainer: trainer.yaml`
        parts = {file.parent / name for name in re.findall(r":\s*([\w./-]+\.yaml)", texts[file])}
        texts |= {part: part.read_text() for part in sorted(parts - {*texts}) if part.is_file()}
    named = {name for text in texts.values() for name in re.findall(r"class_path:\s*([\w.]+)\.\w+", text)}
    return [NEEDED, *sorted(name for name in named if name.startswith(OWN))] if texts else []


def start_server(commands: Iterable[Sequence[str]]) -> None:
    """Start the process that others are forked from, of one thread, with what these commands need imported.

    What cannot be imported there, each command imports itself. A server that runs already stays as it is.
    """
    multiprocessing.set_forkserver_preload(list_modules(commands))
    threads = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # torch reads it when it is imported
    try:
        forkserver.ensure_running()
    finally:
        if threads is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = threads


def call_command(command: Sequence[str], lock: PassedFile, log: PassedFile) -> None:
    """Run a command as ``python -m dynfocus`` does, in the process of this call; what it prints goes into ``log``.

    Args:
        command: the words behind ``dynfocus``.
        lock: stays open, and so locked, as long as the process lives.
        log: a file that is open to append to.
    """
    for number in (1, 2):
        os.dup2(log.number, number)
    sys.argv[1:] = command
    runpy.run_module("dynfocus", run_name="__main__", alter_sys=True)
