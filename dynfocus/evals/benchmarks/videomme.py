"""Read and count Video-MME: choices about videos of three durations, with and without their subtitles.

A row of ``videomme/test-00000-of-00001.parquet``, in our own words::

    {"video_id": "001", "duration": "short", "domain": "Knowledge", "sub_category": "History", "videoID": "abc",
     "question_id": "001-1", "task_type": "Counting Problem", "question": "How many cups are there?",
     "options": ["A. One.", "B. Two.", "C. Three.", "D. Four."], "answer": "B"}

and one of ``subtitle/abc.srt``, which not every video has::

    1
    00:00:01,000 --> 00:00:02,500
    <font color="white">What somebody says.</font>

Departs: an answer that chooses nothing counts as wrong; upstream leaves it out, and reads the first capital A to D of
an answer (``--protocol upstream``). Where a video has no subtitles its prompt is the one without; upstream does not
say.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from dynfocus.errors import DataError
from dynfocus.evals.files import BenchmarkFiles
from dynfocus.evals.protocol import Benchmark, Item, Judged, Mean, Value
from dynfocus.evals.rules import check_choice, format_options, make_choice, strip_letters
from dynfocus.evals.upstream import check_videomme
from dynfocus.records.rows import Question

FILE = "videomme/test-00000-of-00001.parquet"
DURATIONS = ("short", "medium", "long")
KEPT = ("domain", "sub_category", "task_type")
DOMAINS = (
    *("Knowledge", "Film & Television", "Sports Competition", "Artistic Performance", "Life Record", "Multilingual"),
)
TASKS = (
    *("Temporal Perception", "Spatial Perception", "Attribute Perception", "Action Recognition", "Object Recognition"),
    *("OCR Problems", "Counting Problem", "Temporal Reasoning", "Spatial Reasoning", "Action Reasoning"),
    *("Object Reasoning", "Information Synopsis"),
)
CUE = re.compile(r"(\d+):(\d+):(\d+)[,.](\d+)\s*-->\s*(\d+):(\d+):(\d+)[,.](\d+).*\n((?:.*\S.*\n?)*)")


def make_reader(subtitled: bool) -> Callable[[BenchmarkFiles, str], Iterator[Item]]:
    """Make the benchmark's `read`, with or without subtitles."""

    def read(files: BenchmarkFiles, split: str) -> Iterator[Item]:
        rows = files.read_parquet(FILE)
        names = [f"{row['videoID']}.srt" for row in rows] if subtitled else []
        paths = {name: files.find(f"subtitle/{name}") for name in names if name.lower() in files.paths}
        if subtitled and not paths:
            raise DataError(
                f"{files.root}, which holds no subtitles, such as subtitle/{names[0]}",
                "the files of subtitle.zip",
                "Unpack them, or evaluate videomme, which needs none.",
            )
        read_cues = {name: read_srt(path) for name, path in paths.items()}
        for row in rows:
            meta = {name: row[name] for name in KEPT}
            options = strip_letters(row["options"])
            question = make_choice(row["question"], options, row["answer"], row["duration"], meta)
            cues = read_cues.get(f"{row['videoID']}.srt", ())
            yield Item(row["question_id"], row["videoID"], question, subtitles=cues)

    return read


def read_srt(path: Path) -> tuple[tuple[float, float, str], ...]:
    """Read start and end in seconds, and text without marks and line breaks, of each subtitle that has a text."""
    cues = []
    for match in CUE.finditer(path.read_text(encoding="utf-8-sig", errors="replace").replace("\r", "")):
        start, end = (
            int(h) * 3600 + int(m) * 60 + int(s) + float(f".{f}")
            for h, m, s, f in (match.groups()[:4], match.groups()[4:8])
        )
        text = " ".join(re.sub(r"<[^>]*>|\{[^}]*\}", "", match[9]).split())
        cues += [(start, end, text)] if text else []
    return tuple(cues)


def show_subtitles(cues: Sequence[tuple[float, float, str]], seconds: Sequence[float]) -> list[str]:
    """List the subtitle that each frame is shown with, in order; one of two frames stands twice, as upstream."""
    shown = (next((text for start, end, text in cues if start < second < end), None) for second in seconds)
    return [text for text in shown if text is not None]


def prompt(question: Question, seconds: Sequence[float]) -> str:
    """Ask for the letter of the best option, after the subtitles of the frames."""
    lines = show_subtitles(question.meta.get("subtitles", ()), seconds)
    above = ["The subtitles of this video:", *lines] if lines else []
    task = "Choose the best answer to this question about the video. Reply with the letter A, B, C or D alone."
    return "\n".join([*above, task, question.text, format_options(question.options, "{}. {}"), "The best answer is:"])


def list_values(judged: Iterable[Judged]) -> list[Value]:
    """List whether an answer is right, under the duration, the domain and the task of its question."""
    return [
        Value(key, one.video, verdict.scores["correct"], one.id)
        for one, verdict in judged
        for key in (one.group, one.meta["domain"], one.meta["task_type"])
    ]


def list_parsed_values(judged: Iterable[Judged]) -> list[Value]:
    """List the same as `list_values` of the answers that choose a letter; upstream leaves out the others."""
    return list_values((one, verdict) for one, verdict in judged if verdict.parsed is not None)


VIDEOMME = Benchmark(
    name="videomme",
    read=make_reader(False),
    prompt=prompt,
    check=check_choice,
    list_values=list_values,
    columns={
        **{name: Mean(((name,),), 100) for name in DURATIONS},
        "Overall": Mean((DURATIONS,), 100),
        **{f"type/{name}": Mean(((name,),), 100) for name in (*DOMAINS, *TASKS)},
    },
    upstream={"check": check_videomme, "list_values": list_parsed_values},
)
VIDEOMME_SUBTITLES = replace(VIDEOMME, name="videomme-subtitles", read=make_reader(True), subtitled=True)
