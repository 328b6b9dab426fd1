"""Read and count MLVU's dev set: seven tasks of choices, and two whose answers are texts, about long videos.

A row of ``json/2_needle.json``, in our own words::

    {"video": "needle_1.mp4", "duration": 300.5, "question": "What falls from the table?",
     "candidates": ["A cup", "A pen", "A book", "A plate"], "answer": "A cup", "question_type": "findNeedle"}

Rows of the tasks of texts have no ``candidates``; those of sub-scene captioning have ``scoring_points``. Where two
candidates are alike the last one counts, as upstream; an answer that is no candidate can never be right.

Departs: upstream takes for the letter what stands before the first closing bracket, else the whole answer, and gives a
text on which its judge failed two scores of 0 (``--protocol upstream``).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from dynfocus.evals.files import BenchmarkFiles
from dynfocus.evals.protocol import Benchmark, Item, Judged, Mean, Value
from dynfocus.evals.rules import check_choice, check_open, find_letter, format_options
from dynfocus.evals.upstream import check_mlvu
from dynfocus.records.predictions import Prediction
from dynfocus.records.rows import Question

# The paper's columns, in its order: the file of each, and whether its answers are texts.
TASKS = {
    **{"TR": "7_topic_reasoning", "AR": "6_anomaly_reco", "VS": "9_summary", "NQA": "2_needle", "ER": "3_ego"},
    **{"PQA": "1_plotQA", "SSC": "8_sub_scene", "AO": "5_order", "AC": "4_count"},
}
TEMPLATES = {"VS": ("mlvu_summary",), "SSC": ("mlvu_sub_scene",)}
TEXTS = {"VS": ("completeness", "reliability"), "SSC": ("accuracy", "relevance")}
CHOICES = tuple(task for task in TASKS if task not in TEXTS)


def read(files: BenchmarkFiles, split: str) -> Iterator[Item]:
    """Read the questions of all tasks."""
    names = {task: (f"json/{name}.json", f"{name}.json") for task, name in TASKS.items()}
    files.require(*names.values())
    for task, name in TASKS.items():
        for number, row in enumerate(files.read_json(*names[task])):
            options = tuple(row.get("candidates", ()))
            meta = {"letter": find_letter(options, row["answer"])} if options else {}
            meta |= {"scoring_points": row["scoring_points"]} if "scoring_points" in row else {}
            question = Question(row["question"], row["answer"], options, task, meta=meta)
            yield Item(f"{task}_{number}", f"{name}/{row['video']}", question)


def prompt(question: Question, seconds: Sequence[float]) -> str:
    """Ask for the best option, or for a text."""
    if not question.options:
        return question.text
    options = format_options(question.options)
    return f"Question: {question.text}\nOptions:\n{options}\nOnly give the best option."


def check(prediction: Prediction) -> tuple[dict[str, float], str | None]:
    """Judge a choice by its letter; of a text rules count the words that it shares, which is no column of the paper."""
    return check_choice(prediction) if prediction.options else check_open(prediction)


def check_as_upstream(prediction: Prediction) -> tuple[dict[str, float], str | None]:
    """Judge a choice by what stands before a bracket; a text as `check`."""
    return check_mlvu(prediction) if prediction.options else check_open(prediction)


def name_templates(prediction: Prediction) -> tuple[str, ...]:
    """Name the prompts of the tasks of texts."""
    return TEMPLATES.get(prediction.group, ())


def list_values(judged: Iterable[Judged]) -> list[Value]:
    """List whether a choice is right, or what a judge gave to a text, under its task."""
    return [
        Value(f"{one.group}/{name}", one.video, verdict.scores[name], one.id)
        for one, verdict in judged
        for name in TEXTS.get(one.group, ("correct",))
        if name in verdict.scores
    ]


def list_values_of_all(judged: Iterable[Judged]) -> list[Value]:
    """List the same as `list_values`, with 0 for each score that a judge failed to give, as upstream."""
    texts = {name: 0.0 for names in TEXTS.values() for name in names}
    return list_values(
        (one, verdict if verdict.failure is None else replace(verdict, scores={**texts, **verdict.scores}))
        for one, verdict in judged
    )


def _text_mean(*tasks: str) -> Mean:
    """The mean over tasks of the sum of their two scores of 1 to 5."""
    return Mean(tuple((f"{task}/{name}",) for task in tasks for name in TEXTS[task]), scale=2.0)


MLVU = Benchmark(
    name="mlvu",
    read=read,
    splits=("dev",),
    prompt=prompt,
    check=check,
    list_values=list_values,
    templates=name_templates,
    new_tokens=256,
    upstream={"check": check_as_upstream, "list_values": list_values_of_all, "failures_count": True},
    columns={
        **{task: _text_mean(task) if task in TEXTS else Mean(((f"{task}/correct",),), 100) for task in TASKS},
        "M-Avg": Mean(tuple((f"{task}/correct",) for task in CHOICES), 100),
        "G-Avg": _text_mean(*TEXTS),
    },
)
