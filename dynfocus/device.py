"""Choose a device, and set threads and precision for the time of a block."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dynfocus.errors import ConfigError, UsageError

MOST_DECODERS = 4  # each holds some tens of megabytes of a large video


def choose_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is a GPU where torch sees one. Raises ConfigError if there is none."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device cuda, of which torch sees none", "a GPU and its driver", "Use auto or cpu.")
    return torch.device(name)


def count_decoders(threads: int | None) -> int:
    """The threads that decode a video: as many as were asked for, else as torch computes with, at most 4.

    Raises:
        UsageError: if fewer than 1 are asked for.
    """
    if threads is None:
        return min(torch.get_num_threads(), MOST_DECODERS)
    if threads < 1:
        raise UsageError(f"--threads {threads}", "at least 1", "Raise it, or leave it out.")
    return threads


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread for the time of a block; the caller's number comes back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Keep matrix products of fp32 numbers in fp32: without autocast, and without TF32 or the like."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def half_precision(trainer: str) -> torch.dtype | None:
    """The 16-bit type that a Trainer's precision, such as ``bf16-mixed``, computes in; None where it is fp32."""
    kinds = {"bf16": torch.bfloat16, "16": torch.float16}
    return kinds.get(trainer.split("-")[0])
