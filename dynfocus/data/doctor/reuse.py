"""Reuse what the doctor found under other settings, and explain what training cannot use of it (no torch here)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynfocus.data.annotations.dataset import Annotations
from dynfocus.data.doctor.store import Checkup, find_other_checkups
from dynfocus.records.skipped import Skipped

PROMPT = {"tokenizer", "prompt"}  # parts of a key that frames do not depend on
NAMES = {"annotations.stamp": "the annotation files", "annotations.": "", "rule.": "frame_rule.", "prompt.": ""}


def reuse_frames(checkup: Checkup, key: dict[str, Any], annotations: Annotations, rows: NDArray, faults: bool) -> None:
    """Copy what ``rows`` show from other checkups that differ in their prompts alone, so that it is not read again.

    Args:
        checkup: is written into; its key is ``key``.
        key: as `Checkup.open` takes it.
        annotations: the rows.
        rows: numbers of those that are not known yet.
        faults: whether to copy what could not be read as well.

    Raises:
        DataError: if another checkup is damaged.
        DiskError: if findings cannot be written.
    """
    alike = [
        Checkup(folder, len(checkup))
        for folder, other in find_other_checkups(annotations.folder, key).items()
        if not {name.partition(".")[0] for name in _find_differences(key, other)} - PROMPT
    ]
    for one in alike:
        checkup.copy_frames(one, rows[checkup.frames[rows] < 0])
    for one in alike if faults else []:
        causes, todo = one.causes, rows[checkup.frames[rows] < 0]
        todo = todo[np.isin(checkup.media[todo], np.array(list(causes), np.uint64))]
        checkup.add_bad(_make_skipped(checkup, annotations, todo, causes), medium=True)
        rows = np.setdiff1d(rows, todo)


def explain_unused(index: Path, key: dict[str, Any], rows: int) -> str | None:
    """Explain in a sentence why training does not use what the doctor found; None where it does, or found nothing.

    Raises:
        DataError: if a checkup is damaged.
    """
    own = Checkup.find(index, key, rows)
    if own is not None:
        counts = f"dynfocus doctor has looked at {own.is_checked.sum()} of {rows} rows of {key['source']}"
        return None if own.is_finished else f"{counts}: run it again to finish, as nothing is used until then"
    others_here = [other for other in find_other_checkups(index, key).values() if _same_files(key, other)]
    if not others_here:
        return None
    differences = min((_find_differences(key, other) for other in others_here), key=len)
    names = ", ".join(map(_setting_name, differences))
    return (
        f"dynfocus doctor was run on {key['source']} under other settings ({names}): "
        "run it again with the present ones, as nothing that it found is used"
    )


def _make_skipped(
    checkup: Checkup, annotations: Annotations, rows: NDArray, causes: dict[int, str]
) -> Iterator[Skipped]:
    for number in rows.tolist():
        row = annotations[number]
        yield Skipped(annotations.source.name, number, row.id, row.media, causes[int(checkup.media[number])])


def _find_differences(key: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Find the names of settings that differ, such as ``rule.fps``."""
    one, two = _flat(json.loads(json.dumps(key))), _flat(other)
    return sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))


def _flat(key: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in key.items():
        flat |= {f"{name}.{inner}": one for inner, one in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def _same_files(key: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether both are of the same data set, and not of two that only share a name."""
    return not {"annotations.folder", "annotations.file"} & set(_find_differences(key, other))


def _setting_name(name: str) -> str:
    start = next((one for one in NAMES if name.startswith(one)), "")
    return NAMES.get(start, "") + name.removeprefix(start)
