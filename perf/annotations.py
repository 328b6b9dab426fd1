"""Measure what it costs to open an annotation file of LLaVA-665K's size, and to read its rows in any order."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from dynfocus.data.annotations.dataset import Annotations
from dynfocus.data.annotations.sources import Source
from perf.peak_memory import extra_peak, run_apart

ROWS = 665_000
TURNS = (2, 4, 6, 8, 16)  # messages of a row; with `WORDS` a file of as many bytes a row as LLaVA-665K
WORDS = (5, 47)  # in a question or an answer
TEXT_ONLY = 16  # one row in so many shows nothing
READS = 20_000


def bench_annotations(folder: Path, rows: int = ROWS, reads: int = READS) -> list[dict[str, Any]]:
    """Write a file of ``rows`` conversations, index it, open it again elsewhere, and read rows from it at random.

    Args:
        folder: where the file, of about 1.5 KB a row, is made and stays; its index is made anew.
        rows: rows of the file.
        reads: rows read at random.

    Returns:
        One row of a table for each case, with ``seconds`` and, where memory counts, ``extra_bytes``; the plain way,
        ``json.load``, is the last.
    """
    path = folder / f"conversations_{rows}.json"
    if not path.exists():
        write(path, rows)
    source = Source("bench", path.name)
    for index in (folder / "index").glob("*.npz"):
        index.unlink()
    time.sleep(2)  # an index of a file that is younger is not kept
    opened: list[Annotations] = []
    indexing = _measure(lambda: opened.append(Annotations(source, folder, folder / "index")))
    again = run_apart(open_seconds, source, folder)
    rng = Random(0)
    numbers = [rng.randrange(rows) for _ in range(reads)]
    reading = _measure(lambda: [opened[0][number] for number in numbers] and None)
    plain = _measure(lambda: json.loads(path.read_bytes()))
    about = {"rows": rows, "file_bytes": path.stat().st_size, "device": "cpu"}
    return [
        {"case": "annotations, first start", **about, **indexing},
        {"case": "annotations, later start", **about, "seconds": again},
        {"case": "annotations, rows at random", **about, **reading, "rows_per_second": reads / reading["seconds"]},
        {"case": "annotations, json.load", **about, **plain},
    ]


def write(path: Path, rows: int, seed: int = 0) -> None:
    """Write a list of ``rows`` conversations, a row at a time."""
    rng = Random(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(1, 10))) for _ in range(2000)]
    words += ['"quoted"', "naïve", "星", "[0.31,", "0.52]", "\n"]
    with path.open("w", encoding="utf-8") as file:
        for index in range(rows):
            texts = [" ".join(rng.choices(words, k=rng.randint(*WORDS))) for _ in range(rng.choice(TURNS))]
            turns = [{"from": ("human", "gpt")[turn % 2], "value": text} for turn, text in enumerate(texts)]
            media = {} if index % TEXT_ONLY == 0 else {"image": f"coco/train2017/{index:012d}.jpg"}
            if media:
                turns[0]["value"] = f"<image>\n{turns[0]['value']}"
            file.write("[" if index == 0 else ", ")
            file.write(json.dumps({"id": f"{index:012d}", **media, "conversations": turns}))
        file.write("]")


def open_seconds(source: Source, folder: Path) -> float:
    """Seconds of opening a file that has an index, and reading its last row."""
    began = time.perf_counter()
    rows = Annotations(source, folder, folder / "index")
    rows[len(rows) - 1]
    return time.perf_counter() - began


def _measure(work: Callable[[], object]) -> dict[str, Any]:
    """Seconds of a call, and the bytes it needs at its peak."""
    seconds: list[float] = []

    def timed() -> object:
        began = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - began)
        return result

    extra = extra_peak(timed)
    return {"seconds": seconds[0], "extra_bytes": extra}
