"""Read and count ScienceQA: choices of school science, about an image or about none.

A problem of ``problems.json``, in our own words; ``pid_splits.json`` lists the numbers of each split::

    {"12": {"question": "Which is a mammal?", "choices": ["a cow", "a fly"], "answer": 0, "hint": "", "image": null,
            "grade": "grade3", "subject": "natural science", "split": "test", ...}}
"""

from collections.abc import Iterable, Iterator, Sequence

from dynfocus.evals.answers import LETTERS
from dynfocus.evals.files import BenchmarkFiles
from dynfocus.evals.protocol import Benchmark, Item, Judged, Mean, Value
from dynfocus.evals.rules import check_choice, format_options, make_choice
from dynfocus.records.rows import Question

# The published columns, in their order: three subjects, three kinds of context, two of grades.
SUBJECTS = {"natural science": "NAT", "social science": "SOC", "language science": "LAN"}
OTHERS = ("TXT", "IMG", "NO", "G1-6", "G7-12")
LOWER = 6  # the highest grade of the lower ones


def read(files: BenchmarkFiles, split: str) -> Iterator[Item]:
    """Read the problems of a split."""
    files.require(["scienceqa/problems.json"], ["scienceqa/pid_splits.json"])
    problems = files.read_json("scienceqa/problems.json")
    for number in files.read_json("scienceqa/pid_splits.json")[split]:
        row = problems[number]
        image, hint, right = row.get("image"), (row.get("hint") or "").strip(), row["answer"]
        keys = ["TXT"] * bool(hint) + ["IMG"] * bool(image) + ["NO"] * (not hint and not image)
        keys += ["G1-6" if int(row["grade"].removeprefix("grade")) <= LOWER else "G7-12"]
        letter = LETTERS[right] if 0 <= right < len(row["choices"]) else None
        meta = {"hint": hint, "keys": keys}
        question = make_choice(row["question"], row["choices"], letter, SUBJECTS[row["subject"]], meta)
        yield Item(number, f"{row['split']}/{number}/{image}" if image else None, question, exact=True)


def prompt(question: Question, seconds: Sequence[float]) -> str:
    """Ask as ScienceQA's training rows do."""
    context = question.meta["hint"] or "N/A"
    options = format_options(question.options).replace("\n", " ")
    return f"{question.text}\nContext: {context}\nOptions: {options}"


def list_values(judged: Iterable[Judged]) -> list[Value]:
    """List whether each answer is right, under all that its problem counts in; a cluster is a problem."""
    return [
        Value(key, one.id, verdict.scores["correct"], one.id)
        for one, verdict in judged
        for key in (one.group, *one.meta["keys"])
    ]


SCIENCEQA = Benchmark(
    name="scienceqa",
    read=read,
    splits=("test", "val"),
    prompt=prompt,
    check=check_choice,
    list_values=list_values,
    columns={
        **{key: Mean(((key,),), 100) for key in (*SUBJECTS.values(), *OTHERS)},
        "Avg": Mean((tuple(SUBJECTS.values()),), 100),
    },
)
