"""A doctor who writes down each file that he opens, in whichever process that is."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from dynfocus.doctor.examining import Reading
from dynfocus.records import Row


@dataclass(frozen=True)
class Counting(Reading):
    """Writes the medium of every row that is decoded into ``log``, after a pause; and dies of files named deadly."""

    log: Path = Path()
    pause: float = 0.0

    def _frames(self, row: Row) -> int:
        time.sleep(self.pause)
        with open(self.log, "a") as log:
            log.write(f"{os.getpid()} {row.media}\n")
        if "deadly" in str(row.media):
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._frames(row)
