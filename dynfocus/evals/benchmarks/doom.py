"""Read, judge and count the questions about walks through ViZDoom's levels, which `dynfocus doom` writes.

A row of ``test.jsonl``::

    {"id": "test_000000_first", "video": "videos/test_000000.mp4", "question": "which of these is shown first: ...",
     "conversations": [...],
     "questions": [{"text": "which of these is shown first: ...", "answer": "imp",
                    "options": ["imp", "helmet", "barrel"], "group": "first", "segments": [[7, 8]],
                    "meta": {"names": [...], "letter": "A"}}]}
"""

from collections.abc import Iterator, Sequence

from dynfocus.evals.files import BenchmarkFiles
from dynfocus.evals.protocol import Benchmark, Item, Mean
from dynfocus.evals.rules import LETTER_ALONE, check_choice, format_options
from dynfocus.records.rows import Question

# Which of three kinds comes first or last, whether one is shown, in which quarter it is first, and how many are.
GROUPS = ("first", "last", "appear", "when", "count")


def read(files: BenchmarkFiles, split: str) -> Iterator[Item]:
    """Read the questions of a split."""
    for row in files.read_json_lines(f"{split}.jsonl"):
        fields = row["questions"][-1]
        lists = {"options": tuple(fields["options"]), "segments": tuple(map(tuple, fields["segments"]))}
        yield Item(row["id"], row["video"], Question(**fields | lists), exact=True)


def prompt(question: Question, seconds: Sequence[float]) -> str:
    """Ask for the letter of an option."""
    return f"{question.text}\n{format_options(question.options)}\n{LETTER_ALONE}"


DOOM = Benchmark(
    name="doom",
    read=read,
    splits=("test", "val"),
    prompt=prompt,
    check=check_choice,
    # As many questions of each group count alike: a video may lack one.
    columns={"Acc": Mean(tuple((group,) for group in GROUPS)), **{one: Mean(((one,),)) for one in GROUPS}},
)
