"""Print what a run of the ablations finds in the process that it is forked into; a program of its own."""

import json
import multiprocessing
import os
import sys
from pathlib import Path

from dynfocus.lab.ablations.forked import start_server


def write_facts(file: str) -> None:
    """Write what is imported here, and how many threads the process has that this one was forked from."""
    threads = len(os.listdir(f"/proc/{os.getppid()}/task"))
    Path(file).write_text(json.dumps({"modules": sorted(sys.modules), "threads": threads, "environ": {**os.environ}}))


def main(file: str, *configs: str) -> None:
    """Fork one process that is ready for these configs, and print what it finds."""
    start_server([("fit", *(word for config in configs for word in ("--config", config)))])
    process = multiprocessing.get_context("forkserver").Process(target=write_facts, args=(file,))
    process.start()
    process.join()
    sys.exit(process.exitcode or "torch" in sys.modules)


if __name__ == "__main__":
    main(*sys.argv[1:])
