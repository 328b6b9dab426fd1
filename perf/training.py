"""Training steps at the paper's sizes on a GPU: time, tokens, memory beside the plan's, and the share of the peak."""

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import torch

from dynfocus.errors import ConfigError
from dynfocus.plan import Training, memory, prompt_tokens
from dynfocus.plan.cards import GIB
from dynfocus.plan.connector_flops import Sizes
from dynfocus.plan.flops import step_flops
from dynfocus.plan.training import Train
from dynfocus.settings import ConnectorSettings
from perf.lesson import Lesson, Shapes
from perf.machine import machine
from perf.peaks import peak_rate
from perf.roofline import seconds
from perf.run import append

TRAINS: tuple[Train, ...] = ("stage1", "lora", "qlora")
WARM, REPEATS = 2, 7
SPARE = 1.1  # of the planned bytes must be free, or a case is left out
COLUMNS = {
    "training step": 14,
    "T": 5,
    "rows": 4,
    "tokens": 6,
    "seconds": 8,
    "tokens/s": 9,
    "TFLOP": 8,
    "MFU": 6,
    "peak GiB": 8,
    "plan GiB": 8,
}


def training(
    out: Path, frames: Sequence[int], rows: int, say: Callable[[str], None], trains: Sequence[Train] = TRAINS
) -> None:
    """Measure training steps of a 7B-shaped model on this machine's GPU; see `perf.bench_training`."""
    if not torch.cuda.is_available():
        raise ConfigError(
            "a training step at 7B's size on a machine without a GPU",
            "a CUDA device and a build of torch for it",
            "Run it there, or leave out --training to measure the connector on this one.",
        )
    device, about = torch.device("cuda", torch.cuda.current_device()), machine()
    append(out, [])
    say(", ".join(f"{name} {value}" for name, value in about.items() if value is not None))
    say(heading())
    for train in trains:
        for count in frames:
            for row in case(count, ConnectorSettings(), Training(train, rows=rows, accumulate=1), device, say):
                append(out, [{**about, **row}])
                say(line(row))


def case(
    frames: int, settings: ConnectorSettings, training: Training, device: torch.device, say: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """One row, or none and a sentence about it where the GPU's free memory is too small."""
    shapes = Shapes()
    needs = memory(frames, settings, training, shapes.towers).total
    gc.collect()
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info(device)[0]
    if free < SPARE * needs:
        need = f"{SPARE * needs / GIB:.1f} GiB must be free, {free / GIB:.1f} are"
        say(f"{training.train} of {training.rows} x {frames} frames is left out: {need}")
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

    ``peak_bytes`` is the most that tensors held on a GPU, weights included; there is no such number of a CPU.
    ``planned_bytes`` is what `plan` says of the same, without CUDA's context, of which the allocator knows nothing.
    """
    towers = shapes.towers
    lesson = Lesson(frames, settings, training, shapes, device)
    for _ in range(WARM):
        lesson.step()
    peak_bytes = peak(lesson.step, device)
    spent = [seconds(lesson.step, str(device)) for _ in range(repeats)]
    flops = step_flops(frames, settings, training, towers)
    sizes = Sizes(towers.vision.hidden_size, towers.instruction.hidden_size, towers.language.hidden_size)
    rate, known = peak_rate(device, lesson.half or torch.float32, sizes)
    planned = memory(frames, settings, training, towers, overhead=0).total
    tokens, typical = training.rows * prompt_tokens(frames, settings, training), median(spent)
    with torch.no_grad():
        loss = float(lesson.loss())
    return {
        "case": training.train,
        "pass": "7B-shaped training step" if shapes == Shapes() else "training step",
        "frames": frames,
        "rows": training.rows,
        "precision": training.precision,
        "checkpointing": training.checkpointing,
        "device": device.type,
        "parameters": sum(weight.numel() for weight in lesson.model.parameters()),
        "trained": sum(weight.numel() for weight in lesson.weights),
        "seconds": min(spent),
        "seconds_median": typical,
        "repeats": repeats,
        "tokens": tokens,
        "tokens_per_second": tokens / typical,
        "flops": flops.total,
        "flops_parts": asdict(flops),
        "mfu": flops.total / typical / rate,
        "peak_flops": rate,
        "peak_flops_from": known,
        "peak_bytes": peak_bytes,
        "planned_bytes": planned,
        "planned_over_peak": None if peak_bytes is None else planned / peak_bytes,
        "loss": loss,
    }


def peak(work: Callable[[], object], device: torch.device) -> int | None:
    """Run ``work`` and give the most bytes that tensors held on the GPU meanwhile; None on a CPU, which counts none."""
    if device.type != "cuda":
        work()
        return None
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    work()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device)


def heading() -> str:
    """The table's first two lines."""
    names = " ".join(name.rjust(width) for name, width in COLUMNS.items())
    return f"{names}\n{'-' * len(names)}"


def line(row: dict[str, Any]) -> str:
    """One row; what was not measured stays a dash."""
    cells = [
        row["case"],
        str(row["frames"]),
        str(row["rows"]),
        str(row["tokens"]),
        f"{row['seconds_median']:.3f}",
        f"{row['tokens_per_second']:.0f}",
        f"{row['flops'] / 1e12:.1f}",
        f"{row['mfu']:.1%}",
        "-" if row["peak_bytes"] is None else f"{row['peak_bytes'] / GIB:.2f}",
        f"{row['planned_bytes'] / GIB:.2f}",
    ]
    return " ".join(cell.rjust(width) for cell, width in zip(cells, COLUMNS.values(), strict=True))
