"""Load data in processes that may crash on what they read: the item is named and left out, and the others go on."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info
from torch.utils.data._utils import signal_handling

from dynfocus.errors import CrashingFileError

SECONDS = 5.0  # that a process which hands over no batch has to end


def lost_error(what: str) -> CrashingFileError:
    """Make the error of a file that cannot be read because its reader crashes."""
    return CrashingFileError(
        f"{what} cannot be read (the process that read it has crashed)",
        "a file that the decoder can read in the memory there is",
        "Encode the file again, or drop its rows.",
    )


class WatchedItems(Dataset):
    """Items, with a note of which one each loader process reads.

    Args:
        items: a dataset with a method ``lose``, which returns what stands for an item that cannot be read.
        workers: processes of the loader.
    """

    def __init__(self, items: Any, workers: int) -> None:
        self.items, self.lost = items, set[int]()
        self.reading = torch.full((workers, 2), -1).share_memory_()  # of each: its process id, and the item's number

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        if index in self.lost:
            return self.items.lose(index)
        worker = get_worker_info()
        assert worker is not None
        self.reading[worker.id] = torch.tensor([os.getpid(), index])
        try:
            return self.items[index]
        finally:
            self.reading[worker.id, 1] = -1

    def notice_lost(self, seconds: float) -> bool:
        """Leave out the items at which processes have ended, or end within some seconds; returns whether there are."""
        deadline = time.monotonic() + seconds
        while True:
            alive = {child.pid for child in multiprocessing.active_children()}
            lost = {item for process, item in self.reading.tolist() if item >= 0 and process not in alive} - self.lost
            if lost or time.monotonic() > deadline:
                self.lost |= lost
                return bool(lost)
            time.sleep(0.05)


def load_all(loader: DataLoader) -> Iterator[Any]:
    """Yield what a loader yields; when one of its processes crashes, new ones go on with the same batches.

    The item that the process was reading is replaced by what ``loader.dataset.lose`` returns for its number. Without
    processes this one crashes.
    """
    if not loader.num_workers:
        yield from DataLoader.__iter__(loader)
        return
    watched = WatchedItems(loader.dataset, loader.num_workers)
    jobs, waiting = iter(loader.sampler if loader.batch_sampler is None else loader.batch_sampler), deque[Any]()

    def hand_out() -> Iterator[Any]:
        yield from tuple(waiting)  # what processes before these were given, and did not deliver
        for job in jobs:
            waiting.append(job)
            yield job

    names = ("num_workers", "collate_fn", "prefetch_factor", "generator")
    options = {name: getattr(loader, name) for name in names}
    options["worker_init_fn"] = partial(_begin, loader.worker_init_fn)
    while True:
        if loader.batch_sampler is None:
            options |= {"batch_size": None, "sampler": hand_out()}
        else:
            options["batch_sampler"] = hand_out()
        batches = iter(DataLoader(watched, **options))
        _notice_at_next_batch()
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:  # also a batch whose process ends before it is taken
                if not watched.notice_lost(SECONDS if isinstance(error, OSError | EOFError) else 0):
                    raise
                break
            waiting.popleft()
            yield batch


def _begin(also: Callable[[int], None] | None, worker: int) -> None:
    sys.excepthook = _report
    if also is not None:
        also(worker)


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say nothing where the main process takes no more batches, as it has been told to stop."""
    if not issubclass(kind, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)


def _notice_at_next_batch() -> None:
    """Take away torch's handler, which raises the error of a crashed process wherever this one happens to be."""
    handler = signal.getsignal(signal.SIGCHLD)
    is_torchs = getattr(handler, "__module__", "") == signal_handling.__name__
    if is_torchs and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
