"""Measure the connector from patches to tokens at the paper's sizes: one row for each T, pass and precision."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dynfocus.method.connector import build_connector
from dynfocus.method.sketch import sketch_frames
from dynfocus.plan.connector_flops import Sizes, fewest_flops
from dynfocus.settings import ConnectorSettings
from perf.counting import count_operations
from perf.peak_memory import extra_peak
from perf.roofline import Roofline

FEATURES = 64  # frames of random features, which are repeated


@dataclass
class Bench:
    """A connector of random weights, and an encoder that takes no time: it returns random features made before.

    Attributes:
        dtype: precision of the weights, the features and the instruction.
        chunk: frames that are encoded and sketched at once; the library's default where it is None.
        build: makes the connector of settings and of d, d' and D. Where what it makes has the attribute
            ``reads_patches``, and it is true, it is called with all patches [1, T, N, d] in place of a sketch.
    """

    settings: ConnectorSettings = field(default_factory=ConnectorSettings)
    sizes: Sizes = field(default_factory=Sizes)
    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    chunk: int | None = None
    build: Callable[..., nn.Module] = build_connector

    def __post_init__(self) -> None:
        sizes = self.sizes
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net: nn.Module = self.build(self.settings, sizes.width, sizes.text, sizes.out)
            count = max(FEATURES, self.chunk or 0)
            self.features = torch.randn(count, self.settings.patches, sizes.width).to(self.device, self.dtype)
            self.question = torch.randn(1, sizes.question, sizes.text).to(self.device, self.dtype)
        self.net.to(self.device, self.dtype)
        self.question_mask = torch.ones(1, sizes.question, dtype=torch.bool, device=self.device)
        self.rows = torch.zeros(1, dtype=torch.long, device=self.device)
        self.next = 0

    def encode(self, frames: Tensor) -> Tensor:
        """In place of the vision encoder: a view of the next features, and of the first again after the last."""
        start = self.next if self.next + len(frames) <= len(self.features) else 0
        self.next = start + len(frames)
        return self.features[start : self.next]

    def tokens(self, frames: int) -> Any:
        """One video of ``frames`` frames, from patches to tokens: `VideoTokens`, or what another connector returns."""
        pixels = torch.zeros(frames, 1, 1, 3, dtype=torch.uint8, device=self.device)
        self.next = 0
        if getattr(self.net, "reads_patches", False):
            patches = torch.cat([self.encode(part) for part in pixels.split(FEATURES)])[None]
            return self.net(patches, self.question, self.question_mask, self.rows)
        chunk = {} if self.chunk is None else {"chunk": self.chunk}
        sketch = sketch_frames(pixels, self.encode, self.settings, **chunk)
        return self.net(sketch, self.question, self.question_mask, self.rows)

    def answer(self, frames: int) -> Any:
        """Forward in evaluation."""
        self.net.eval()
        with torch.no_grad():
            return self.tokens(frames)

    def loss(self, frames: int) -> Tensor:
        """Forward in training."""
        self.net.train()
        return self.tokens(frames).tokens.float().square().mean()

    def step(self, frames: int) -> None:
        """Forward and backward in training; the gradients are dropped."""
        self.loss(frames).backward()
        self.net.zero_grad(set_to_none=True)


def count_tokens(output: Any) -> int:
    """Count the visual tokens of one video, as a connector returns them: [1, S, D], padded where it has a ``mask``."""
    mask = getattr(output, "mask", None)
    return getattr(output, "tokens", output).shape[-2] if mask is None else int(mask.sum())


def measure(bench: Bench, roofline: Roofline, frames: int, backward: bool) -> dict[str, Any]:
    """One row: counts first, which also warms up, then memory, then time."""
    counts = count_step(bench, frames) if backward else count_answer(bench, frames)
    work = (lambda: bench.step(frames)) if backward else (lambda: bench.answer(frames))
    extra = extra_peak(work, bench.device)
    timing = roofline.time(work)
    flops = fewest_flops(frames, bench.settings, bench.sizes, backward)
    return {
        "case": "connector",
        "pass": "forward+backward" if backward else "forward",
        "frames": frames,
        "precision": str(bench.dtype).removeprefix("torch."),
        "device": bench.device,
        "seconds": timing.best,
        "seconds_median": timing.median,
        "repeats": timing.repeats,
        "roofline": timing.share(flops),
        "gemm_fp32": timing.rate32,
        "gemm": timing.rate,
        "flops": flops.total,
        "extra_bytes": extra,
        **counts,
    }


def count_answer(bench: Bench, frames: int) -> dict[str, Any]:
    """Operations, host synchronisations and tokens of a forward pass in evaluation."""
    with count_operations() as forward:
        video = bench.answer(frames)
    return {
        "operations_forward": forward.operations.total(),
        "operations_backward": None,
        "syncs": forward.syncs.total(),
        "tokens": count_tokens(video),
    }


def count_step(bench: Bench, frames: int) -> dict[str, Any]:
    """Operations of a training step's forward and backward, its host synchronisations and tokens."""
    bench.net.train()
    with count_operations() as forward:
        video = bench.tokens(frames)
    loss = video.tokens.float().square().mean()
    with count_operations() as backward:
        loss.backward()
    bench.net.zero_grad(set_to_none=True)
    return {
        "operations_forward": forward.operations.total(),
        "operations_backward": backward.operations.total(),
        "syncs": forward.syncs.total() + backward.syncs.total(),
        "tokens": count_tokens(video),
    }
