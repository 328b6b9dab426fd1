"""Describe the machine and the code of a measurement."""

import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

import dynfocus

CPUINFO = Path("/proc/cpuinfo")
ROOT = Path(dynfocus.__file__).parents[1]


def machine() -> dict[str, Any]:
    """Commit (with ``+`` where files differ from it), date, processor, GPU, torch and threads."""
    return {
        "commit": commit(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def commit() -> str | None:
    """The commit of the code that runs, or None where it is no checkout."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def bf16_units() -> bool:
    """Whether this processor multiplies bf16 by itself; without, bf16 is slower than fp32."""
    flags = (_cpuinfo("flags") or _cpuinfo("Features") or "").split()
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags))


def _git(*args: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *args], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _cpuinfo(field: str) -> str | None:
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), None)
