"""Work on many small jobs in processes of their own, which may die of what they work on."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as ended
from typing import Any

import torch

from dynfocus.device import one_thread
from dynfocus.errors import ConfigError

AHEAD = 2  # jobs in hand for each process: what is lost when the work is stopped

_work: Any = None  # in a worker process: what it works with


class Workers:
    """Processes that call methods of one object; as a context manager it leaves none behind.

    They come from a fresh process, as threads of this one make forked children hang, and end with this one, however it
    ends.

    Args:
        work: the object; it is pickled once for each process.
        count: processes at most, as there are never more than jobs; 0 works in this one.
    """

    def __init__(self, work: Any, count: int) -> None:
        self.work, self.count = work, count
        self.pool: ProcessPoolExecutor | None = None
        self.size = 0  # processes that the pool may have

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def each(self, method: str, jobs: Sequence[Sequence[Any]]) -> Iterator[tuple[Sequence[Any], Any]]:
        """Each job and what ``method`` makes of it, in the order in which they are done.

        Jobs in hand when a process dies are done again, one item at a time and each in a process alone; an item that
        this one dies of as well comes back as a job of its own with None.

        Raises:
            ConfigError: if processes do not start.
        """
        if self.count == 0:
            with one_thread():
                for here in jobs:
                    yield here, getattr(self.work, method)(here)
            return
        waiting: dict[Future, Sequence[Any]] = {}
        suspects: list[Any] = []
        left, count = iter(jobs), min(self.count, len(jobs))
        if count > self.size:
            self._end()
        while True:
            while not suspects and len(waiting) < AHEAD * count and (job := next(left, None)) is not None:
                try:
                    waiting[self._started(count).submit(_do, method, job)] = job
                except BrokenProcessPool:
                    suspects += job
            if not waiting and not suspects:
                return
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                job = waiting.pop(future)
                try:
                    done = future.result()
                except BrokenProcessPool:
                    suspects += job
                else:
                    yield job, done
            if suspects and not waiting:
                yield from self._alone(method, suspects)
                suspects = []

    def _alone(self, method: str, suspects: list[Any]) -> Iterator[tuple[Sequence[Any], Any]]:
        self._end()
        for item in suspects:
            try:
                yield [item], self._started(1).submit(_do, method, [item]).result()
            except BrokenProcessPool:
                self._end()
                yield [item], None
        self._end()

    def _started(self, count: int) -> ProcessPoolExecutor:
        if self.pool is None:
            fresh = multiprocessing.get_context("forkserver")
            known = [kind.__module__ for kind in type(self.work).__mro__]
            fresh.set_forkserver_preload(known)  # imported once for all of them
            self.size = count
            self.pool = ProcessPoolExecutor(count, fresh, initializer=_begin, initargs=(self.work,))
            try:  # or a process that cannot start would be taken for one that dies of its job
                self.pool.submit(_begun).result()
            except BrokenProcessPool as error:
                self._end()
                raise ConfigError(
                    f"{count} worker processes, which do not start",
                    'room for them, and in a script of your own the guard `if __name__ == "__main__":`',
                    "Ask for fewer workers; 0 works without.",
                ) from error
        return self.pool

    def _end(self) -> None:
        if self.pool is not None:
            self.pool.shutdown(wait=True, cancel_futures=True)
        self.pool, self.size = None, 0


def _begin(work: Any) -> None:
    global _work
    _work = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to answer
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    ended([parent.sentinel])
    os._exit(1)


def _begun() -> None:
    pass


def _do(method: str, job: Sequence[Any]) -> Any:
    return getattr(_work, method)(job)
