"""Write a folder of data whole or not at all, and keep one that follows from the same settings."""

import errno
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from dynfocus.data.processes import follow_parent
from dynfocus.errors import ConfigError, DataError, DiskError
from dynfocus.world.world_record import compare_records

SHOWN = 5  # settings of another world that an error names
Job = TypeVar("Job")
Done = TypeVar("Done")


@dataclass(frozen=True)
class WorldFolder:
    """A folder that is to hold a world.

    Attributes:
        root: the folder, resolved.
        kind: what it is to hold, for people: ``world``.
        record_name: the file in it that says what its content follows from.
        record: what that file is to say.
        files: the media that are to be there, relative to the folder.
        needed: bytes that it takes, about.
        holds: what takes them, for people.
    """

    root: Path
    kind: str
    record_name: str
    record: dict[str, Any]
    files: Sequence[str]
    needed: int
    holds: str

    def write(self, fill: Callable[[Path], None]) -> None:
        """Let ``fill`` write the content into a hidden sibling, and move it here; keep what is here if it is the same.

        Raises:
            ConfigError: if the folder holds another world or anything else.
            DataError: if it holds this world, but not all of its files.
            DiskError: if there is no room.
        """
        if self.is_present():
            return
        check_room(self)
        temporary = self.root.with_name(f".{self.root.name}.{os.getpid()}")
        with self._translate_disk_errors():
            try:
                temporary.mkdir(parents=True)
                fill(temporary)
                (temporary / self.record_name).write_text(json.dumps(self.record, indent=2) + "\n")
                self._publish(temporary)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)

    def is_present(self) -> bool:
        """Return whether the folder already holds this world; raises if it holds anything else."""
        root, record = self.root, self.root / self.record_name
        if not root.exists() or (root.is_dir() and not any(root.iterdir())):
            return False
        if not record.is_file():
            raise ConfigError(
                f"{root} exists and is no {self.kind}", "a folder that is absent or empty", "Give another folder."
            )
        try:
            different = compare_records(json.loads(record.read_text()), self.record)
        except (ValueError, TypeError, ConfigError) as error:
            raise DataError(
                f"{record} is damaged ({error})", "the settings this world was made with", "Delete that folder."
            ) from error
        if different:
            more = f" and {len(different) - SHOWN} more" if len(different) > SHOWN else ""
            few = list(different.items())[:SHOWN]
            stored, wanted = ([f"{key}={pair[side]}" for key, pair in few] for side in (0, 1))
            raise ConfigError(
                f"{root} holds a {self.kind} with {', '.join(stored)}{more}",
                ", ".join(wanted) + more,
                "Delete that folder, name another, or ask for what is there (in a run: under data.init_args).",
            )
        missing = [name for name in self.files if not (root / name).is_file()]
        if missing:
            raise DataError(
                f"{root} lacks {len(missing)} of its files, such as {missing[0]}",
                "all files that were written there",
                "Delete that folder and write the world again.",
            )
        return True

    def _publish(self, temporary: Path) -> None:
        try:
            temporary.replace(self.root)
        except OSError:
            # another process may have put the same world there meanwhile
            if not self.is_present():
                raise

    @contextmanager
    def _translate_disk_errors(self) -> Iterator[None]:
        """Turn the system's errors of a full or read-only disk into a DiskError."""
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            raise DiskError(
                f"{self.root} cannot be written ({error.strerror})",
                "a writable folder on a disk with room",
                "Nothing was kept: make room or give another folder, and call again.",
            ) from error


def check_room(folder: WorldFolder) -> None:
    """Raises DiskError if the disk has less room than the folder takes."""
    parent = next(one for one in folder.root.absolute().parents if one.exists())
    free = shutil.disk_usage(parent).free
    if free < folder.needed:
        raise DiskError(
            f"{free / 1e6:.0f} MB free in {parent}",
            f"about {folder.needed / 1e6:.0f} MB for {folder.holds}",
            "Make room, write elsewhere, or ask for fewer videos.",
        )


def run_jobs(
    run: Callable[[list[Job]], Done], parts: Sequence[list[Job]], workers: int, progress: bool, name: str
) -> Iterator[Done]:
    """Run ``run`` on every part of some jobs in processes of their own, or with 0 workers in this one, behind a bar.

    Yields:
        what it returns for each part, as parts are done.
    """
    with tqdm(total=sum(map(len, parts)), desc=name, unit="file", disable=not progress) as bar:
        if workers == 0:
            for part in parts:
                yield run(part)
                bar.update(len(part))
            return
        # Threads of the parent (torch, a decoder) make forked children hang: spawn.
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), follow_parent)
        try:
            futures = {pool.submit(run, part): len(part) for part in parts}
            for future in as_completed(futures):
                yield future.result()
                bar.update(futures[future])
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
