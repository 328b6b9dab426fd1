"""What the doctor found under other settings: what of it still holds, and what has to be said of it (no torch here)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynfocus.data.annotations.dataset import Annotations
from dynfocus.data.doctor.store import Checkup, others
from dynfocus.records.skipped import Skipped

PROMPT = {"tokenizer", "prompt"}  # parts of a key that no frame hangs on
NAMES = {"annotations.stamp": "the annotation files", "annotations.": "", "rule.": "frame_rule.", "prompt.": ""}


def recall(checkup: Checkup, key: dict[str, Any], annotations: Annotations, rows: NDArray, faults: bool) -> None:
    """Learn what ``rows`` show from other checkups that differ in their prompts alone, so that it is not read again.

    Args:
        checkup: what is written into, under this ``key``.
        key: as `Checkup.open` takes it.
        annotations: the rows.
        rows: numbers of those that are not known yet.
        faults: whether to believe as well what could not be read.

    Raises:
        DataError: if another checkup is damaged.
        DiskError: if findings cannot be written.
    """
    alike = [
        Checkup(folder, len(checkup))
        for folder, other in others(annotations.folder, key).items()
        if not {name.partition(".")[0] for name in _differing(key, other)} - PROMPT
    ]
    for one in alike:
        checkup.take(one, rows[checkup.frames[rows] < 0])
    for one in alike if faults else []:
        causes, left = one.causes, rows[checkup.frames[rows] < 0]
        left = left[np.isin(checkup.media[left], np.array(list(causes), np.uint64))]
        checkup.note(_noted(checkup, annotations, left, causes), medium=True)
        rows = np.setdiff1d(rows, left)


def missed(index: Path, key: dict[str, Any], rows: int) -> str | None:
    """A sentence on what the doctor found and training does not read; None where there is nothing of the sort.

    Raises:
        DataError: if a checkup is damaged.
    """
    own = Checkup.find(index, key, rows)
    if own is not None:
        looked = f"dynfocus doctor has looked at {own.looked.sum()} of {rows} rows of {key['source']}"
        return None if own.finished else f"{looked}: run it again to finish, as nothing is used until then"
    here = [other for other in others(index, key).values() if _same_files(key, other)]
    if not here:
        return None
    least = min((_differing(key, other) for other in here), key=len)
    return (
        f"dynfocus doctor was run on {key['source']} under other settings ({', '.join(map(_called, least))}): "
        "run it again with the present ones, as nothing that it found is used"
    )


def _noted(checkup: Checkup, annotations: Annotations, rows: NDArray, causes: dict[int, str]) -> Iterator[Skipped]:
    for number in rows.tolist():
        row = annotations[number]
        yield Skipped(annotations.source.name, number, row.id, row.media, causes[int(checkup.media[number])])


def _differing(key: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names of what is not the same, such as ``rule.fps``."""
    one, two = _flat(json.loads(json.dumps(key))), _flat(other)
    return sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))


def _flat(key: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in key.items():
        flat |= {f"{name}.{inner}": one for inner, one in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def _same_files(key: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether both are of the same data set, and not of two that merely share a name."""
    return not {"annotations.folder", "annotations.file"} & set(_differing(key, other))


def _called(name: str) -> str:
    start = next((one for one in NAMES if name.startswith(one)), "")
    return NAMES.get(start, "") + name.removeprefix(start)
