"""Measure how much more memory a call needs at its peak than the process used before it."""

import ctypes
import gc
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

STATUS, REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")
SLACK = 4 << 20  # the kernel counts pages in batches
MMAP_THRESHOLD, SMALL, LARGEST = -3, 64 << 10, 32 << 20  # glibc's name for it, ours, and the most it chooses by itself


def extra_peak(work: Callable[[], object], device: str = "cpu") -> int | None:
    """Run ``work`` once and give the bytes that it used at its peak beyond those in use before, its result included.

    On CUDA by the allocator's own peak. On the CPU by the kernel's peak of resident memory, reset beforehand; memory
    that was freed but not given back is given back first, or reusing it would hide a part. None where the kernel or
    the C library cannot do that: there is no second way that would be right.
    """
    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    start = _reset() if _trim() else None
    work()
    peak = _resident("VmHWM")
    return None if start is None or peak is None else max(0, peak - start)


@contextmanager
def free_at_once() -> Iterator[None]:
    """Within the block glibc returns freed tensors to the system at once, so that small peaks can be measured.

    That makes allocations slower: use it to measure memory, not time. Other C libraries are left as they are.
    """
    choose = getattr(ctypes.CDLL(None), "mallopt", None)
    if choose:
        choose(MMAP_THRESHOLD, SMALL)
    try:
        yield
    finally:
        if choose:
            choose(MMAP_THRESHOLD, LARGEST)


def _trim() -> bool:
    """Give freed memory back to the system, where the C library can."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return False
    return True


def _reset() -> int | None:
    """Start the peak afresh; returns the resident bytes it starts from, or None where the kernel does not."""
    try:
        REFERENCES.write_text("5")
    except OSError:
        return None
    peak, now = _resident("VmHWM"), _resident("VmRSS")
    if peak is None or now is None or peak > now + SLACK:
        return None
    return peak


def _resident(field: str) -> int | None:
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    values = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return int(values[0]) * 1024 if values else None


def run_apart(work: Callable[..., Any], *args: Any) -> Any:
    """Call ``work`` in a new process, where it cannot use again what was loaded or freed in this one."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(work, *args).result()
