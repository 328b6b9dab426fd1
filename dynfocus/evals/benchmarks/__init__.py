"""List the benchmarks: a file each, and a line here."""

from pathlib import Path

from dynfocus.errors import ConfigError
from dynfocus.evals.benchmarks.doom import DOOM
from dynfocus.evals.benchmarks.egoschema import EGOSCHEMA
from dynfocus.evals.benchmarks.hallucer import VIDEO_HALLUCER
from dynfocus.evals.benchmarks.longvideobench import LONG_VIDEO_BENCH, NO_SUBTITLES
from dynfocus.evals.benchmarks.lvbench import LVBENCH
from dynfocus.evals.benchmarks.mlvu import MLVU
from dynfocus.evals.benchmarks.mvbench import MVBENCH
from dynfocus.evals.benchmarks.nextqa import NEXTQA
from dynfocus.evals.benchmarks.open_qa import ACTIVITYNET_QA, MSRVTT_QA, MSVD_QA
from dynfocus.evals.benchmarks.scienceqa import SCIENCEQA
from dynfocus.evals.benchmarks.vcg import VCG_BENCH
from dynfocus.evals.benchmarks.videomme import VIDEOMME, VIDEOMME_SUBTITLES
from dynfocus.evals.benchmarks.world import WORLD
from dynfocus.evals.files import BenchmarkFiles
from dynfocus.evals.protocol import OWN, Benchmark, Item

PUBLISHED = (
    *(MSVD_QA, MSRVTT_QA, ACTIVITYNET_QA, VCG_BENCH, MLVU, LVBENCH, VIDEOMME, VIDEOMME_SUBTITLES),
    *(VIDEO_HALLUCER, SCIENCEQA, LONG_VIDEO_BENCH, NO_SUBTITLES, EGOSCHEMA, NEXTQA, MVBENCH),
)
BENCHMARKS: dict[str, Benchmark] = {one.name: one for one in (WORLD, DOOM, *PUBLISHED)}


def find_benchmark(name: str, protocol: str = OWN) -> Benchmark:
    """Return the benchmark of that name under a protocol; raises ConfigError if there is none."""
    if name not in BENCHMARKS:
        raise ConfigError(f"the benchmark {name!r}", f"one of {', '.join(BENCHMARKS)}", "Correct the name.")
    return BENCHMARKS[name].follow(protocol)


def read_items(benchmark: str, root: Path, split: str | None = None) -> list[Item]:
    """Read the questions of a benchmark from its files; raises ConfigError or DataError."""
    return find_benchmark(benchmark).read_items(BenchmarkFiles(root), find_split(benchmark, split))


def find_split(benchmark: str, split: str | None) -> str:
    """Return the split of a benchmark, the first one if none is named; raises ConfigError if there is none."""
    splits = find_benchmark(benchmark).splits
    if split is not None and split not in splits:
        raise ConfigError(f"the split {split!r} of {benchmark}", f"one of {', '.join(splits)}", "Correct --split.")
    return split or splits[0]
