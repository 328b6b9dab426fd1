"""Write files and folders whole or not at all."""

import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from secrets import token_hex
from stat import S_IMODE, S_ISREG

from dynfocus.errors import DiskError

# Not every library says "no room" with an OSError: safetensors and torch have errors of their own.
SAID = ("No space left", "File too large", "Permission denied", "Read-only", "failed writing", "os error")


SETTLED = 2 * 10**9  # ns; what changed later than that may change again within one tick of the file system's clock


def is_settled(changed: int) -> bool:
    """Whether a file that last changed at this time, in ns, would show by its times that it changed again."""
    return abs(time.time_ns() - changed) > SETTLED


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a hidden name beside ``path`` to write a file or folder under; what is complete takes its place.

    Raises:
        DiskError: if there is no room, no permission, or a folder where a file is to be; whatever goes wrong, no half
            of it stays.
    """
    path = Path(path)
    # Two machines that share a disk may give two processes the same number.
    part = path.with_name(f".{path.name}.{os.getpid()}.{token_hex(4)}")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        yield part
        follow_umask(part)
        if path.is_dir() and not part.is_dir():  # what lies in it was not asked for
            raise DiskError(f"{path}, which is a folder", "the name of a file to write", "Name a file.")
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        part.replace(path)
    except Exception as error:
        if isinstance(error, OSError) or any(word in str(error) for word in SAID):
            raise DiskError(
                f"{path}, which could not be written ({error})",
                "a writable folder with room",
                "Free some room, or choose another place.",
            ) from error
        raise
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        elif part.parent.is_dir():
            part.unlink(missing_ok=True)


def follow_umask(written: Path) -> None:
    """Let others read a file, or each one below a folder, as the umask says; safetensors lets its owner alone."""
    mask = read_umask()
    for file in written.rglob("*") if written.is_dir() else [written]:
        mode = file.stat().st_mode if file.exists() else 0
        if S_ISREG(mode) and not file.is_symlink() and (wanted := mode | (0o666 & ~mask)) != mode:
            file.chmod(S_IMODE(wanted))


def read_umask() -> int:
    """The umask of this process; where the system does not tell it, 0o077, which gives other users nothing.

    To set it for a moment, which is the other way to learn it, would change what other threads write meanwhile.
    """
    try:
        found = re.search(rb"^Umask:\s*([0-7]+)$", Path("/proc/self/status").read_bytes(), re.MULTILINE)
    except OSError:
        found = None
    return 0o077 if found is None else int(found[1], 8)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path``, whole or not at all; raises DiskError."""
    with atomic_write(path) as part:
        part.write_text(text)


def set_aside(paths: Sequence[Path]) -> dict[Path, Path]:
    """Rename those files that are there, so that others can take their places; all get one number.

    Returns the new path of each, such as ``metrics.1.json`` of ``metrics.json``.
    """
    there = [path for path in paths if path.exists()]
    numbered = ({path: path.with_name(f"{path.stem}.{n}{path.suffix}") for path in paths} for n in count(1))
    places = next(one for one in numbered if not any(place.exists() for place in one.values()))
    return {path: path.rename(places[path]) for path in there}
