"""Processes of one run: refuse those that differ before the first step, and end all when one fails or stands still."""

import math
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import Event, Thread
from typing import Any

import torch.distributed as dist
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch.distributed.distributed_c10d import _get_default_store

from dynfocus.errors import ConfigError, DynFocusError
from dynfocus.train.finished import digest

FAILED, HEARD, BEAT = "dynfocus/failed", "dynfocus/heard", "dynfocus/beat"  # keys in the store that processes share
DONE = "done 0"  # the last beat of a process
POLL, PATIENCE = 0.5, 5.0  # seconds between two looks at it, and that a process has to end by itself
SILENCE = 120.0  # seconds after which a process that says nothing counts as stopped
SHARE = 0.9  # of the time that torch lets processes wait for each other: then the last one is named


class ProcessError(DynFocusError):
    """A mistake of another process of the same run."""


class Ranks(Callback):
    """Compare rows, settings and seed of all processes before the first step, and tell the others of a failure.

    A process that waits for others inside of torch cannot look after them, so a thread does. It also tells them from
    time to time that it is there and how many batches it has begun. One that says nothing for `SILENCE` seconds, or
    that stands still while the others wait for it nearly as long as torch allows, counts as failed.

    Attributes:
        settings: of the run, by their names; folders are not compared, as each machine may have its own.

    Raises:
        ConfigError: in a run, in every process, if they differ.
    """

    def __init__(self) -> None:
        self.settings: Mapping[str, Any] = {}
        self.failure: str | None = None  # what another process has said
        self.heard = Event()
        self.batches, self.contact = 0, time.monotonic()
        self.trainer: Trainer | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.trainer = trainer
        if trainer.world_size > 1:
            data = trainer.datamodule  # type: ignore[attr-defined]
            check_alike({**flatten(self.settings), **describe_rows(data, stage)})

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.batches += 1

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.batches += 1

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Tell the others why this process ends, and give them time to read it: the first one holds the store."""
        if not is_shared() or self.failure is not None or not isinstance(exception, Exception):
            return
        if not isinstance(exception, DynFocusError) and self.heard.wait(2 * POLL):
            return  # what fails here is no more than that another process has gone
        try:
            store = _get_default_store()
            own = dist.get_rank()
            store.compare_set(FAILED, "", f"{own} {own} {exception or type(exception).__name__}")
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
        self.contact = time.monotonic()
        threads = [Thread(target=work, args=(over,), daemon=True) for work in (self._listen, self._expect_answers)]
        for thread in threads:
            thread.start()
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
            threads[0].join(2 * POLL)  # it tells the others that this process is done

    def _make_error(self) -> ProcessError:
        rank, by, said = str(self.failure).split(" ", 2)
        what = f"failed ({said.rstrip('.')})" if rank == by else said
        given = f"process {rank}, which {what}"
        advice = "Mend what it says." if rank == by else "Look what holds it up; the same command goes on from here."
        return ProcessError(given, "every process of the run", advice)

    def _listen(self, over: Event) -> None:
        others = Others()
        while not over.wait(POLL):
            if not is_shared():
                self.contact = time.monotonic()
                continue
            own = dist.get_rank()
            try:
                store = _get_default_store()
                if not store.check([FAILED]):
                    self.contact = time.monotonic()
                    if (late := others.find_late(store, self.batches, self._find_limit())) is not None:
                        store.compare_set(FAILED, "", f"{late[0]} {own} {late[1]}")
                    continue
                failure = store.get(FAILED).decode()
                store.add(HEARD, 1)
            except RuntimeError:  # the first process has gone
                if others.is_done(0):
                    self.contact = math.inf
                return
            if failure.split(" ")[:2] == [str(own), str(own)]:
                return
            self._end(failure, over)
            return
        if is_shared():
            with suppress(RuntimeError):
                _get_default_store().set(f"{BEAT}/{dist.get_rank()}", DONE)

    def _expect_answers(self, over: Event) -> None:
        """End where the store that another process holds gives no answer: `_listen` waits for it inside of torch."""
        before = time.monotonic()
        while not over.wait(POLL):
            now = time.monotonic()
            if now - before > PATIENCE:  # this process itself has stood still
                self.contact = max(self.contact, now)
            before = now
            if now - self.contact > SILENCE:
                self._end(f"0 - {describe_silence()}", over)
                return

    def _end(self, failure: str, over: Event) -> None:
        self.failure = failure
        self.heard.set()
        if over.wait(2 * PATIENCE):
            return
        sys.stderr.write(f"dynfocus: {self._make_error()}\n")  # this process waits for what no longer comes
        launcher = None if self.trainer is None else self.trainer.strategy.launcher
        if isinstance(launcher, _SubprocessScriptLauncher):
            launcher.kill(signal.SIGKILL)  # one that is stopped reads no other signal
        os._exit(1)

    def _find_limit(self) -> float:
        """Seconds that a process may stand still while others wait for it."""
        torchs = None if self.trainer is None else getattr(self.trainer.strategy, "_timeout", None)
        return SHARE * (torchs or timedelta(minutes=30)).total_seconds()


class Others:
    """What this process knows of the others: the first one looks after all, and all look after the first one."""

    def __init__(self) -> None:
        self.latest, self.beats = -math.inf, 0
        self.said: dict[int, tuple[str, float]] = {}  # of each process its last beat, and since when
        self.begun: dict[int, tuple[int, float]] = {}  # of each the batches that it has begun, and since when

    def is_done(self, rank: int) -> bool:
        return rank in self.said and self.said[rank][0] == DONE

    def find_late(self, store: dist.Store, batches: int, limit: float) -> tuple[int, str] | None:
        """Say that this process is there; return one that is not, or stands still, and what is to be said of it.

        Args:
            store: that the processes share.
            batches: that this process has begun.
            limit: seconds that one may stand still while others wait for it.
        """
        now, own = time.monotonic(), dist.get_rank()
        if now - self.latest < SILENCE / 20:
            return None
        if now - self.latest > SILENCE / 4:  # this process itself has stood still, and perhaps all
            self.said, self.begun = {}, {}
        self.latest, self.beats = now, self.beats + 1
        store.set(f"{BEAT}/{own}", f"{self.beats} {batches}")
        ranks = range(dist.get_world_size()) if own == 0 else (0, own)
        names = [f"{BEAT}/{rank}" for rank in ranks]
        if not store.check(names):
            return None  # not all have begun
        for rank, value in zip(ranks, store.multi_get(names), strict=True):
            said, count = value.decode(), int(value.decode().split()[1])
            if rank not in self.said or self.said[rank][0] != said:
                self.said[rank] = said, now
            if rank not in self.begun or self.begun[rank][0] != count:
                self.begun[rank] = count, now
        most = max(count for count, _ in self.begun.values())
        for rank in ranks:
            (count, since), silence = self.begun[rank], now - self.said[rank][1]
            if rank == own or self.is_done(rank):
                continue
            if silence > SILENCE:
                return rank, describe_silence()
            if count < most and now - since > limit:
                return rank, f"has stood still for {now - since:.0f} s while others waited for it"
        return None


def describe_silence() -> str:
    return f"has not answered for {SILENCE:g} s"


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
