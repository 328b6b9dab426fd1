"""What the doctor remembers: numbers of rows on disk, whatever ends it; and what follows from them."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynfocus.budget import budget
from dynfocus.data.doctor.findings import format_table, refuse, summarize_checkup
from dynfocus.data.doctor.store import NUMBERS, QUARANTINE, Checkup, RowCost, count_tokens, find_over_long
from dynfocus.errors import DataError
from dynfocus.records.jsonl import read_jsonl
from dynfocus.records.skipped import FAULTS, Skipped
from dynfocus.settings import ConnectorSettings

KEY = {"source": "films", "prompt": ["plain", True, "every"]}
SETTINGS = ConnectorSettings()


def bad(row: int, cause: str = "missing: there is no file x.mp4") -> Skipped:
    return Skipped("films", row, f"r{row}", "x.mp4", cause)


def filled(index: Path) -> Checkup:
    """Six rows: text alone, two that show 30 frames, one that shows 90 twice, a missing one, one not looked at."""
    checkup = Checkup.open(index, KEY, 6)
    checkup.add_costs({0: RowCost(11, 0, 3, 0), 1: RowCost(20, 1, 4, 7), 2: RowCost(21, 1, 5, 7)})
    checkup.add_costs({3: RowCost(50, 2, 9, 8)})
    checkup.set_frames([1, 2], 30)
    checkup.set_frames([3], 90)
    checkup.add_bad([bad(4)])
    return checkup


def test_what_was_found_is_there_again(tmp_path: Path) -> None:
    filled(tmp_path)
    for again in (Checkup.open(tmp_path, KEY, 6), Checkup.open(tmp_path, dict(reversed(KEY.items())), 6)):
        assert again.frames.tolist() == [0, 30, 30, 90, -1, -1]
        assert again.text.tolist() == [11, 20, 21, 50, -1, -1]
        assert again.slots.tolist() == [0, 1, 1, 2, -1, -1]
        assert again.targets.tolist() == [3, 4, 5, 9, -1, -1]
        assert again.bad == {4: bad(4)}
        assert again.is_checked.tolist() == [True] * 5 + [False]
        assert again.needs_prompt.tolist() == [False] * 4 + [True] * 2
        assert not again.is_finished


def test_training_reads_a_finished_checkup_under_its_own_key_alone(tmp_path: Path) -> None:
    checkup = filled(tmp_path)
    assert Checkup.load(tmp_path, KEY, 6) is None
    checkup.add_bad([bad(5, "does not fit: no id")])
    loaded = Checkup.load(tmp_path, KEY, 6)
    assert loaded is not None
    assert loaded.is_finished
    assert sorted(loaded.bad) == [4, 5]
    with pytest.raises(ValueError, match="read-only"):
        loaded.records["frames"][0] = 1
    for other in ({**KEY, "source": "other"}, {**KEY, "prompt": ["plain", False, "every"]}):
        assert Checkup.load(tmp_path, other, 6) is None
    assert Checkup.load(tmp_path / "elsewhere", KEY, 6) is None
    carried = pickle.dumps(loaded)
    assert len(carried) < 500
    assert pickle.loads(carried).frames.tolist() == loaded.frames.tolist()
    assert pickle.loads(carried).bad == loaded.bad


def test_a_row_that_came_is_no_longer_bad(tmp_path: Path) -> None:
    checkup = filled(tmp_path)
    checkup.add_costs({4: RowCost(9, 1, 1, 5)})
    assert sorted(Checkup.open(tmp_path, KEY, 6).bad) == [4]
    checkup.set_frames([4], 12)
    assert not checkup.bad
    assert not Checkup.open(tmp_path, KEY, 6).bad
    checkup.add_bad([bad(4, "unreadable: cut off")])
    assert Checkup.open(tmp_path, KEY, 6).bad == {4: bad(4, "unreadable: cut off")} == checkup.bad


def test_half_a_line_and_half_a_record_of_a_killed_doctor_are_not_looked_at(tmp_path: Path) -> None:
    checkup = filled(tmp_path)
    file = checkup.folder / QUARANTINE
    whole = file.read_bytes()
    with open(file, "ab") as half:
        half.write(whole[:-9].replace(b": 4,", b": 5,"))
    assert list(Checkup(checkup.folder, 6).bad) == [4]
    assert file.read_bytes() != whole
    checkup.records["text"][5] = 7  # killed between two fields of a row
    resumed = Checkup.open(tmp_path, KEY, 6)
    assert list(resumed.bad) == [4]
    assert file.read_bytes() == whole
    assert resumed.needs_prompt.tolist() == [False] * 4 + [True] * 2
    resumed.add_bad([bad(5)])
    assert list(Checkup.open(tmp_path, KEY, 6).bad) == [4, 5]


@pytest.mark.parametrize("name", [NUMBERS, QUARANTINE])
@pytest.mark.parametrize("content", [b"", b"no such thing\n", b'{"source": 1}\n'])
def test_a_damaged_checkup_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    checkup = filled(tmp_path)
    checkup.add_bad([bad(5)])
    (checkup.folder / name).write_bytes(content)
    if (name, content) == (QUARANTINE, b""):
        assert Checkup.load(tmp_path, KEY, 6) is None  # rows 4 and 5 are merely not looked at
        return
    for reading in (Checkup.open, Checkup.load):
        with pytest.raises(DataError, match=f"{name}, which is damaged.*Delete .*{checkup.folder.name}"):
            reading(tmp_path, KEY, 6)


def test_the_quarantine_is_whole_and_in_order(tmp_path: Path) -> None:
    checkup = filled(tmp_path)
    checkup.add_bad([bad(5), bad(4, "unreadable: cut off")])
    path = checkup.close([bad(3, "too long: 9 tokens")])
    listed = list(read_jsonl(path, Skipped))
    assert [one.index for one in listed] == [3, 4, 5]
    assert [one.fault for one in listed] == ["too long", "unreadable", "missing"]
    assert [json.loads(line)["index"] for line in path.read_text().splitlines()] == [3, 4, 5]
    again = Checkup.open(tmp_path, KEY, 6)
    assert sorted(again.bad) == [4, 5]  # what is too long hangs on the connector, not on the row
    assert again.close([]).read_text().count("\n") == 2


def test_costs_follow_the_connector_without_a_new_look(tmp_path: Path) -> None:
    checkup = filled(tmp_path)
    for settings in (SETTINGS, replace(SETTINGS, events=5), replace(SETTINGS, encoder="average_pooling")):
        each = {frames: budget(frames, settings).visual_tokens for frames in (30, 90)}
        expected = [11, 20 + each[30], 21 + each[30], 50 + 2 * each[90], -1, -1]
        assert count_tokens(checkup, settings).tolist() == expected
        assert find_over_long(checkup, settings, 50 + 2 * each[90]).tolist() == []
        assert find_over_long(checkup, settings, 49 + 2 * each[90]).tolist() == [3]
        assert find_over_long(checkup, settings, 0).tolist() == [0, 1, 2, 3]


@given(st.lists(st.tuples(st.integers(-1, 60), st.integers(0, 400), st.integers(0, 3)), min_size=1, max_size=50))
def test_costs_equal_the_budget_row_by_row(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    checkup = Checkup.open(tmp_path_factory.mktemp("index"), KEY, len(rows))
    for n, (frames, text, slots) in enumerate(rows):
        checkup.add_costs({n: RowCost(text, slots if frames else 0, 1, abs(frames))})
        if frames > 0:
            checkup.set_frames([n], frames)
    expected = [
        -1 if frames < 0 else text + (slots * budget(frames, SETTINGS).visual_tokens if frames else 0)
        for frames, text, slots in rows
    ]
    assert count_tokens(checkup, SETTINGS).tolist() == expected
    assert count_tokens(checkup, SETTINGS).dtype == np.int64


def test_the_table_counts_each_row_once_and_the_limit_is_a_share(tmp_path: Path) -> None:
    checkup = filled(tmp_path)
    checkup.add_bad([bad(5, "unreadable: cut off")])
    tokens = count_tokens(checkup, SETTINGS)
    result = summarize_checkup("films", checkup, SETTINGS, int(tokens[3]) - 1, checkup.close([]))
    assert result.faults == dict.fromkeys(FAULTS, 0) | {"missing": 1, "unreadable": 1, "too long": 1}
    assert (result.rows, result.bad) == (6, 3)
    assert result.frames == (30, 30, 30)  # of the two good rows that show anything
    assert result.tokens == (tokens[1], tokens[2], tokens[2])
    drawn = format_table([result, replace(result, source="others")])
    head, _, films, _, together, *files = drawn.splitlines()
    assert head.split()[:4] == ["data", "set", "rows", "good"]
    assert " ".join(films.split()).startswith("films 6 3 1 1 0 0 0 1 50.00% 30 30 30 ")
    assert films.split()[-3:] == [*map(str, result.tokens)]
    assert " ".join(together.split()) == "together 12 6 2 2 0 0 0 2 50.00%"
    assert [str(result.quarantine) in line for line in files] == [True, True]
    refuse([result], 0.5)
    with pytest.raises(DataError, match=r"films: 3 of 6 rows .1 missing, 1 unreadable, 1 too long., listed in"):
        refuse([result], 0.49)


def test_a_table_of_rows_that_are_all_bad(tmp_path: Path) -> None:
    checkup = Checkup.open(tmp_path, KEY, 2)
    checkup.add_bad([bad(0), bad(1)])
    drawn = format_table([summarize_checkup("films", checkup, SETTINGS, 100, checkup.close([]))])
    assert " ".join(drawn.splitlines()[2].split()) == "films 2 0 2 0 0 0 0 0 100.00% - - - - - -"
