"""Read and count MSVD-QA, MSRVTT-QA and ActivityNet-QA: open questions about short videos.

Their questions are published in many files. A row of a file of questions with answers, in our own words::

    {"video_id": 1201, "id": 30933, "question": "what is a woman cutting?", "answer": "bread"}

or the same in two files, ``test_q.json`` and ``test_a.json``, paired by ``question_id`` where that is
unique, else by order::

    {"video_name": "abc", "question": "is the dog outdoors", "question_id": "v_abc_1"}
    {"answer": "yes", "type": 3, "question_id": "v_abc_1"}

or a CSV file with the columns ``video_name,question,answer,question_id,question_type``. A row's id is its
number, because most files name questions by nothing that is unique.

Departs: a judge's score of 4.8 counts as 4.8; upstream cuts it to 4 (``--protocol upstream``).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from dynfocus.errors import DataError
from dynfocus.evals.files import BenchmarkFiles
from dynfocus.evals.protocol import Benchmark, Item, Judged, Mean, Value
from dynfocus.evals.rules import check_open
from dynfocus.records.rows import Question

# ActivityNet-QA's types of questions, by their numbers; those from the fourth on are its free questions.
TYPES = ("motion", "spatial", "temporal", "yes-no", "color", "object", "location", "number", "other")
FREE = 3

# The files of each split, the first one that is there. IG-VLM's CSV files of MSVD and MSRVTT are of their val splits.
ZERO_SHOT = "{}_Zero_Shot_QA/test_q.json"
MSVD_FILES = {
    "test": (ZERO_SHOT.format("MSVD"), "MSVD-QA/test_qa.json", "msvd_qa.json"),
    "val": ("MSVD-QA/val_qa.json", "MSVD_QA.csv"),
}
MSRVTT_FILES = {
    "test": (ZERO_SHOT.format("MSRVTT"), "MSRVTT-QA/test_qa.json", "msrvtt_qa.json"),
    "val": ("MSRVTT-QA/val_qa.json", "MSRVTT_QA.csv"),
}
ACTIVITYNET_FILES = {
    "test": (
        ZERO_SHOT.format("Activitynet"),
        *("activitynet-qa/test_q.json", "ActivityNet_QA.csv", "activitynet_qa.json", "activitynet-qa/test_qa.json"),
    ),
    "val": ("activitynet-qa/val_q.json",),
}
ALL, SCORE = "all", "score"
YOUTUBE = "youtube_mapping.txt"  # MSVD's numbers of the videos that other files call by their YouTube names


def read_rows(files: BenchmarkFiles, names: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Read questions with their answers from the first of some files that is there."""
    path = files.find(*names)
    name = path.relative_to(files.root).as_posix()
    if path.suffix == ".csv":
        return iter(files.read_csv(name))
    if not path.stem.endswith("_q"):
        return iter(files.read_json(name))
    answers = PurePosixPath(name).with_name(path.name.replace("_q.", "_a.")).as_posix()
    return pair_rows(files.read_json(name), files.read_json(answers), name)


def pair_rows(questions: list[dict[str, Any]], answers: list[dict[str, Any]], name: str) -> Iterator[dict[str, Any]]:
    """Pair questions with answers; raises DataError where they do not belong together."""
    ids, others = ([row.get("question_id") for row in rows] for rows in (questions, answers))
    if None not in ids and len(set(ids)) == len(ids) == len(others) and set(ids) == set(others):
        by_id = {row["question_id"]: row for row in answers}
        return ({**by_id[row["question_id"]], **row} for row in questions)
    if len(ids) != len(others) or any(other not in (one, None) for one, other in zip(ids, others, strict=True)):
        raise DataError(
            f"{name} with {len(ids)} questions, and {len(others)} answers of which some are not theirs",
            "an answer for each question, with the same question_id or in the same order",
            "Get both files from one place.",
        )
    return ({**answer, **row} for row, answer in zip(questions, answers, strict=True))


def read_numbers(files: BenchmarkFiles) -> dict[str, str]:
    """Read which number each of MSVD's YouTube names has, where the file that says so is there."""
    if YOUTUBE not in files.paths:
        return {}
    lines = (line.split() for line in files.find(YOUTUBE).read_text(encoding="utf-8").splitlines())
    return {line[0]: line[1] for line in lines if len(line) == 2}


def make_reader(names: Mapping[str, tuple[str, ...]], types: bool = False) -> Callable[..., Iterator[Item]]:
    """Make a benchmark's `read` from the files of its splits, and whether its questions have types."""

    def read(files: BenchmarkFiles, split: str) -> Iterator[Item]:
        numbers = read_numbers(files)
        for number, row in enumerate(read_rows(files, names[split])):
            video = str(row.get("video_name") or row["video_id"])
            kind = str(row.get("type", row.get("question_type", ""))) if types else ""
            group = TYPES[int(kind)] if kind.isdigit() and int(kind) < len(TYPES) else ""
            question = Question(row["question"], str(row["answer"]), group=group)
            known = video not in numbers or files.find_video(video) is not None
            yield Item(str(number), video if known else numbers[video], question)

    return read


def list_values(judged: Iterable[Judged]) -> list[Value]:
    """List whether an answer is right, also under its question's type, and the score of 0 to 5 that a judge gave it."""
    values = []
    for one, verdict in judged:
        values += [Value(key, one.video, verdict.scores["correct"], one.id) for key in filter(None, (ALL, one.group))]
        values += [Value(SCORE, one.video, verdict.scores[SCORE], one.id)] if SCORE in verdict.scores else []
    return values


def list_truncated_values(judged: Iterable[Judged]) -> list[Value]:
    """List the same as `list_values`, with scores cut to whole numbers, as upstream."""
    return [one._replace(value=float(int(one.value))) for one in list_values(judged)]


COLUMNS = {"Acc": Mean(((ALL,),), 100), "Score": Mean(((SCORE,),))}

MSVD_QA = Benchmark(
    name="msvd-qa",
    read=make_reader(MSVD_FILES),
    splits=tuple(MSVD_FILES),
    check=check_open,
    list_values=list_values,
    templates=lambda _: ("open_answer",),
    new_tokens=256,
    upstream={"list_values": list_truncated_values},
    columns=COLUMNS,
)
MSRVTT_QA = replace(MSVD_QA, name="msrvtt-qa", read=make_reader(MSRVTT_FILES))
ACTIVITYNET_QA = replace(
    MSVD_QA,
    name="activitynet-qa",
    read=make_reader(ACTIVITYNET_FILES, types=True),
    columns={
        **COLUMNS,
        **{f"type/{name}": Mean(((name,),), 100) for name in TYPES[:FREE]},
        "type/free": Mean((TYPES[FREE:],), 100),
        **{f"type/{name}": Mean(((name,),), 100) for name in TYPES[FREE:]},
    },
)
