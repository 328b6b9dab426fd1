"""Records on disk: whole or not at all, and errors that name the line."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynfocus.errors import DataError, DiskError, DynFocusError
from dynfocus.records.atomic import write_text
from dynfocus.records.jsonl import read_jsonl, write_jsonl
from dynfocus.records.predictions import Prediction

ONE = Prediction("0", "v", "learned", "q", "a", "a", "color", (3,), 1.0, 85, ("a", "b"), {"word": "a"})
TEXT = st.text(max_size=8)
NAMES = ("id", "video", "arm", "question", "answer", "truth", "group")
FIELDS = st.fixed_dictionaries(
    dict.fromkeys(NAMES, TEXT)
    | {
        "kept": st.lists(st.integers(0, 99), max_size=4).map(tuple),
        "hit": st.none() | st.floats(0, 1),
        "visual_tokens": st.integers(0, 9999),
        "options": st.lists(TEXT, max_size=3).map(tuple),
        "meta": st.dictionaries(TEXT, TEXT, max_size=2),
    }
)


@given(st.lists(FIELDS, max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_what_is_written_is_read_whatever_the_text_holds(tmp_path: Path, fields: list[dict[str, Any]]) -> None:
    path, records = tmp_path / "new" / "predictions.jsonl", [Prediction(**given) for given in fields]
    write_jsonl(path, records)
    assert list(read_jsonl(path, Prediction)) == records
    assert [file.name for file in path.parent.iterdir()] == ["predictions.jsonl"]


@pytest.mark.parametrize("line", ["{", "5", "null", "[1]", '"text"', "{}", '{"id": "0", "foo": 1}', ""])
def test_a_wrong_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "p.jsonl"
    write_jsonl(path, [ONE])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataError, match=r"p\.jsonl, line 2: .* fields of Prediction"):
        list(read_jsonl(path, Prediction))


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_never_takes_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_text("dear")
    with pytest.raises(DiskError, match="which is a folder"):
        write_text(tmp_path / "videos", "text")
    assert [path.name for path in tmp_path.rglob("*")] == ["videos", "a.mp4"]


def test_errors_say_three_things_and_cross_processes() -> None:
    error = DataError("a row without id", "one", "Mend it.")
    kind, arguments = error.__reduce__()
    assert isinstance(kind(*arguments), DynFocusError)
    assert str(kind(*arguments)) == "a row without id. Needed: one. Mend it."
