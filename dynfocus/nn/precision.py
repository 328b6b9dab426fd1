"""Where numbers decide a choice, they are fp32 under any precision setting."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
