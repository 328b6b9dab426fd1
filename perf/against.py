"""Compare our connector with another one, in turn in one process: a slow moment of the machine meets both."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

from torch import nn
from tqdm import tqdm

from dynfocus.device import one_thread
from dynfocus.errors import ConfigError
from dynfocus.plan.connector_flops import Sizes, fewest_flops
from dynfocus.settings import ConnectorSettings
from perf.cases import Bench, count_tokens
from perf.peak_memory import extra_peak
from perf.roofline import ENOUGH, LEAST, MOST, Roofline, Timing, seconds
from perf.run import choose_counts
from perf.table import AGAINST, report

NEEDED = "package.module:Class, a torch module that is made and called as dynfocus.method.connector.Connector is"


def compare_connectors(
    name: str,
    out: Path,
    frames: list[int],
    quick: bool,
    settings: ConnectorSettings = ConnectorSettings(),  # noqa: B008 (frozen)
    sizes: Sizes = Sizes(),  # noqa: B008 (frozen)
    say: Callable[[str], None] = tqdm.write,
) -> None:
    """Time both in turn in fp32 on one CPU thread, forward in evaluation; print a table, and add its rows to ``out``.

    Args:
        name: ``package.module:Class`` of the other. It is made of (settings, width, text_width, out) and called with
            (sketch, question, question_mask, rows), or, where its attribute ``reads_patches`` is true, with all patches
            [1, T, N, d] in place of the sketch. It returns tokens [1, S, D], or what has them as ``tokens``.
        out: a file of JSON lines.
        frames: the numbers of frames T.
        quick: only T <= 64.
        settings, sizes: the paper's.
        say: takes each line of the table.

    Raises:
        ConfigError: if there is no such class, it cannot be made or called so, or no number of frames is left.
        DiskError: if ``out`` cannot be written.
    """
    counts = choose_counts(frames, quick)
    ours = Bench(settings, sizes)
    with one_thread():
        try:
            other = replace(ours, build=load_connector(name))
            other.answer(counts[0])
        except ConfigError:
            raise
        except Exception as error:  # whatever the class of others dies of
            reason = " ".join(f"{type(error).__name__} {error}".split())
            raise ConfigError(f"--against {name}, which fails ({reason})", NEEDED, "Mend it.") from error
        report(compare_rows(name, ours, other, counts), AGAINST, out, say)


def load_connector(name: str) -> Callable[..., nn.Module]:
    """Import the class that ``package.module:Class`` names; raises ConfigError."""
    module, _, attribute = name.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"--against {name} ({error})", NEEDED, "Correct it, or set PYTHONPATH.") from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ConfigError(f"--against {name}, which is no class of torch modules", NEEDED, "Name another one.")
    return found


def compare_rows(name: str, ours: Bench, other: Bench, frames: list[int]) -> Iterator[dict[str, Any]]:
    """One row for each T: of both the best seconds, the peak memory and the tokens, and the ratios of their pairs."""
    roofline = Roofline(ours.dtype, ours.device, ours.sizes)
    for count in frames:
        peaks = [extra_peak(partial(bench.answer, count)) for bench in (ours, other)]  # warms up, too
        times: list[tuple[float, float]] = []
        rates = [roofline.rates()[0]]
        while len(times) < LEAST or (sum(map(sum, times)) < 2 * ENOUGH and len(times) < MOST):
            turn = (ours, other) if len(times) % 2 else (other, ours)
            pair = {bench is other: seconds(partial(bench.answer, count)) for bench in turn}
            times.append((pair[False], pair[True]))
            rates.append(roofline.rates()[0])
        own, others = (list(column) for column in zip(*times, strict=True))
        ratios = [second / first for first, second in times]
        timing = Timing(min(own), median(own), len(own), max(rates), max(rates))
        yield {
            "case": f"against {name}",
            "frames": count,
            "precision": "float32",
            "device": ours.device,
            "seconds": timing.best,
            "seconds_other": min(others),
            "ratio": median(ratios),
            "ratio_least": min(ratios),
            "ratio_most": max(ratios),
            "repeats": len(times),
            "extra_bytes": peaks[0],
            "extra_bytes_other": peaks[1],
            "roofline": timing.share(fewest_flops(count, ours.settings, ours.sizes)),
            "gemm": timing.rate,
            "tokens": count_tokens(ours.answer(count)),
            "tokens_other": count_tokens(other.answer(count)),
        }
