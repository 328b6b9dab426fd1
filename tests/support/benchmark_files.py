"""Write a benchmark's files, answer its questions, and compute its table."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dynfocus.evals.benchmarks import BENCHMARKS
from dynfocus.evals.files import BenchmarkFiles
from dynfocus.evals.protocol import Item, Judged, Value
from dynfocus.evals.scores import make_columns
from dynfocus.records.predictions import Prediction, Verdict


def write(root: Path, files: dict[str, Any]) -> BenchmarkFiles:
    """Write texts as they are, lists of rows as parquet where the name says so, and anything else as JSON."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            import pyarrow
            from pyarrow import parquet

            parquet.write_table(pyarrow.Table.from_pylist(content), path)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
    return BenchmarkFiles(root)


def read(name: str, root: Path, files: dict[str, Any], split: str | None = None) -> list[Item]:
    """Write files and read the benchmark's questions from them."""
    return BENCHMARKS[name].read_items(write(root, files), split or BENCHMARKS[name].splits[0])


def ask(name: str, item: Item, seconds: Sequence[float] = ()) -> str:
    """The prompt of a question, with the video's subtitles."""
    meta = {**item.question.meta, "subtitles": item.subtitles}
    question = item.question
    return BENCHMARKS[name].prompt(type(question)(question.text, question.answer, question.options, meta=meta), seconds)


def predict(item: Item, answer: str) -> Prediction:
    one = item.question
    shown = (item.id, item.video or "", "learned", one.text, answer, one.answer, one.group)
    return Prediction(*shown, (), None, 0, one.options, one.meta)


def rate(item: Item, **scores: float) -> Judged:
    """The verdict of a judge that is a model."""
    return predict(item, ""), Verdict(item.id, "learned", "a judge", scores)


def judge(name: str, items: Sequence[Item], answers: Sequence[str]) -> dict[str, float]:
    """The table of answers, judged by rules."""
    predictions = [predict(item, answer) for item, answer in zip(items, answers, strict=True)]
    return table(name, BENCHMARKS[name].list_values(BENCHMARKS[name].judge(predictions)))


def table(name: str, values: Iterable[Value]) -> dict[str, float]:
    return {one.name: round(one.value, 2) for one in make_columns(values, BENCHMARKS[name].columns)}
