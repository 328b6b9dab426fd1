"""Read and count VCG-Bench, whose answers are texts that a judge rates in five aspects.

Rows of ``generic_qa.json`` and ``temporal_qa.json``, and one of ``consistency_qa.json``, in our own words::

    {"Q": "What does the man build?", "A": "He builds a shed of wood.", "video_name": "v_abc"}
    {"Q1": "What is built?", "Q2": "Which thing does the man build?", "A": "A shed.", "video_name": "v_abc"}

One answer to a generic question is rated in three aspects. The two questions of a pair are asked apart from each other;
the pair's rating is the second one's.

Departs: a rating of 4.8 counts as 4.8, and a judge of a pair sees both questions. Upstream cuts ratings to whole
numbers, and some of its scorers show the first question twice (``--protocol upstream`` does both).
"""

from collections.abc import Iterable, Iterator

from dynfocus.evals.files import BenchmarkFiles
from dynfocus.evals.protocol import Benchmark, Item, Judged, Mean, Value
from dynfocus.evals.rules import check_open
from dynfocus.records.predictions import Prediction
from dynfocus.records.rows import Question

# The aspects that a judge rates from 0 to 5, by the paper's columns, and the questions of each.
ASPECTS = {
    "CI": ("generic", "correctness"),
    "DO": ("generic", "detail"),
    "CU": ("generic", "context"),
    "TU": ("temporal", "temporal"),
    "CO": ("consistency", "consistency"),
}
KINDS = ("generic", "temporal", "consistency")


def read(files: BenchmarkFiles, split: str) -> Iterator[Item]:
    """Read the questions of the three files."""
    files.require(*([f"{kind}_qa.json"] for kind in KINDS))
    for kind in KINDS:
        for number, row in enumerate(files.read_json(f"{kind}_qa.json")):
            for key in ("Q1", "Q2") if kind == "consistency" else ("Q",):
                meta = {"pair": f"{kind}_{number}_Q1"} if key == "Q2" else {}
                name = f"{kind}_{number}" if key == "Q" else f"{kind}_{number}_{key}"
                yield Item(name, row["video_name"], Question(row[key], row["A"], group=kind, meta=meta))


def name_templates(prediction: Prediction) -> tuple[str, ...]:
    """Name the prompts that rate an answer; the second answer of a pair is rated together with the first."""
    rated = prediction.group != "consistency" or "pair" in prediction.meta
    return tuple(f"vcg_{name}" for kind, name in ASPECTS.values() if rated and kind == prediction.group)


def name_templates_of_upstream(prediction: Prediction) -> tuple[str, ...]:
    """Name the prompts that rate an answer; that of a pair shows the first question twice."""
    return tuple(f"{name}_upstream" if name == "vcg_consistency" else name for name in name_templates(prediction))


def list_values(judged: Iterable[Judged]) -> list[Value]:
    """List the ratings of each answer; ``f1``, which rules give to every answer, stands apart from them."""
    return [
        Value(name, one.video, verdict.scores[name], one.id)
        for one, verdict in judged
        for name in (*(name for kind, name in ASPECTS.values() if kind == one.group), "f1")
        if name in verdict.scores
    ]


def list_truncated_values(judged: Iterable[Judged]) -> list[Value]:
    """List the same as `list_values`, with ratings cut to whole numbers, as upstream."""
    return [one if one.key == "f1" else one._replace(value=float(int(one.value))) for one in list_values(judged)]


VCG_BENCH = Benchmark(
    name="vcg-bench",
    read=read,
    check=check_open,
    list_values=list_values,
    templates=name_templates,
    new_tokens=256,
    upstream={"list_values": list_truncated_values, "templates": name_templates_of_upstream},
    columns={
        **{aspect: Mean(((name,),)) for aspect, (_, name) in ASPECTS.items()},
        "Avg": Mean(tuple((name,) for _, name in ASPECTS.values())),
        "F1": Mean((("f1",),), 100),
    },
)
