"""Measure the connector, alone or beside another, training steps or the reading of data, and print a table."""

import sys
from argparse import ArgumentParser
from pathlib import Path

from dynfocus.errors import DynFocusError

GENERATED = Path("cache/bench")  # a gigabyte of files that --data reads


def main(args: list[str] | None = None) -> int:
    """Run one of the four measurements; returns the exit code, 1 after a user's mistake."""
    parser = ArgumentParser("python -m perf", description=__doc__)
    numbers = parser.add_argument("--frames", help="numbers of frames T to measure, such as 16,256")
    numbers.type = lambda text: [int(number) for number in text.split(",")]
    parser.add_argument("--out", type=Path, default=Path("runs/bench.jsonl"), help="gets a JSON line for each case")
    parser.add_argument("--quick", action="store_true", help="few and short videos, in fp32; with --data small files")
    parser.add_argument("--training", action="store_true", help="on a GPU: training steps of a 7B-shaped model")
    parser.add_argument("--data", action="store_true", help="how fast annotations, videos and images are read")
    parser.add_argument("--against", help="package.module:Class of another connector, which is timed in turn with ours")
    parser.add_argument("--rows", type=int, default=1, help="videos in a batch of --training")
    options = parser.parse_args(args)
    try:
        if options.data:
            from perf.data import bench_data

            bench_data(options.out, GENERATED, options.quick)
        elif options.training:
            from perf.training_step import bench_training

            bench_training(options.out, options.frames or [32], options.rows)
        elif options.against:
            from perf.against import compare_connectors

            compare_connectors(options.against, options.out, options.frames or [16, 64, 128, 256, 512], options.quick)
        else:
            from perf.run import bench_connector

            frames = options.frames or [1, 16, 32, 64, 128, 256, 512, 1024]
            bench_connector(options.out, frames, options.quick)
    except DynFocusError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
