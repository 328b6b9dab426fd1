"""Read and count NExT-QA's multiple choice: questions of why, how, when and what about short videos.

A row of ``nextqa/test.csv``, in our own words::

    video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4
    123,300,640,480,why does the dog run,1,4,CW,to eat,to fetch the ball,to hide,to sleep,to drink

Read as well: ``NExT_QA.csv`` of the val split, and the parquet file of ``MC``. ``map_vid_vidorID.json`` names each
video's folder. The split ``hard`` is ATP's, of causal and temporal questions: the rows of ``nextqa/val.csv`` whose
numbers, counted from 0, the file ``atp_hard.txt`` lists, one a line or with commas. Two options may be alike: the
number of the right one decides. Where NExT-GQA's ``gsub_test.json`` or ``gsub_val.json`` is there, it says when the
answers are seen, which report cards of selectors read::

    {"123": {"duration": 12, "location": {"4": [[1.5, 3.0]]}, "fps": 25.0}}

Departs: the questions are asked for a letter, which the official code, of models that score options, has no prompt for.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from dynfocus.errors import DataError
from dynfocus.evals.answers import LETTERS
from dynfocus.evals.files import BenchmarkFiles
from dynfocus.evals.protocol import Benchmark, Item, Judged, Mean
from dynfocus.evals.rules import LETTER_ALONE, check_choice, format_options, make_choice
from dynfocus.records.rows import Question

FILES = {
    "test": ("nextqa/test.csv", "MC/test-00000-of-00001.parquet"),
    "val": ("nextqa/val.csv", "NExT_QA.csv"),
    "hard": ("nextqa/val.csv",),
}
FOLDERS = "map_vid_vidorID.json"
HARD = "atp_hard.txt"
TIMES = {"test": "gsub_test.json", "val": "gsub_val.json", "hard": "gsub_val.json"}
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
    times = files.read_json(TIMES[split]) if TIMES[split] in files.paths else {}
    rows = files.read_parquet(name) if path.suffix == ".parquet" else files.read_csv(name)
    for row in pick_hard(files, rows) if split == "hard" else rows:
        if "a0" not in row:
            raise DataError(
                f"{path}, which has no options a0 to a4", "the file of NExT-QA's multiple choice", "Correct ROOT."
            )
        video, options = str(row.get("video") or row["video_name"]), [row[f"a{n}"] for n in range(5)]
        right = int(row["answer_number"] if "answer_number" in row else row["answer"])
        letter = LETTERS[right] if 0 <= right < len(options) else None
        question = make_choice(row["question"], options, letter, row.get("type") or row["question_type"])
        id = name_question(row, video)
        spans = times.get(video, {}).get("location", {}).get(id.removeprefix(f"{video}_"), [])
        evidence = tuple((float(start), float(end)) for start, end in spans)
        yield Item(id, f"{folders.get(video, video)}.mp4", question, evidence=evidence)


def pick_hard(files: BenchmarkFiles, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pick the rows of ATP's hard subset, by a list of row numbers; raises DataError where it does not fit the rows."""
    path = files.find(HARD)
    words = re.split(r"[\s,\[\]]+", path.read_text(encoding="utf-8").strip("[] ,\r\n\t"))
    numbers = [int(word) if word.isdecimal() else -1 for word in words]
    if bad := [word for word, n in zip(words, numbers, strict=True) if not 0 <= n < len(rows)]:
        raise DataError(
            f"{path} with {bad[0]!r:.40}", f"numbers of rows from 0 to {len(rows) - 1}", "Take the list for val.csv."
        )
    if wrong := [n for n in numbers if rows[n]["type"].startswith("D")]:
        raise DataError(
            f"{path} with row {wrong[0]}, a descriptive question",
            "numbers of causal and temporal questions, counted from 0 at the first row below the header",
            "Take val.csv as it is published, in its own order.",
        )
    return [rows[n] for n in dict.fromkeys(numbers)]


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


def submit(judged: Iterable[Judged]) -> dict[str, dict[str, int]]:
    """List the numbers of the chosen and the right option; -1 where an answer chooses none: no row may be missing."""
    return {
        one.id: {
            "prediction": -1 if verdict.parsed is None else LETTERS.index(verdict.parsed),
            "answer": LETTERS.index(one.meta["letter"]) if one.meta["letter"] else -1,
        }
        for one, verdict in judged
    }


NEXTQA = Benchmark(
    name="nextqa",
    read=read,
    splits=tuple(FILES),
    submit=submit,
    prompt=prompt,
    check=check_choice,
    columns=_means(COLUMNS) | _means({name: types.split() for name, types in GROUPS.items()}),
)
