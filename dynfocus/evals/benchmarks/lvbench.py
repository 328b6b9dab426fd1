"""Read and count LVBench: choices about hours of video, of six types of which a question may have several.

A line of ``video_info.meta.jsonl`` is a video, in our own words::

    {"key": "abc", "type": "sport", "video_info": {...}, "qa": [{"uid": "1", "question": "Who wins?\\n(A) Red\\n(B) Blue
     \\n(C) Both\\n(D) None", "answer": "B", "question_type": ["reasoning"], "time_reference": "00:15-00:19"}]}

``time_reference`` is when the answer is seen, which report cards of selectors read.

Read as well: such questions one a line, with ``video_key``; and ``lvbench_clean.json``, whose rows have ``candidates``
with their letters. A video's file has its key, or its number in the list as downloaders write it, as its name.

Departs: answers are read as those of all benchmarks; upstream reads the first character (``--protocol upstream``).
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from dynfocus.evals.answers import LETTERS
from dynfocus.evals.files import BenchmarkFiles
from dynfocus.evals.protocol import Benchmark, Item, Judged, Mean, Value
from dynfocus.evals.rules import check_choice, format_options, make_choice, strip_letters
from dynfocus.evals.upstream import check_lvbench
from dynfocus.records.rows import Question

# The paper's columns, in its order.
TYPES = {
    **{"entity recognition": "ER", "event understanding": "EU", "key information retrieval": "KIR"},
    **{"temporal grounding": "TG", "reasoning": "Rea", "summarization": "Sum"},
}
ALL = "all"
OPTIONS = 4
WIDTHS = (8, 9)  # digits of the numbers that downloaders write


def read(files: BenchmarkFiles, split: str) -> Iterator[Item]:
    """Read the questions of all videos."""
    names: dict[str, str] = {}
    for number, row in enumerate(read_rows(files)):
        key = str(row.get("video_key") or row["video"])
        if key not in names:
            numbers = (f"{len(names):0{width}}" for width in WIDTHS)
            names[key] = next((name for name in (key, *numbers) if files.find_video(name)), key)
        stem, options = split_options(row["question"])
        if "candidates" in row:
            stem, options = row["question"], strip_letters(row["candidates"])
        letter = re.match(r"\(?([A-D])\b", row["answer"].strip())
        types = row["question_type"] if isinstance(row["question_type"], list) else [row["question_type"]]
        group = "+".join(TYPES[name.strip().lower()] for name in types)
        question = make_choice(stem, options, letter and letter[1], group)
        evidence = read_times(row.get("time_reference"))
        yield Item(str(row.get("uid", number)), names[key], question, evidence=evidence)


def read_rows(files: BenchmarkFiles) -> Iterator[dict[str, Any]]:
    """Read questions, one after the other, from any of the files."""
    path = files.find("video_info.meta.jsonl", "lvbench_clean.json", "lvbench.jsonl", "lvbench.json")
    name = path.relative_to(files.root).as_posix()
    for row in files.read_json_lines(name) if path.suffix == ".jsonl" else files.read_json(name):
        yield from ({**question, "video_key": row["key"]} for question in row["qa"]) if "qa" in row else (row,)


def read_times(text: object) -> tuple[tuple[float, float], ...]:
    """Read a stretch such as ``00:15-00:19`` or ``1:02:03-1:02:10`` in seconds; nothing of any other text."""
    clock = r"((?:\d+:)?\d+:\d+)"
    matched = re.fullmatch(rf"\s*{clock}\s*-\s*{clock}\s*", text) if isinstance(text, str) else None
    if matched is None:
        return ()
    parts = [[int(part) for part in one.split(":")] for one in matched.groups()]
    start, end = (float(sum(part * 60**place for place, part in enumerate(reversed(one)))) for one in parts)
    return ((start, end),) if start <= end else ()


def split_options(text: str) -> tuple[str, list[str]]:
    """Split a question from its options, which stand in it with their letters; where they do not, they are empty."""
    pattern = "".join(rf"\s*\({letter}\)(.*?)" for letter in LETTERS[:OPTIONS])
    match = re.fullmatch(rf"(.*?){pattern}", text, re.S)
    return (match[1], [option.strip() for option in match.groups()[1:]]) if match else (text, [""] * OPTIONS)


def prompt(question: Question, seconds: Sequence[float]) -> str:
    """Ask the question with its options, and nothing else."""
    return f"{question.text}\n{format_options(question.options)}" if any(question.options) else question.text


def list_values(judged: Iterable[Judged]) -> list[Value]:
    """List whether an answer is right under each type of its question, and once under all."""
    return [
        Value(key, one.video, verdict.scores["correct"], one.id)
        for one, verdict in judged
        for key in (*one.group.split("+"), ALL)
    ]


def submit(judged: Iterable[Judged]) -> dict[str, str]:
    """List each chosen letter, as the official scorer takes it; an answer without one is an empty text, and wrong."""
    return {one.id: verdict.parsed or "" for one, verdict in judged}


LVBENCH = Benchmark(
    name="lvbench",
    read=read,
    prompt=prompt,
    check=check_choice,
    list_values=list_values,
    submit=submit,
    columns={**{one: Mean(((one,),), 100) for one in TYPES.values()}, "Overall": Mean(((ALL,),), 100)},
    upstream={"check": check_lvbench},
)
