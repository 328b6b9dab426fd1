"""Let configs name classes by the paths that they had one release ago, with a warning that says the new path."""

import sys
import warnings
from importlib import import_module
from types import ModuleType
from typing import Any

OLD_PATHS = {
    "callbacks.pace.Pace": "callbacks.throughput.Throughput",
    "callbacks.rehearsal.Rehearsal": "callbacks.memory_check.MemoryCheck",
    "dynfocus.sharding.Sharded": "dynfocus.train.fsdp.FSDP2Strategy",
}


class OldModule(ModuleType):
    """A module that has moved: its classes come from where they now stand."""

    def __getattr__(self, name: str) -> Any:
        old = f"{self.__name__}.{name}"
        if old not in OLD_PATHS:
            raise AttributeError(f"module {self.__name__} has no attribute {name}")
        module, _, new = OLD_PATHS[old].rpartition(".")
        warnings.warn(f"{old} is now {module}.{new}; the next release knows the new path only", FutureWarning, 2)
        return getattr(import_module(module), new)


def accept_old_paths() -> None:
    """Make the modules of `OLD_PATHS` importable until the next release."""
    for path in OLD_PATHS:
        module = path.rpartition(".")[0]
        sys.modules.setdefault(module, OldModule(module))
