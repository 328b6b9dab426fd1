"""A doctor who writes down each file that he opens, in whichever process that is."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from dynfocus.data.doctor.examine import TrainingView
from dynfocus.records.rows import Row


@dataclass(frozen=True)
class CountingView(TrainingView):
    """Writes the medium of every row that is decoded into ``log``; dies of files named deadly.

    After ``most`` media, of all processes, a minute is left to stop it.
    """

    log: Path = Path()
    most: int | None = None

    def _count_frames(self, row: Row) -> int:
        if self.most is not None and self.log.exists() and len(self.log.read_text().splitlines()) >= self.most:
            time.sleep(60)
        with open(self.log, "a") as log:
            log.write(f"{os.getpid()} {row.media}\n")
        if "deadly" in str(row.media):
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._count_frames(row)
