"""Processes of one run: refuse those that differ before the first step, and end all of them when one has failed."""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import torch.distributed as dist
from lightning import Callback, LightningModule, Trainer
from torch.distributed.distributed_c10d import _get_default_store

from dynfocus.errors import ConfigError, DynFocusError
from dynfocus.train.finished import digest

FAILED, HEARD = "dynfocus/failed", "dynfocus/heard"  # keys in the store that the processes share
POLL, PATIENCE = 0.5, 5.0  # seconds between two looks at it, and that a process has to end by itself


class ProcessError(DynFocusError):
    """A mistake of another process of the same run."""


class Ranks(Callback):
    """Compare rows, settings and seed of all processes before the first step, and tell the others of a failure.

    A process that waits for others inside of torch cannot look after them, so a thread does.

    Attributes:
        settings: of the run, by their names; folders are not compared, as each machine may have its own.

    Raises:
        ConfigError: in a run, in every process, if they differ.
    """

    def __init__(self) -> None:
        self.settings: Mapping[str, Any] = {}
        self.failure: str | None = None  # what another process has said
        self.heard = Event()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.world_size > 1:
            data = trainer.datamodule  # type: ignore[attr-defined]
            check_alike({**flatten(self.settings), **describe_rows(data, stage)})

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Tell the others why this process ends, and give them time to read it: the first one holds the store."""
        if not is_shared() or self.failure is not None or not isinstance(exception, Exception):
            return
        if not isinstance(exception, DynFocusError) and self.heard.wait(2 * POLL):
            return  # what fails here is no more than that another process has gone
        try:
            store = _get_default_store()
            store.compare_set(FAILED, "", f"{dist.get_rank()} {exception or type(exception).__name__}")
            deadline = time.monotonic() + PATIENCE
            while store.add(HEARD, 0) < dist.get_world_size() and time.monotonic() < deadline:
                time.sleep(POLL / 5)
        except RuntimeError:  # the store has gone with the first process
            return

    @contextmanager
    def watch(self) -> Iterator[None]:
        """For the time of a block, end this process when another one has failed.

        Raises:
            ProcessError: if it has, with that one's own sentence.
        """
        over = Event()
        Thread(target=self._listen, args=(over,), daemon=True).start()
        try:
            yield
        except DynFocusError:
            raise
        except Exception as error:
            if self.failure is None:
                raise
            raise self._make_error() from error
        finally:
            over.set()

    def _make_error(self) -> ProcessError:
        rank, _, said = str(self.failure).partition(" ")
        given = f"process {rank}, which failed ({said.rstrip('.')})"
        return ProcessError(given, "every process of the run", "Mend what it says.")

    def _listen(self, over: Event) -> None:
        while not over.wait(POLL):
            if not is_shared():
                continue
            try:
                store = _get_default_store()
                if not store.check([FAILED]):
                    continue
                failure = store.get(FAILED).decode()
                store.add(HEARD, 1)
            except RuntimeError:  # the first process has gone
                return
            if failure.partition(" ")[0] == str(dist.get_rank()):
                return
            self.failure = failure
            self.heard.set()
            if not over.wait(2 * PATIENCE):  # it waits for what no longer comes
                sys.stderr.write(f"dynfocus: {self._make_error()}\n")
                os._exit(1)
            return


def is_shared() -> bool:
    """Whether this process knows of others."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def flatten(settings: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """Single settings by their whole names, without those that name a file or folder."""
    flat: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{before}{name}.")
        elif os.sep not in str(value):
            flat[f"{before}{name}"] = str(value)
    return flat


def describe_rows(data: Any, stage: str) -> dict[str, str]:
    """The number and order of training rows, and a digest of each annotation file that a verb reads, by its name."""
    described = {"training rows": str(getattr(data, "training_rows", 0))}
    for split in data.splits(stage) if hasattr(data, "splits") else ():
        for source in data.sources(split):
            for file in source.expected_files(data.root):  # of a large one the size: machines differ in its time
                described[f"the {split} file {file.name}"] = str(digest(file)).partition(" of ")[0]
    return described | {f"the order of {name}": str(value) for name, value in data.state_dict().items()}


def check_alike(own: Mapping[str, str]) -> None:
    """Compare what all processes say of themselves; every process has to call this.

    Raises:
        ConfigError: in every process, with the first things that differ.
    """
    all_: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(all_, dict(own))
    names = dict.fromkeys(name for one in all_ for name in one)
    differing = []
    for name in names:
        values = [one.get(name, "none") for one in all_]
        other = next((rank for rank, value in enumerate(values) if value != values[0]), None)
        if other is not None:
            shown = [value if len(value) < 50 else f"{value[:8]}..." for value in (values[0], values[other])]
            differing.append(f"{name} ({shown[0]} in process 0, {shown[1]} in process {other})")
    if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise ConfigError(
            f"processes of one run that differ in {', '.join(differing[:3])}{more}",
            "the same rows, settings and seed in all of them",
            "Give every process the same configs and command line, and every machine the same annotation files.",
        )
