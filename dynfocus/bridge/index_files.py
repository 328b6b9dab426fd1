"""Read and write files of chosen frames in the forms that other projects publish; each form has one unit."""

import csv
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from io import StringIO
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from dynfocus.bridge.rows import Chosen
from dynfocus.errors import DataError, MissingFileError, suggest
from dynfocus.records.atomic import write_text

Unit = Literal["frames", "seconds"]
EXACT = 6  # digits behind the point of written seconds
NAMES = ("frames", "seconds", "frame_idx", "frame_indices", "frame_timestamps")  # of frames or times in any form


@dataclass(frozen=True)
class IndexRow:
    """What an index file says of one question.

    Attributes:
        place: the row's number in the file, or the number by which the file names its question, counted from 0.
        id: the question's id, where the file has one; else rows belong to questions by ``place``.
        unit: of ``values``: numbers of frames in the file, or seconds since its first frame.
        values: the chosen frames, in the file's order; some files repeat one.
        scores: of each, where the file has them.
        times: seconds of each, where the file has frame numbers and both: they are checked against the video.
    """

    place: int
    id: str | None
    unit: Unit
    values: tuple[float, ...]
    scores: tuple[float, ...] | None = None
    times: tuple[float, ...] | None = None


@dataclass(frozen=True)
class IndexForm:
    """One published form of index files.

    Attributes:
        about: what it looks like, and its unit.
        read: text of a file -> rows.
        write: rows -> text of a file.
    """

    about: str
    read: Callable[[str], list[IndexRow]]
    write: Callable[[Sequence[Chosen]], str]


def read_index(file: Path, form: str) -> list[IndexRow]:
    """Read an index file of a form; the form says the unit, and the file is never asked to guess it.

    Raises:
        MissingFileError: if there is no such file.
        DataError: if there is no such form, or the file has another one or another unit.
    """
    reader = find_form(form)
    if not Path(file).is_file():
        raise MissingFileError(f"there is no file {file}", f"an index file ({reader.about})", "Check the path.")
    try:
        return reader.read(Path(file).read_text(encoding="utf-8-sig"))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, csv.Error) as error:
        raise DataError(
            f"{file}, which is no index file of the form {form} ({type(error).__name__}: {error})",
            reader.about,
            "Name the form that the file has, or correct the file.",
        ) from error


def write_index(file: Path, form: str, rows: Sequence[Chosen]) -> None:
    """Write chosen frames as an index file, whole or not at all.

    Raises:
        DataError: if there is no such form, or it holds scores and a row has none.
    """
    write_text(Path(file), find_form(form).write(rows))


def find_form(name: str) -> IndexForm:
    """The form of this name; raises DataError if there is none."""
    if name not in FORMS:
        known = ", ".join(FORMS)
        raise DataError(f"the form {name!r}", f"one of {known}", suggest(name, FORMS) or "Correct it.")
    return FORMS[name]


def _numbers(values: Any, unit: Unit) -> tuple[float, ...]:
    """The frames or the seconds of a row; raises ValueError where a number cannot be of the unit.

    Numbers of frames are written without a point: 3.0 is a time.
    """
    if not isinstance(values, list) or any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
        raise TypeError(f"{values!r} is no list of numbers")
    kind = int if unit == "frames" else int | float
    if odd := [value for value in values if not isfinite(value) or value < 0 or not isinstance(value, kind)]:
        raise ValueError(f"{odd[0]} is no {'number of a frame' if unit == 'frames' else 'time'}")
    return tuple(values if unit == "frames" else map(float, values))


def _scores(values: Any, frames: Sequence[float]) -> tuple[float, ...]:
    """The scores of a row; raises ValueError where one is not finite, or their number is not that of the frames."""
    scores = tuple(float(score) for score in values)
    if len(scores) != len(frames) or not all(map(isfinite, scores)):
        raise ValueError(f"{len(frames)} frames and {len(scores)} scores, which have to be finite and as many")
    return scores


def _split_lines(text: str) -> Iterator[str]:
    """Lines with something in them; other signs that end a line for Python may stand in a text."""
    return filter(str.strip, text.split("\n"))


def _one_unit(names: Iterable[str], *own: str) -> None:
    """Refuse names of frames or times beside the form's own ones; raises ValueError."""
    others = [name for name in NAMES if name in names and name not in own]
    if others:
        raise ValueError(f"{others[0]} in a row, which is of another unit or of another form")


def _seconds(row: Chosen) -> list[float]:
    return [round(second, EXACT) for second in row.seconds]


def _dump(value: Any) -> str:
    return json.dumps(value) + "\n"


def _read_jsonl(text: str) -> list[IndexRow]:
    result = []
    for place, line in enumerate(_split_lines(text)):
        row = json.loads(line)
        _one_unit(row, "frames", "seconds")
        frames, seconds = _numbers(row["frames"], "frames"), _numbers(row["seconds"], "seconds")
        if len(frames) != len(seconds):
            raise ValueError(f"{len(frames)} frames and {len(seconds)} seconds in row {place + 1}")
        scores = None if row.get("scores") is None else _scores(row["scores"], frames)
        result.append(IndexRow(place, str(row["id"]), "frames", frames, scores, seconds))
    return result


def _write_jsonl(rows: Sequence[Chosen]) -> str:
    return "".join(_dump(asdict(row)) for row in rows)


