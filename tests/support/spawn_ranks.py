"""Several real processes on this machine, forked so that nothing loads twice, that know of each other as torchrun's."""

import faulthandler
import multiprocessing
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable

import peft  # noqa: F401 (training loads it late: each process would)
from tqdm import tqdm


def together(work: Callable[[int], object], processes: int = 2, seconds: float = 180) -> None:
    """Do ``work(rank)`` in every process at once; fails where one of them fails, or they do not end in time."""
    children = start(work, processes, seconds)
    deadline = time.monotonic() + seconds
    while any(child.is_alive() for child in children) and time.monotonic() < deadline:
        if any(child.exitcode for child in children):
            break  # the others may wait for it forever
        time.sleep(0.05)
    assert end(children) == [0] * processes


def start(work: Callable[[int], object], processes: int, seconds: float) -> list[multiprocessing.Process]:
    """Start the processes; after most of the seconds, those that are left say where they are."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=_child, args=(work, rank, processes, port, seconds)) for rank in range(processes)]
    for child in children:
        child.start()
    return children


def end(children: list[multiprocessing.Process]) -> list[int | None]:
    """Kill those that are left; the exit codes of all."""
    for child in children:
        if child.is_alive():
            child.kill()
        child.join()
    return [child.exitcode for child in children]


def _child(work: Callable[[int], object], rank: int, processes: int, port: int, seconds: float) -> None:
    tqdm.set_lock(threading.RLock())  # all forked processes share the parent's, and one that is killed may hold it
    faulthandler.dump_traceback_later(0.9 * seconds, file=sys.__stderr__)  # where it hangs, before it is killed
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, "GROUP_RANK": 0}
    names |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
    os.environ |= {name: str(value) for name, value in names.items()}
    try:
        work(rank)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)
