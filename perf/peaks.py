"""Say how fast a device multiplies matrices at most: by its data sheet, or as measured."""

import torch

from dynfocus.plan.cards import data_sheet
from dynfocus.plan.connector_flops import Sizes
from perf.roofline import Gemm

TRIES = 5


def peak_rate(device: torch.device, dtype: torch.dtype, sizes: Sizes) -> tuple[float, str]:
    """FLOP/s, and whether they are from a ``data sheet`` or ``measured`` as the best of some matrix products."""
    if device.type == "cuda" and dtype == torch.bfloat16:
        rate = data_sheet(torch.cuda.get_device_name(device))
        if rate is not None:
            return rate, "data sheet"
    gemm = Gemm(dtype, str(device), sizes)
    return max(gemm.rate() for _ in range(TRIES)), "measured"