def _read_aks(text: str) -> list[IndexRow]:
    return [IndexRow(place, None, "frames", _numbers(row, "frames")) for place, row in enumerate(json.loads(text))]


def _write_aks(rows: Sequence[Chosen]) -> str:
    return _dump([list(row.frames) for row in rows])


def _read_tspo(text: str) -> list[IndexRow]:
    result = []
    for place, row in enumerate(json.loads(text)):
        _one_unit(row, "frame_idx")
        result.append(IndexRow(place, str(row["id"]), "frames", _numbers(row["frame_idx"], "frames")))
    return result


def _write_tspo(rows: Sequence[Chosen]) -> str:
    return _dump([{**_question(row), "frame_idx": list(row.frames)} for row in rows])


def _question(row: Chosen) -> dict[str, Any]:
    return {"id": row.id, "video": row.video, "question": row.question}


def _read_bolt(text: str) -> list[IndexRow]:
    rows = [row for rows in json.loads(text).values() for row in rows]
    result = []
    for place, row in enumerate(rows):
        name = "frame_indices" if "frame_indices" in row else "frames"
        _one_unit(row, name)
        result.append(IndexRow(place, str(row["question_id"]), "seconds", _numbers(row[name], "seconds")))
    return result


def _write_bolt(rows: Sequence[Chosen]) -> str:
    by_stem = defaultdict(list)
    for row in rows:
        entry = {"question_id": row.id, "question": row.question, "frames": _seconds(row)}
        by_stem[Path(row.video).stem].append(entry)
    return _dump(by_stem)


def _read_kfs(text: str) -> list[IndexRow]:
    result = []
    for place, row in enumerate(json.loads(text)):
        _one_unit(row, "frame_timestamps")
        result.append(IndexRow(place, str(row["id"]), "seconds", _numbers(row["frame_timestamps"], "seconds")))
    return result


def _write_kfs(rows: Sequence[Chosen]) -> str:
    return _dump([{"id": row.id, "frame_timestamps": _seconds(row)} for row in rows])


def _read_videoitg(text: str) -> list[IndexRow]:
    result = []
    for line in _split_lines(text):
        row = json.loads(line)
        _one_unit(row, "frames")
        frames, (number,) = _numbers(row["frames"], "frames"), _numbers([row["doc_id"]], "frames")
        scores = _scores(row["scores"], frames)
        if list(scores) != sorted(scores, reverse=True):
            raise ValueError(f"doc_id {row['doc_id']} whose scores are not sorted, the highest first")
        result.append(IndexRow(int(number), None, "frames", frames, scores))
    return result


def _write_videoitg(rows: Sequence[Chosen]) -> str:
    lines = []
    for place, row in enumerate(rows):
        if row.scores is None:
            raise DataError(
                f"the frames of {row.id!r} by {row.selector}, which have no scores",
                "a score for each frame, by which the form videoitg sorts them",
                "Use a selector that scores frames, or another form.",
            )
        best = sorted(zip(row.scores, row.frames, strict=True), key=lambda pair: (-pair[0], pair[1]))
        lines.append({"doc_id": place, "frames": [n for _, n in best], "scores": [score for score, _ in best]})
    return "".join(map(_dump, lines))


def _read_csv(text: str, unit: Unit) -> list[IndexRow]:
    table = csv.DictReader(StringIO(text))
    names = table.fieldnames or ()
    if "id" not in names or unit not in names:
        raise ValueError(f"its first line has to name the columns, id and {unit}, which is the unit")
    _one_unit(names, unit)
    result = []
    for place, row in enumerate(table):
        if None in row or row[unit] is None:
            raise ValueError(f"{row['id']!r} without a cell a column; spaces or semicolons part the numbers of one")
        values = [json.loads(word) for word in row[unit].replace(";", " ").split()]
        result.append(IndexRow(place, row["id"], unit, _numbers(values, unit)))
    return result


def _write_csv(rows: Sequence[Chosen], unit: Unit) -> str:
    text = StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["id", unit])
    for row in rows:
        table.writerow([row.id, " ".join(map(str, row.frames if unit == "frames" else _seconds(row)))])
    return text.getvalue()


FORMS: dict[str, IndexForm] = {
    "jsonl": IndexForm("JSON lines of id, frames (numbers) and seconds: this project's own", _read_jsonl, _write_jsonl),
    "aks": IndexForm(
        "a JSON list of lists of frame numbers, one for each question in its order", _read_aks, _write_aks
    ),
    "tspo": IndexForm(
        "a JSON list of questions, each with id and frame_idx, which are frame numbers", _read_tspo, _write_tspo
    ),
    "bolt": IndexForm(
        "a JSON object of file stems, each with a list of question_id and frames (or frame_indices), which are seconds",
        _read_bolt,
        _write_bolt,
    ),
    "kfs": IndexForm("a JSON list of id and frame_timestamps, which are seconds", _read_kfs, _write_kfs),
    "videoitg": IndexForm(
        "JSON lines of doc_id (the question's number, from 0), frames (numbers) and scores, the best first",
        _read_videoitg,
        _write_videoitg,
    ),
    "csv": IndexForm(
        "a CSV of id and frames (numbers)",
        lambda text: _read_csv(text, "frames"),
        lambda rows: _write_csv(rows, "frames"),
    ),
    "csv-seconds": IndexForm(
        "a CSV of id and seconds",
        lambda text: _read_csv(text, "seconds"),
        lambda rows: _write_csv(rows, "seconds"),
    ),
}
