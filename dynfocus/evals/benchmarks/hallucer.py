"""Read and count VideoHallucer: pairs of questions, one about what is there and one about what is not.

A row of ``temporal/temporal.json``, in our own words::

    {"basic": {"video": "a.mp4", "question": "Does the man sit at first?", "answer": "yes"},
     "hallucination": {"video": "a.mp4", "question": "Does the man sit at last?", "answer": "no"}, "type": "temporal"}

The halves of a pair are asked apart; a pair is right where both answers are. In ``semantic_detail`` they
are about two videos, so that a pair of which one is missing counts in the column of the other half alone.

Departs: an answer with both of the words yes and no, such as "Yes, there is no dog", is not read and counts as wrong;
upstream counts it as right for both (``--protocol upstream``).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

from dynfocus.evals.files import BenchmarkFiles
from dynfocus.evals.protocol import Benchmark, Item, Judged, Mean, Value
from dynfocus.evals.rules import check_yes_no
from dynfocus.evals.upstream import check_videohallucer
from dynfocus.records.rows import Question

# The columns of the published table, in its order, and the folder of each.
SETS = {
    **{"Object-Relation": "object_relation", "Temporal": "temporal", "Semantic Detail": "semantic_detail"},
    **{"Factual": "external_factual", "Non-Factual": "external_nonfactual"},
}
HALVES = ("basic", "hallucination")
FINAL = "final"


def read(files: BenchmarkFiles, split: str) -> Iterator[Item]:
    """Read both halves of each pair of the five sets."""
    files.require(*([f"{folder}/{folder}.json"] for folder in SETS.values()))
    for column, folder in SETS.items():
        for number, row in enumerate(files.read_json(f"{folder}/{folder}.json")):
            for half in HALVES:
                asked = row[half]
                meta = {"number": number, "half": half, "type": row["type"]}
                question = Question(asked["question"], asked["answer"], group=column, meta=meta)
                yield Item(f"{folder}_{number}_{half}", f"{folder}/videos/{asked['video']}", question)


def prompt(question: Question, seconds: Sequence[float]) -> str:
    """Ask for yes or no."""
    return f"{question.text}\nAnswer with 'yes' or 'no'."


def list_values(judged: Iterable[Judged]) -> list[Value]:
    """List whether each half of a pair is right, and both; clusters are the videos' names, which two sets share."""
    pairs: dict[tuple[str, int], dict[str, Judged]] = defaultdict(dict)
    for one, verdict in judged:
        pairs[one.group, one.meta["number"]][one.meta["half"]] = one, verdict
    values = []
    for halves in pairs.values():
        first = next(iter(halves.values()))[0]
        right = {half: verdict.scores["correct"] for half, (_, verdict) in halves.items()}
        right |= {FINAL: min(right.values())} if len(right) == len(HALVES) else {}
        video, id = PurePosixPath(first.video).name, first.id.rpartition("_")[0]
        values += [Value(f"{first.group}/{key}", video, one, id) for key, one in right.items()]
    return values


VIDEO_HALLUCER = Benchmark(
    name="videohallucer",
    read=read,
    prompt=prompt,
    check=check_yes_no,
    upstream={"check": check_videohallucer},
    list_values=list_values,
    columns={
        **{column: Mean(((f"{column}/{FINAL}",),), 100) for column in SETS},
        "Overall": Mean(tuple((f"{column}/{FINAL}",) for column in SETS), 100),
        **{f"Overall {half}": Mean(tuple((f"{column}/{half}",) for column in SETS), 100) for half in HALVES},
        **{f"type/{column} {half}": Mean(((f"{column}/{half}",),), 100) for column in SETS for half in HALVES},
    },
)
