"""What the method costs: counted operations, measured memory, and time beside the machine's own limit."""

from pathlib import Path


def bench(out: Path, frames: list[int], quick: bool) -> None:
    """Measure the connector, print a table as it goes, and append one JSON line for each case to ``out``.

    Args:
        out: a file of JSON lines; it is made, or added to.
        frames: the numbers of frames T to measure.
        quick: only T <= 64 in fp32, and none of the rows that take minutes.

    Raises:
        ConfigError: if no number of frames is left to measure.
        DiskError: if ``out`` cannot be written.
    """
    from perf.run import run

    run(out, frames, quick)


def bench_training(out: Path, frames: list[int], rows: int) -> None:
    """Measure training steps of a random model of the paper's sizes on a GPU, in each of the ways that fit one.

    Prints a table as it goes, and appends one JSON line for each case to ``out``.

    Args:
        out: a file of JSON lines; it is made, or added to.
        frames: the numbers of frames T to measure.
        rows: videos in a batch.

    Raises:
        ConfigError: if there is no GPU.
        DiskError: if ``out`` cannot be written.
    """
    from tqdm import tqdm

    from perf.training import training

    training(out, frames, rows, tqdm.write)


def bench_data(out: Path, folder: Path, quick: bool) -> None:
    """Measure the reading of annotations, videos and images beside the plain way, in generated files.

    Prints a table as it goes, and appends one JSON line for each case to ``out``.

    Args:
        out: a file of JSON lines; it is made, or added to.
        folder: where a gigabyte of generated files is kept.
        quick: only small files, and each once.

    Raises:
        DiskError: if ``out`` cannot be written.
    """
    from perf.data import data

    data(out, folder, quick)
