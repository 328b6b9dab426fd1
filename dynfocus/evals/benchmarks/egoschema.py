"""Read and count EgoSchema: choices about three minutes of a person's own view, of which a subset has public answers.

A row of ``questions.json``, in our own words, with ``subset_answers.json`` as ``{"0a1b": 1}``::

    {"q_uid": "0a1b", "question": "What does C do most?", "option 0": "C cooks.", "option 1": "C reads.", ...}

Read as well: the parquet file of ``Subset`` with ``video_idx``, ``option`` and ``answer``, those without answers
beside ``subset_answers.json``, and ``EgoSchema.csv`` with ``video_name``, ``a0`` to ``a4`` and the answer's text. Of
two options alike the first is then the right one. The person is called C, which is no letter of an option in an answer.

All questions are the split ``full``: the authors' server alone counts them, which takes ``submission.json``. The
column is that of the subset among them.

Departs: an answer that chooses nothing counts as wrong; others draw a letter.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from dynfocus.evals.answers import LETTERS
from dynfocus.evals.files import BenchmarkFiles
from dynfocus.evals.protocol import Benchmark, Item, Judged, Mean
from dynfocus.evals.rules import LETTER_ALONE, check_choice, format_options, make_choice, strip_letters
from dynfocus.records.rows import Question

ANSWERS = "subset_answers.json"
FILES = ("questions.json", "Subset/test-00000-of-00001.parquet", "EgoSchema.csv")
SPLITS = ("subset", "full")


def read(files: BenchmarkFiles, split: str) -> Iterator[Item]:
    """Read the questions whose answers are public, or all."""
    path = files.find(*FILES)
    name = path.relative_to(files.root).as_posix()
    readers = {".json": files.read_json, ".parquet": files.read_parquet, ".csv": files.read_csv}
    needed = path.suffix == ".json" and split == "subset"
    answers = files.read_json(ANSWERS) if needed or ANSWERS in files.paths else None
    for row in readers[path.suffix](name):
        id = row.get("q_uid") or row.get("video_idx") or row["video_name"]
        options = list_options(row)
        right = find_right(row, options) if answers is None else int(answers[id]) if id in answers else None
        if right is None and split == "subset":
            continue
        group = "hidden" if right is None else "subset"
        yield Item(id, id, make_choice(row["question"], options, None if right is None else LETTERS[right], group))


def list_options(row: Mapping[str, Any]) -> list[str]:
    """List the five options of a row in any form, without letters."""
    if "option" in row:
        return strip_letters(row["option"])
    form = "option {}" if "option 0" in row else "a{}"
    return [row[form.format(n)] for n in range(5)]


def find_right(row: Mapping[str, Any], options: Sequence[str]) -> int | None:
    """Find the number of the right option, which a row gives as it is or by its text; None where there is none."""
    answer = str(row.get("answer"))
    if answer.isdigit() and answer not in options:
        return int(answer)
    return options.index(answer) if answer in options else None


def prompt(question: Question, seconds: Sequence[float]) -> str:
    """Ask for the letter of an option."""
    options = format_options(question.options, "{}. {}")
    return f"{question.text}\n{options}\n{LETTER_ALONE}"


def submit(judged: Iterable[Judged]) -> dict[str, int]:
    """List the number of each chosen option, as the authors' server takes it; an answer without one is left out."""
    return {one.id: LETTERS.index(verdict.parsed) for one, verdict in judged if verdict.parsed is not None}


EGOSCHEMA = Benchmark(
    name="egoschema",
    read=read,
    splits=SPLITS,
    prompt=prompt,
    check=check_choice,
    columns={"Subset": Mean((("subset",),), 100)},
    submit=submit,
)
