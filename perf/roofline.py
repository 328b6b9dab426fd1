"""Time work beside plain matrix products on the same machine at the same moment."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch.nn.functional import linear

from dynfocus.plan.connector_flops import Flops, Sizes
from perf.machine import bf16_units

ENOUGH, LEAST, MOST = 8.0, 2, 7  # seconds of repeating a case, and how often


@dataclass(frozen=True)
class Timing:
    """Seconds of a case, best and median, and the matrix-product rates (FLOP/s) measured between its repetitions."""

    best: float
    median: float
    repeats: int
    rate32: float
    rate: float

    def share(self, flops: Flops) -> float:
        """The share of the roofline: the seconds that bare matrix products would need over the seconds needed."""
        return (flops.single / self.rate32 + (flops.total - flops.single) / self.rate) / self.best


class Gemm:
    """Matrix products at the projectors' sizes, d -> D and D -> D on as many rows as keep the machine busy."""

    def __init__(self, dtype: torch.dtype, device: str, sizes: Sizes) -> None:
        slow = dtype == torch.bfloat16 and device == "cpu" and not bf16_units()
        rows = 8192 if device != "cpu" else 128 if slow else 760
        generator = torch.Generator(device).manual_seed(0)

        def random(*shape: int) -> torch.Tensor:  # products of constants would run cooler, and faster
            return torch.randn(shape, generator=generator, device=device).to(dtype)

        self.narrow, self.wide = random(rows, sizes.width), random(rows, sizes.out)
        self.first, self.second = random(sizes.out, sizes.width), random(sizes.out, sizes.out)
        self.flops = 2 * rows * sizes.out * (sizes.width + sizes.out)
        self.device = device

    def rate(self) -> float:
        """FLOP/s of one run."""
        return self.flops / seconds(self._work, self.device)

    @torch.no_grad()
    def _work(self) -> None:
        linear(self.narrow, self.first)
        linear(self.wide, self.second)


class Roofline:
    """The rates of fp32 and of one other precision; making it runs each once, so that the first case finds it warm."""

    def __init__(self, dtype: torch.dtype, device: str, sizes: Sizes) -> None:
        self.single = Gemm(torch.float32, device, sizes)
        self.other = self.single if dtype == torch.float32 else Gemm(dtype, device, sizes)
        self.device = device
        self.rates()

    def rates(self) -> tuple[float, float]:
        """One measurement of both."""
        first = self.single.rate()
        return first, first if self.other is self.single else self.other.rate()

    def time(self, work: Callable[[], object]) -> Timing:
        """Repeat ``work`` with the matrix products between, so that a slow moment of the machine meets both."""
        times: list[float] = []
        rates = [self.rates()]
        while len(times) < LEAST or (sum(times) < ENOUGH and len(times) < MOST):
            times.append(seconds(work, self.device))
            rates.append(self.rates())
        rate32, rate = (max(column) for column in zip(*rates, strict=True))
        return Timing(min(times), median(times), len(times), rate32, rate)


def seconds(work: Callable[[], object], device: str = "cpu") -> float:
    """Seconds of one call: on the CPU of this process's processor time, which with one thread is what the wall clock
    shows on an idle machine; elsewhere of the wall clock, the device's queue emptied before and after."""
    if torch.device(device).type == "cpu":
        began = time.process_time()
        work()
        return time.process_time() - began
    torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - began
