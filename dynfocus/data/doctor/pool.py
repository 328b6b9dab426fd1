"""Run many small jobs in worker processes, which may crash on what they read."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch

from dynfocus.data.processes import follow_parent
from dynfocus.device import one_thread
from dynfocus.errors import ConfigError

AHEAD = 2  # jobs that are submitted for each process: what is lost when the work is stopped

_work: Any = None  # in a worker process: the object whose methods it calls


class Workers:
    """Processes that call methods of one object; leaving the context ends them.

    They are forked from a new process, as threads of this one could make its forked children hang. They end with this
    one, however it ends.

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
        self._stop()

    def each(self, method: str, jobs: Sequence[Sequence[Any]]) -> Iterator[tuple[Sequence[Any], Any]]:
        """Each job and what ``method`` makes of it, in the order in which they are done.

        When a process crashes, all jobs that were submitted are done again, one item at a time with a single process;
        an item that crashes this one as well comes back as a job of its own with None.

        Raises:
            ConfigError: if processes do not start.
        """
        if self.count == 0:
            with one_thread():
                for job in jobs:
                    yield job, getattr(self.work, method)(job)
            return
        waiting: dict[Future, Sequence[Any]] = {}
        suspects: list[Any] = []
        rest, count = iter(jobs), min(self.count, len(jobs))
        if count > self.size:
            self._stop()
        while True:
            while not suspects and len(waiting) < AHEAD * count and (following := next(rest, None)) is not None:
                try:
                    waiting[self._start(count).submit(_do, method, following)] = following
                except BrokenProcessPool:
                    suspects += following
            if not waiting and not suspects:
                return
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                job = waiting.pop(future)
                try:
                    result = future.result()
                except BrokenProcessPool:
                    suspects += job
                else:
                    yield job, result
            if suspects and not waiting:
                yield from self._retry(method, suspects)
                suspects = []

    def _retry(self, method: str, suspects: list[Any]) -> Iterator[tuple[Sequence[Any], Any]]:
        self._stop()
        for item in suspects:
            try:
                yield [item], self._start(1).submit(_do, method, [item]).result()
            except BrokenProcessPool:
                self._stop()
                yield [item], None
        self._stop()

    def _start(self, count: int) -> ProcessPoolExecutor:
        if self.pool is None:
            context = multiprocessing.get_context("forkserver")
            modules = [kind.__module__ for kind in type(self.work).__mro__]
            context.set_forkserver_preload(modules)  # imported once for all of them
            self.size = count
            self.pool = ProcessPoolExecutor(count, context, initializer=_initialise, initargs=(self.work,))
            try:  # else a process that cannot start would look like one that crashes on its job
                self.pool.submit(os.getpid).result()
            except BrokenProcessPool as error:
                self._stop()
                raise ConfigError(
                    f"{count} worker processes, which do not start",
                    'room for them, and in a script of your own the guard `if __name__ == "__main__":`',
                    "Ask for fewer workers; 0 works without.",
                ) from error
        return self.pool

    def _stop(self) -> None:
        if self.pool is not None:
            self.pool.shutdown(wait=True, cancel_futures=True)
        self.pool, self.size = None, 0


def _initialise(work: Any) -> None:
    global _work
    _work = work
    torch.set_num_threads(1)
    follow_parent()


def _do(method: str, job: Sequence[Any]) -> Any:
    return getattr(_work, method)(job)
