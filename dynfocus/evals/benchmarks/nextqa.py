"""Read and count NExT-QA's multiple choice: questions of why, how, when and what about short videos.

A row of ``nextqa/test.csv``, in our own words::

    video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4
    123,300,640,480,why does the dog run,1,4,CW,to eat,to fetch the ball,to hide,to sleep,to drink

Read as well: ``NExT_QA.csv`` of the val split, and the parquet file of ``MC``. ``map_vid_vidorID.json`` names each
video's folder. Two options may be alike: the number of the right one decides.

Departs: the questions are asked for a letter, which the official code, of models that score options, has no prompt for.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from dynfocus.errors import DataError
from dynfocus.evals.answers import LETTERS
from dynfocus.evals.files import BenchmarkFiles
from dynfocus.evals.protocol import Benchmark, Item, Mean
from dynfocus.evals.rules import LETTER_ALONE, check_choice, format_options, make_choice
from dynfocus.records.rows import Question

FILES = {
    "test": ("nextqa/test.csv", "MC/test-00000-of-00001.parquet"),
    "val": ("nextqa/val.csv", "NExT_QA.csv"),
}
FOLDERS = "map_vid_vidorID.json"
# The official columns, in their order, and the types of each: those about before and after are one.
COLUMNS = {
    **{"Why": ("CW",), "How": ("CH",), "Bef&Aft": ("TN", "TP"), "When": ("TC",)},
    **{"Cnt": ("DC",), "Loc": ("DL",), "Other": ("DO",)},
}
GROUPS = {"Acc_C": "CW CH", "Acc_T": "TN TP TC", "Acc_D": "DC DL DO", "Acc": "CW CH TN TP TC DC DL DO"}


def read(files: BenchmarkFiles, split: str) -> Iterator[Item]:
    """Read the questions of a split; raises DataError where the file is that of the open questions."""
    path = files.find(*FILES[split])
    name = path.relative_to(files.root).as_posix()
    folders = files.read_json(FOLDERS) if FOLDERS.lower() in files.paths else {}
    rows = files.read_parquet(name) if path.suffix == ".parquet" else files.read_csv(name)
    for row in rows:
        if "a0" not in row:
            raise DataError(
                f"{path}, which has no options a0 to a4", "the file of NExT-QA's multiple choice", "Correct --root."
            )
        video, options = str(row.get("video") or row["video_name"]), [row[f"a{n}"] for n in range(5)]
        right = int(row["answer_number"] if "answer_number" in row else row["answer"])
        letter = LETTERS[right] if 0 <= right < len(options) else None
        question = make_choice(row["question"], options, letter, row.get("type") or row["question_type"])
        yield Item(name_question(row, video), f"{folders.get(video, video)}.mp4", question)


def name_question(row: Mapping[str, Any], video: str) -> str:
    """Name a question as result files do; one file glues the video and the number of the question together."""
    number = row["qid"] if "qid" in row else row["question_id"].removeprefix(video)
    return f"{video}_{number}"


def prompt(question: Question, seconds: Sequence[float]) -> str:
    """Ask for the letter of an option."""
    options = format_options(question.options, "{}. {}")
    return f"{question.text}\n{options}\n{LETTER_ALONE}"


def _means(columns: Mapping[str, Iterable[str]]) -> dict[str, Mean]:
    return {name: Mean((tuple(types),), 100) for name, types in columns.items()}


NEXTQA = Benchmark(
    name="nextqa",
    read=read,
    splits=tuple(FILES),
    prompt=prompt,
    check=check_choice,
    columns=_means(COLUMNS) | _means({name: types.split() for name, types in GROUPS.items()}),
)
