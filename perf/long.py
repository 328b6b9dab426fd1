"""Measure what grows with length: clustering over time, long videos from patches to tokens, the perturbed Top-K."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dynfocus.method.cluster import density_peaks
from dynfocus.method.topk import PerturbedTopK, draw_keyed_noise
from dynfocus.plan.connector_flops import Sizes, fewest_flops
from dynfocus.settings import ConnectorSettings
from perf.cases import FEATURES, Bench
from perf.peak_memory import extra_peak, free_at_once
from perf.roofline import Roofline, seconds


def weigh_once(work: Callable[[], object], device: str) -> tuple[float, int | None]:
    """Run ``work`` once: its seconds, and the most bytes that it needed beside those in use before."""
    times: list[float] = []
    extra = extra_peak(lambda: times.append(seconds(work, device)), device)
    return times[0], extra


def measure_clustering(
    frames: int, roofline: Roofline, settings: ConnectorSettings, sizes: Sizes, device: str
) -> dict[str, Any]:
    """Temporal DPC-KNN alone, on sketches in half precision: Eq. 1-3 over the frames of one video."""
    points = random_half(frames, settings.pooled * sizes.width, device)
    rate = roofline.rates()[0]
    time, extra = weigh_once(lambda: density_peaks(points, settings.events, settings.neighbours), device)
    rate = max(rate, roofline.rates()[0])
    products = frames * (frames + 1) * points.shape[-1]  # of one half: distances are symmetric
    return {
        "case": "temporal DPC-KNN",
        "pass": "forward",
        "frames": frames,
        "precision": "float16",
        "device": device,
        "seconds": time,
        "roofline": products / rate / time,
        "flops": products,
        "extra_bytes": extra,
    }


def measure_long_video(bench: Bench, roofline: Roofline, frames: int) -> dict[str, Any]:
    """Sketch, DPE and CCE of one long video in evaluation, once: time and extra memory of the same run."""
    bench.answer(FEATURES)
    counts = []
    rate = roofline.rates()[0]
    time, extra = weigh_once(lambda: counts.append(int(bench.answer(frames).mask.sum())), bench.device)
    rate = max(rate, roofline.rates()[0])
    flops = fewest_flops(frames, bench.settings, bench.sizes)
    return {
        "case": f"long video, {bench.settings.sketch_dtype} sketch",
        "pass": "forward",
        "frames": frames,
        "precision": str(bench.dtype).removeprefix("torch."),
        "device": bench.device,
        "seconds": time,
        "roofline": flops.total / rate / time,
        "flops": flops.total,
        "extra_bytes": extra,
        "tokens": counts[0],
    }


def measure_top_k(events: int, keep: int, samples: int, device: str = "cpu") -> dict[str, Any]:
    """The perturbed Top-K with its noise, forward and backward, of one video of many events."""
    rows = torch.zeros(1, dtype=torch.long, device=device)
    scores = torch.linspace(0, 1, events, device=device)[None].requires_grad_()

    def work() -> None:
        noise = draw_keyed_noise([events], events, samples, rows, 0)
        PerturbedTopK.apply(scores, noise, 0.1, [keep]).square().sum().backward()

    time = min(seconds(work, device) for _ in range(3))
    with free_at_once():  # the least of three: what is loaded once is no part of it
        extra = min((extra_peak(work, device) for _ in range(3)), key=lambda bytes_: (bytes_ is None, bytes_))
    return {
        "case": f"perturbed Top-K, L={events} K={keep} n={samples}",
        "pass": "forward+backward",
        "precision": "float32",
        "device": device,
        "seconds": time,
        "extra_bytes": extra,
    }


def random_half(frames: int, features: int, device: str, chunk: int = 256) -> Tensor:
    """Random points [1,T,f] in half precision, made in parts, so that they never exist in full precision."""
    points = torch.empty(1, frames, features, dtype=torch.float16, device=device)
    generator = torch.Generator(device).manual_seed(0)
    for part in points[0].split(chunk):
        part.copy_(torch.randn(part.shape, generator=generator, device=device))
    return points
