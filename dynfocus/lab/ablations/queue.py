"""Run planned runs as processes of the command line, as many at once as there are cores.

They are forked from one process that has imported, once, what they need.
"""

import fcntl
import multiprocessing
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import wait as wait_for_end
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Lock

from dynfocus.lab.ablations.forked import PassedFile, call_command, start_server
from dynfocus.lab.ablations.planning import Run, Times, estimate_left
from dynfocus.progress import Progress

IsFinished = Callable[[tuple[str, ...]], bool]
FORKING = Lock()  # while it starts a process, multiprocessing also reads how others ended, which may be read once


@dataclass
class Queue:
    """Runs that wait for each other; one that fails stops no other, but for those that read its results.

    Args:
        out: folder of logs and locks.
        runs: in the order in which they begin.
        is_finished: whether a command is done already, with the same settings.
        times: where the time of each run is kept.
        workers: processes at once, of one thread each.

    Attributes:
        failed: why each failed run failed.
        repeated: names of the runs that were not finished before.
    """

    out: Path
    runs: Sequence[Run]
    is_finished: IsFinished
    times: Times
    workers: int
    failed: dict[str, str] = field(default_factory=dict)
    repeated: list[str] = field(default_factory=list)
    processes: set[BaseProcess] = field(default_factory=set)
    stopped: bool = False

    def work(self) -> None:
        """Run all that is not finished; when this is stopped, so are the processes."""
        start_server([command for run in self.runs for command in run.commands])
        waiting = {run.name: run for run in self.runs}
        running: dict[Future[float | None], Run] = {}
        with Progress(len(self.runs), "ablations", "run") as progress, ThreadPoolExecutor(self.workers) as pool:
            try:
                while waiting or running:
                    for run in self._list_ready(waiting, running):
                        if missing := next((name for name in run.needs if name in self.failed), None):
                            self.failed[run.name] = f"not begun, because {missing} failed"
                            progress.update(1, self._note(), self._estimate(waiting, running))
                        elif len(running) < self.workers:
                            running[pool.submit(self._do, run)] = run
                        else:
                            continue
                        del waiting[run.name]
                    done, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
                    for future in done:
                        self._keep(running.pop(future), future)
                    progress.update(len(done), self._note(), self._estimate(waiting, running))
            finally:
                self.stopped = True
                for process in list(self.processes):
                    process.terminate()

    def _list_ready(self, waiting: dict[str, Run], running: dict[Future[float | None], Run]) -> list[Run]:
        unfinished = {*waiting, *(run.name for run in running.values())}
        return [run for run in waiting.values() if unfinished.isdisjoint((*run.needs, *run.follows))]

    def _keep(self, run: Run, future: "Future[float | None]") -> None:
        try:
            seconds = future.result()
        except (subprocess.CalledProcessError, OSError) as error:
            self.failed[run.name] = f"{self._last_line(run) or error} (log: {self._log(run)})"
            return
        if seconds is not None:
            self.times.add(run, seconds)

    def _do(self, run: Run) -> float | None:
        """Run the commands of a run that are not done; returns the seconds if all of them had to be run."""
        begin = time.monotonic()
        with self._lock(run) as lock:
            left = [command for command in run.commands if not self.is_finished(command)]
            if left:
                self.repeated.append(run.name)
            for command in left:
                self._call(run, command, lock)
        return time.monotonic() - begin if left and len(left) == len(run.commands) else None

    def _call(self, run: Run, command: tuple[str, ...], lock: int) -> None:
        if self.stopped:
            raise subprocess.CalledProcessError(130, command)
        with self._log(run).open("ab") as log:
            files = PassedFile(lock), PassedFile(log.fileno())
            context = multiprocessing.get_context("forkserver")
            process = context.Process(target=call_command, name=run.name, args=(command, *files))
            with FORKING:
                process.start()
            self.processes.add(process)
            wait_for_end([process.sentinel])
            self.processes.discard(process)
            with FORKING:
                process.join()
        if process.exitcode:
            raise subprocess.CalledProcessError(process.exitcode, ("dynfocus", *command))

    @contextmanager
    def _lock(self, run: Run) -> Iterator[int]:
        """Hold the lock of a run, which its process holds too: should this one be killed, the other may yet write."""
        path = self.out / "locks" / run.name.replace("/", "_")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file.fileno()

    def _log(self, run: Run) -> Path:
        path = self.out / "logs" / f"{run.name.replace('/', '_')}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _last_line(self, run: Run) -> str:
        lines = self._log(run).read_text(errors="replace").split("\n") if self._log(run).exists() else []
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def _note(self) -> str:
        return f"{len(self.failed)} failed" if self.failed else ""

    def _estimate(self, waiting: dict[str, Run], running: dict[Future[float | None], Run]) -> float:
        return estimate_left([*waiting.values(), *running.values()], self.times, self.workers)
