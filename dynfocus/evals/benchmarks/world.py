"""Read, judge and count the embedded world, whose questions know the word that decides.

A row of ``test.json``::

    {"id": "test_000000_color", "video": "videos/test_000000.mp4",
     "conversations": [{"from": "human", "value": "<image>\\nwhat color is the star"}, {"from": "gpt", ...}],
     "questions": [{"text": "what color is the star", "answer": "star red", "options": [], "group": "color",
                    "segments": [[7, 8]], "meta": {"key": "star", "word": "red"}}]}
"""

from collections.abc import Iterator

from dynfocus.evals.answers import normalize_text
from dynfocus.evals.files import BenchmarkFiles
from dynfocus.evals.protocol import Benchmark, Item, Mean
from dynfocus.records.predictions import Prediction
from dynfocus.records.rows import Question

# The groups of questions, by what answering them takes.
KINDS = {
    "detail": ("color", "shape", "position", "final"),
    "correspondence": ("place",),
    "temporal": ("first", "last", "after", "count"),
}
GROUPS = tuple(group for groups in KINDS.values() for group in groups)


def read(files: BenchmarkFiles, split: str) -> Iterator[Item]:
    """Read the questions of a split."""
    for row in files.read_json(f"{split}.json"):
        fields = row["questions"][-1]
        segments = tuple(map(tuple, fields["segments"]))
        question = Question(**fields | {"options": (), "segments": segments})
        yield Item(row["id"], row["video"], question)


def check(prediction: Prediction) -> tuple[dict[str, float], str | None]:
    """An answer is right if it ends with the deciding word: ``red`` of ``star red``."""
    last = next(iter(normalize_text(prediction.answer).split()[-1:]), None)
    return {"correct": float(last == prediction.meta["word"])}, last


WORLD = Benchmark(
    name="world",
    read=read,
    splits=("test", "val"),
    check=check,
    # The mix of questions is arbitrary, so that the headline is the mean of two kinds.
    columns={
        "balanced": Mean((KINDS["detail"], KINDS["temporal"])),
        **{kind: Mean((groups,)) for kind, groups in KINDS.items()},
        **{f"type/{group}": Mean(((group,),)) for group in GROUPS},
    },
)
