"""Read and count LongVideoBench's val split: choices about videos of seconds to an hour.

It is asked with the subtitles of the shown frames, and once more without any, though many questions name them.

A row of ``lvb_val.json``, in our own words::

    {"video_id": "abc", "id": "abc_0", "question": "What is on the table?", "candidates": ["A cup", "A pen", "A book"],
     "correct_choice": 1, "question_category": "S2O", "video_path": "abc.mp4", "subtitle_path": "abc_en.json",
     "duration_group": 60, "duration": 31.5, "starting_timestamp_for_subtitles": 12, ...}

and one of ``subtitles/abc_en.json``, in either of its two forms; times are those before a clip was cut out::

    {"start": "00:00:14.500", "end": "00:00:16.000", "line": "What somebody says."}
    {"timestamp": [14.5, 16.0], "text": "What somebody says."}

Departs: subtitles stand above the question in the order of time, not between the frames, because a prompt shows a
video in one place. An answer that chooses nothing counts as wrong; lmms-eval reads the first capital A to E of an
answer, else it draws a letter (``--protocol upstream``). A subtitle without an end lasts to the end of the clip;
upstream cuts it by the start of the clip once more, and takes whole numbers for no end.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dynfocus.errors import DataError
from dynfocus.evals.answers import LETTERS
from dynfocus.evals.files import BenchmarkFiles
from dynfocus.evals.protocol import Benchmark, Item, Judged, Mean, Value
from dynfocus.evals.rules import LETTER_ALONE, check_choice, format_options, make_choice
from dynfocus.evals.upstream import check_longvideobench
from dynfocus.records.rows import Question

FILES = ("lvb_val.json", "validation-00000-of-00001.parquet")
DURATIONS = ("15", "60", "600", "3600")
# What a question refers to and asks for; those of the first level are about one moment, of the second about several.
LEVELS = {
    "L1-Perception": ("S2E", "S2O", "S2A", "E2O", "O2E", "T2E", "T2O", "T2A"),
    "L2-Relation": ("E3E", "O3O", "SSS", "SOS", "SAA", "T3E", "T3O", "TOS", "TAA"),
}
UNUSED = "N/A"  # an option of the parquet file that a question has not
SHORTEST = 1.0  # seconds; a shorter subtitle counts as shown so long
Cue = tuple[float, float, str]


def make_reader(subtitled: bool) -> Callable[[BenchmarkFiles, str], Iterator[Item]]:
    """Make the benchmark's `read`, of the split that has answers, with or without subtitles."""

    def read(files: BenchmarkFiles, split: str) -> Iterator[Item]:
        path = files.find(*FILES)
        rows = files.read_json(FILES[0]) if path.suffix == ".json" else files.read_parquet(FILES[1])
        names = {row["subtitle_path"] for row in rows}
        if subtitled and not any(name.lower() in files.paths for name in names):
            raise DataError(
                f"{files.root}, which holds no subtitles, such as subtitles/{min(names)}",
                "the files of subtitles.tar",
                "Unpack them, or evaluate longvideobench-no-subtitles, which needs none.",
            )
        for row in rows:
            options = row.get("candidates") or [row[f"option{n}"] for n in range(5) if row[f"option{n}"] != UNUSED]
            category, right = row["question_category"], int(row["correct_choice"])
            meta = {"duration_group": str(row["duration_group"])}
            question = make_choice(row["question"], options, LETTERS[right], category, meta)
            cues = read_subtitles(files, row) if subtitled else ()
            yield Item(row["id"], row["video_path"], question, subtitles=cues)

    return read


def read_subtitles(files: BenchmarkFiles, row: Mapping[str, Any]) -> tuple[Cue, ...]:
    """Read the subtitles of a clip, by the clip's own time; none where the file is absent."""
    if row["subtitle_path"].lower() not in files.paths:
        return ()
    offset, cues = float(row["starting_timestamp_for_subtitles"]), []
    for one in files.read_json(f"subtitles/{row['subtitle_path']}"):
        start, end = one["timestamp"] if "timestamp" in one else (one["start"], one["end"])
        last = float(row["duration"]) if end is None else read_seconds(end) - offset
        cues.append((read_seconds(start) - offset, last, " ".join(one.get("text", one.get("line", "")).split())))
    return tuple(cues)


def read_seconds(time: str | float) -> float:
    """Read ``00:01:02.500``, or a number of seconds."""
    parts = reversed(str(time).split(":"))
    return sum(float(part) * 60**n for n, part in enumerate(parts))


def show_subtitles(cues: Iterable[Cue], seconds: Sequence[float]) -> list[str]:
    """List in the order of time the subtitles during which a frame is shown."""
    lines = []
    for start, end, text in sorted(cues, key=lambda cue: cue[0] + cue[1]):
        widened = max(0.0, SHORTEST - (end - start)) / 2
        if text and any(start - widened < second < end + widened for second in seconds):
            lines.append(text)
    return lines


def prompt(question: Question, seconds: Sequence[float]) -> str:
    """Ask for the letter of an option, after the subtitles of the frames."""
    lines = show_subtitles(question.meta.get("subtitles", ()), seconds)
    above = ["Subtitles in the order of time:", *lines] if lines else []
    options = format_options(question.options, "{}. {}")
    return "\n".join([*above, f"Question: {question.text}", options, LETTER_ALONE])


def list_values(judged: Iterable[Judged]) -> list[Value]:
    """List whether each answer is right, under its duration and its category."""
    return [
        Value(key, one.video, verdict.scores["correct"], one.id)
        for one, verdict in judged
        for key in (one.meta["duration_group"], one.group)
    ]


LONG_VIDEO_BENCH = Benchmark(
    name="longvideobench",
    read=make_reader(True),
    splits=("val",),
    prompt=prompt,
    check=check_choice,
    subtitled=True,
    list_values=list_values,
    upstream={"check": check_longvideobench},
    columns={
        **{f"{name} s": Mean(((name,),), 100) for name in DURATIONS},
        "Overall": Mean((DURATIONS,), 100),
        **{f"type/{level}": Mean((names,), 100) for level, names in LEVELS.items()},
        **{f"type/{name}": Mean(((name,),), 100) for names in LEVELS.values() for name in names},
    },
)
NO_SUBTITLES = replace(LONG_VIDEO_BENCH, name="longvideobench-no-subtitles", read=make_reader(False), subtitled=False)
