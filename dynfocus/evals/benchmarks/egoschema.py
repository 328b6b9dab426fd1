"""Read and count EgoSchema's subset with public answers: choices about three minutes of a person's own view.

A row of ``questions.json``, in our own words, with ``subset_answers.json`` as ``{"0a1b": 1}``::

    {"q_uid": "0a1b", "question": "What does C do most?", "option 0": "C cooks.", "option 1": "C reads.", ...}

Read as well: the parquet file of ``Subset`` with ``video_idx``, ``option`` and ``answer``, those without answers
beside ``subset_answers.json``, and ``EgoSchema.csv`` with ``video_name``, ``a0`` to ``a4`` and the answer's text. Of
two options alike the first is then the right one. The person is called C, which is no letter of an option in an answer.

Departs: an answer that chooses nothing counts as wrong; others draw a letter.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dynfocus.evals.answers import LETTERS
from dynfocus.evals.files import BenchmarkFiles
from dynfocus.evals.protocol import Benchmark, Item, Mean
from dynfocus.evals.rules import LETTER_ALONE, check_choice, format_options, make_choice, strip_letters
from dynfocus.records.rows import Question

ANSWERS = "subset_answers.json"
FILES = ("questions.json", "Subset/test-00000-of-00001.parquet", "EgoSchema.csv")
GROUP = "subset"


def read(files: BenchmarkFiles, split: str) -> Iterator[Item]:
    """Read the questions whose answers are public."""
    path = files.find(*FILES)
    name = path.relative_to(files.root).as_posix()
    readers = {".json": files.read_json, ".parquet": files.read_parquet, ".csv": files.read_csv}
    answers = files.read_json(ANSWERS) if ANSWERS in files.paths or path.suffix == ".json" else None
    for row in readers[path.suffix](name):
        id = row.get("q_uid") or row.get("video_idx") or row["video_name"]
        if answers is not None and id not in answers:
            continue
        options = list_options(row)
        right = int(answers[id]) if answers is not None else find_right(row, options)
        question = make_choice(row["question"], options, None if right is None else LETTERS[right], GROUP)
        yield Item(id, id, question)


def list_options(row: Mapping[str, Any]) -> list[str]:
    """List the five options of a row in any form, without letters."""
    if "option" in row:
        return strip_letters(row["option"])
    form = "option {}" if "option 0" in row else "a{}"
    return [row[form.format(n)] for n in range(5)]


def find_right(row: Mapping[str, Any], options: Sequence[str]) -> int | None:
    """Find the number of the right option, which a row gives as it is or by its text; None where there is none."""
    answer = str(row["answer"])
    if answer.isdigit() and answer not in options:
        return int(answer)
    return options.index(answer) if answer in options else None


def prompt(question: Question, seconds: Sequence[float]) -> str:
    """Ask for the letter of an option."""
    options = format_options(question.options, "{}. {}")
    return f"{question.text}\n{options}\n{LETTER_ALONE}"


EGOSCHEMA = Benchmark(
    name="egoschema",
    read=read,
    splits=(GROUP,),
    prompt=prompt,
    check=check_choice,
    columns={"Subset": Mean(((GROUP,),), 100)},
)
