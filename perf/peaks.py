"""Say how fast a device multiplies matrices at most: by its data sheet, or as measured."""

import torch

from dynfocus.plan.connector_flops import Sizes
from perf.roofline import Gemm

# Dense bf16 products with sums in fp32, FLOP/s; the first name that is part of the device's counts.
PEAKS = {
    "H200 NVL": 835e12,
    "H200": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "RTX 4090": 165e12,
}
TRIES = 5


def data_sheet(name: str) -> float | None:
    """FLOP/s of a GPU of this name, or None where it is none of ``PEAKS``."""
    return next((peak for part, peak in PEAKS.items() if part in name), None)


def peak_rate(device: torch.device, dtype: torch.dtype, sizes: Sizes) -> tuple[float, str]:
    """FLOP/s, and whether they are from a ``data sheet`` or ``measured`` as the best of some matrix products."""
    if device.type == "cuda" and dtype == torch.bfloat16:
        rate = data_sheet(torch.cuda.get_device_name(device))
        if rate is not None:
            return rate, "data sheet"
    gemm = Gemm(dtype, str(device), sizes)
    return max(gemm.rate() for _ in range(TRIES)), "measured"
