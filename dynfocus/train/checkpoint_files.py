"""Write checkpoints whole or not at all, keep the one before, and go on only from what was written."""

import os
import shutil
import zipfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from lightning.fabric.plugins import TorchCheckpointIO

from dynfocus.errors import CheckpointError
from dynfocus.records.atomic import atomic_write, write_text

LAST, BEFORE, SUMS = "last.ckpt", "before.ckpt", "sha256.txt"  # in a run's folder of checkpoints
PIECE = 1 << 22  # bytes that are read at a time


class AtomicCheckpoint(TorchCheckpointIO):
    """Checkpoints that are there whole or not at all, however a run ends; raises DiskError where there is no room.

    Beside the last one lie the one before it and a file with the checksums of both: twice the room on the disk, and
    each checkpoint is read once after it was written.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        for half in path.parent.glob(f".{path.name}.*"):  # of a run that was killed while it wrote
            half.unlink(missing_ok=True)
        with atomic_write(path) as part:
            super().save_checkpoint(checkpoint, part, storage_options)
            if path.name == LAST:
                # Before the new one takes its place, so that at every moment each file's checksum is there.
                write_text(path.with_name(SUMS), "".join(f"{one}\n" for one in (_digest(part), *_read_sums(path)[:2])))
                _keep(path, path.with_name(BEFORE))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Numbers and text alone: a checkpoint runs no code."""
        return super().load_checkpoint(path, map_location or (lambda storage, place: storage), True)


def find_checkpoint(folder: Path) -> tuple[Path, str] | None:
    """The checkpoint that a run goes on from, and what is to be said of it; None where there is none.

    Raises:
        CheckpointError: if neither the last one nor the one before is as it was written.
    """
    there = [folder / name for name in (LAST, BEFORE) if (folder / name).exists()]
    problems = {path: _find_damage(path) for path in there}
    whole = next((path for path, problem in problems.items() if problem is None), None)
    if whole is None and there:
        raise _refuse(there, problems)
    if whole is None:
        return None
    damaged = problems.get(folder / LAST)
    return whole, "" if damaged is None else f"{folder / LAST} {damaged}: going on from the checkpoint before it"


def check_checkpoint(path: Path) -> None:
    """Refuse a checkpoint that was named and is absent or damaged; raises CheckpointError."""
    if not path.is_file():
        raise CheckpointError(f"no {path}, which ckpt_path names", "a checkpoint of a run", "Correct ckpt_path.")
    if (problem := _find_damage(path)) is not None:
        raise _refuse([path], {path: problem})


def _refuse(paths: Sequence[Path], problems: dict[Path, str | None]) -> CheckpointError:
    return CheckpointError(
        " and ".join(f"{path}, which {problems[path]}" for path in paths),
        "a checkpoint as the run wrote it",
        f"Delete {paths[0].parent} to begin the run anew, or name a whole checkpoint in --ckpt_path.",
    )


def _find_damage(path: Path) -> str | None:
    """What is wrong with a checkpoint; None if it is as it was written, or of before checksums were and whole."""
    try:
        sums = _read_sums(path)
        if path.name in (LAST, BEFORE) and sums:
            return None if _digest(path) in sums else "is not as the run wrote it (its checksum is another)"
        with zipfile.ZipFile(path) as parts:  # torch's files hold a checksum of each part
            return None if parts.testzip() is None else "is damaged"
    except PermissionError:
        return "may not be read"
    except (OSError, zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError):
        return "is no whole checkpoint"


def _read_sums(path: Path) -> list[str]:
    file = path.with_name(SUMS)
    return file.read_text(errors="replace").split() if file.is_file() else []


def _digest(path: Path) -> str:
    result = sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            result.update(piece)
    return result.hexdigest()


def _keep(path: Path, before: Path) -> None:
    """Give the present checkpoint a second name, or a copy where the file system knows none, before it is replaced."""
    if not path.exists():
        return
    half = before.with_name(f".{LAST}.{before.name}")
    half.unlink(missing_ok=True)
    try:
        os.link(path, half)
    except OSError:
        shutil.copyfile(path, half)
    half.replace(before)
