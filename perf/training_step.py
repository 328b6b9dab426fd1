"""Measure training steps at the paper's sizes on a GPU: time, tokens, memory beside the plan's, share of the peak."""

import gc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tqdm import tqdm

from dynfocus.errors import ConfigError
from dynfocus.plan import Training, count_prompt_tokens
from dynfocus.plan.connector_flops import Sizes
from dynfocus.plan.flops import count_step_flops
from dynfocus.plan.memory import estimate_step
from dynfocus.plan.training import Train
from dynfocus.settings import ConnectorSettings
from perf.peaks import peak_rate
from perf.random_step import RandomStep, Shapes
from perf.roofline import seconds
from perf.table import GIB, TRAINING, report

TRAINS: tuple[Train, ...] = ("stage1", "lora", "qlora")
WARM, REPEATS = 2, 7
SPARE = 1.1  # of the planned bytes must be free, or a case is left out


def bench_training(out: Path, frames: Sequence[int], batch: int, say: Callable[[str], None] = tqdm.write) -> None:
    """Measure training steps of a 7B-shaped model of random weights on this machine's GPU.

    Prints a table as it goes, and adds one JSON line for each case to ``out``.

    Args:
        out: a file of JSON lines.
        frames: the numbers of frames T to measure.
        batch: videos in a batch.
        say: takes each line of the table.

    Raises:
        ConfigError: if there is no GPU.
        DiskError: if ``out`` cannot be written.
    """
    if not torch.cuda.is_available():
        raise ConfigError(
            "a training step at 7B's size on a machine without a GPU",
            "a CUDA device and a build of torch for it",
            "Run it there, or leave out --training to measure the connector on this one.",
        )
    device = torch.device("cuda", torch.cuda.current_device())
    rows = (
        row
        for train in TRAINS
        for count in frames
        for row in case(count, ConnectorSettings(), Training(train, rows=batch, accumulate=1), device, say)
    )
    report(rows, TRAINING, out, say)


def case(
    frames: int, settings: ConnectorSettings, training: Training, device: torch.device, say: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """One row; none, and a sentence about it, where the GPU's free memory is too small."""
    shapes = Shapes()
    needs = estimate_step(frames, settings, training, shapes.towers).total
    gc.collect()
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info(device)[0]
    if free < SPARE * needs:
        reason = f"{SPARE * needs / GIB:.1f} GiB must be free, {free / GIB:.1f} are"
        say(f"{training.train} of {training.rows} x {frames} frames is left out: {reason}")
        return
    yield measure_training(frames, settings, training, shapes, device)


def measure_training(
    frames: int,
    settings: ConnectorSettings,
    training: Training,
    shapes: Shapes,
    device: torch.device,
    repeats: int = REPEATS,
) -> dict[str, Any]:
    """One row: steps that warm up, then one for memory, then some for time.

    ``peak_bytes`` is the most that tensors took on a GPU, weights included; there is no such number of a CPU.
    ``planned_bytes`` is what `plan` says of the same, without CUDA's context, of which the allocator knows nothing.
    """
    towers = shapes.towers
    random_step = RandomStep(frames, settings, training, shapes, device)
    for _ in range(WARM):
        random_step.step()
    peak_bytes = peak(random_step.step, device)
    times = [seconds(random_step.step, str(device)) for _ in range(repeats)]
    flops = count_step_flops(frames, settings, training, towers)
    sizes = Sizes(towers.vision.hidden_size, towers.instruction.hidden_size, towers.language.hidden_size)
    rate, source = peak_rate(device, random_step.half or torch.float32, sizes)
    planned = estimate_step(frames, settings, training, towers, overhead=0).total
    tokens, typical = training.rows * count_prompt_tokens(frames, settings, training), median(times)
    with torch.no_grad():
        loss = float(random_step.loss())
    return {
        "case": training.train,
        "pass": "7B-shaped training step" if shapes == Shapes() else "training step",
        "frames": frames,
        "rows": training.rows,
        "precision": training.precision,
        "checkpointing": training.checkpointing,
        "device": device.type,
        "parameters": sum(weight.numel() for weight in random_step.model.parameters()),
        "trained": sum(weight.numel() for weight in random_step.weights),
        "seconds": min(times),
        "seconds_median": typical,
        "repeats": repeats,
        "tokens": tokens,
        "tokens_per_second": tokens / typical,
        "flops": sum(flops.values()),
        "flops_parts": flops,
        "mfu": sum(flops.values()) / typical / rate,
        "peak_flops": rate,
        "peak_flops_from": source,
        "peak_bytes": peak_bytes,
        "planned_bytes": planned,
        "planned_over_peak": None if peak_bytes is None else planned / peak_bytes,
        "loss": loss,
    }


def peak(work: Callable[[], object], device: torch.device) -> int | None:
    """Run ``work`` and give the most bytes that tensors took on the GPU meanwhile; None on a CPU, which counts none."""
    if device.type != "cuda":
        work()
        return None
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    work()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device)
