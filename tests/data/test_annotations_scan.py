"""Elements of annotation files, found through a moving window: against the plain ways to read the same files."""

import csv
import io
import json
import tracemalloc
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynfocus.data.annotations import json_stream
from dynfocus.data.annotations import scan as layouts
from dynfocus.data.annotations.scan import decode, read_header, scan
from dynfocus.errors import DataError

QUICK = settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
WORDS = st.text(st.one_of(st.sampled_from('[]{}",:\\\n\t é星😀\u2028'), st.characters(exclude_categories=["Cs"])))
NUMBERS = st.one_of(st.integers(-(10**30), 10**30), st.floats(allow_nan=False, allow_infinity=False))
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS)
VALUES = st.recursive(
    LEAVES, lambda of: st.lists(of, max_size=4) | st.dictionaries(WORDS, of, max_size=4), max_leaves=20
)
BLANKS = st.text(" \t\r\n", max_size=5)


@pytest.fixture
def window(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets how many bytes are read at a time."""
    return lambda size: monkeypatch.setattr(json_stream, "WINDOW", size)


def styled(value: Any, style: tuple[bool, int | None, bool, str, bool]) -> bytes:
    ascii_only, indent, loose, blank, bom = style
    separators = (f"{blank},{blank}", f"{blank}:{blank}") if loose else None
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent, separators=separators)
    return b"\xef\xbb\xbf" * bom + f"{blank}{text}{blank}".replace("\n", "\r\n" if loose else "\n").encode()


STYLES = st.tuples(st.booleans(), st.sampled_from([None, 0, 1]), st.booleans(), BLANKS, st.booleans())


@QUICK
@given(rows=st.lists(VALUES, max_size=8), style=STYLES, size=st.integers(1, 40))
def test_a_list_is_what_json_reads(tmp_path: Path, window: Any, rows: list, style: Any, size: int) -> None:
    window(size)
    path = tmp_path / "rows.json"
    path.write_bytes(data := styled(rows, style))
    result = list(scan("list", path))
    assert [value for *_, value in result] == json.loads(data.decode("utf-8-sig")) == rows
    assert [decode("list", data[start : start + length], ()) for start, length, _ in result] == rows


@QUICK
@given(rows=st.dictionaries(WORDS, VALUES, max_size=8), style=STYLES, size=st.integers(1, 40))
def test_an_object_is_what_json_reads(tmp_path: Path, window: Any, rows: dict, style: Any, size: int) -> None:
    window(size)
    path = tmp_path / "rows.json"
    path.write_bytes(data := styled(rows, style))
    result = list(scan("object", path))
    assert [value for *_, value in result] == [{key: value} for key, value in rows.items()]
    assert [decode("object", data[start : start + length], ()) for start, length, _ in result] == [
        {key: value} for key, value in rows.items()
    ]


@QUICK
@given(rows=st.lists(VALUES, max_size=8), end=st.sampled_from(["\n", "\r\n", "\n\n \n"]), bom=st.booleans())
def test_lines_are_what_json_reads(tmp_path: Path, rows: list, end: str, bom: bool) -> None:
    path = tmp_path / "rows.jsonl"
    data = b"\xef\xbb\xbf" * bom + end.join(json.dumps(row, ensure_ascii=bom) for row in rows).encode()
    path.write_bytes(data)
    result = list(scan("lines", path))
    assert [value for *_, value in result] == rows
    assert [decode("lines", data[start : start + length], ()) for start, length, _ in result] == rows


CELLS = st.text(
    st.one_of(st.sampled_from('",\n\r é星'), st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
)


@QUICK
@given(rows=st.lists(st.tuples(CELLS, CELLS, CELLS)), end=st.sampled_from(["\n", "\r\n"]), bom=st.booleans())
def test_a_table_is_what_csv_reads(tmp_path: Path, rows: list, end: str, bom: bool) -> None:
    path, text = tmp_path / "rows.csv", io.StringIO()
    rows = rows if bom else [tuple(cell.replace("\r", "") for cell in row) for row in rows]  # csv quotes no lone \r
    writer = csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL if bom else csv.QUOTE_MINIMAL)
    writer.writerow(["a", "b", "c"])
    writer.writerows(rows)
    path.write_bytes(data := b"\xef\xbb\xbf" * bom + text.getvalue().encode())
    with path.open(encoding="utf-8-sig", newline="") as file:
        plain = list(csv.DictReader(file))
    result = list(scan("table", path))
    assert read_header(path) == ["a", "b", "c"]
    assert [value for *_, value in result] == plain == [dict(zip("abc", row, strict=True)) for row in rows]
    assert [decode("table", data[start : start + length], list("abc")) for start, length, _ in result] == plain


@QUICK
@given(rows=st.lists(VALUES, min_size=1, max_size=4), at=st.floats(0, 1), size=st.integers(1, 40))
def test_a_list_that_is_cut_off_is_refused(tmp_path: Path, window: Any, rows: list, at: float, size: int) -> None:
    window(size)
    path = tmp_path / "rows.json"
    data = json.dumps(rows, ensure_ascii=False).encode()
    path.write_bytes(data[: int(at * (len(data) - 1))])
    with pytest.raises(DataError, match=r"rows\.json"):
        list(scan("list", path))


@QUICK
@given(
    data=st.binary(max_size=60),
    start=st.sampled_from([b"", b"[", b'[{"a": ', b"["]),
    layout=st.sampled_from(["list", "object", "lines"]),
)
def test_any_bytes_are_read_or_refused(tmp_path: Path, data: bytes, start: bytes, layout: Any) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(start + data)
    with suppress(DataError):  # and nothing else
        list(scan(layout, path))


def test_a_wrong_byte_in_the_middle_is_named_without_reading_on(tmp_path: Path, window: Any) -> None:
    window(1 << 10)
    rows = json.dumps([{"id": str(number), "text": "é" * 50} for number in range(1000)], ensure_ascii=False).encode()
    middle = rows.index(b'"id"', len(rows) // 2)
    path = tmp_path / "rows.json"
    path.write_bytes(rows[:middle] + b"'" + rows[middle + 1 :])
    with path.open("rb") as file:
        result = json_stream.Window(path, file)
        with pytest.raises(DataError, match=f"no JSON at byte {middle} "):
            list(layouts._scan_json(result, "list"))
        assert file.tell() < middle + (4 << 10)


def test_a_quote_that_is_never_closed_is_not_read_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "WINDOW", 1 << 10)
    monkeypatch.setattr(json_stream, "LIMIT", 1 << 14)
    monkeypatch.setattr(layouts, "LIMIT", 1 << 14)
    path = tmp_path / "rows.json"
    path.write_bytes(b'[{"id": 1}, {"id": "' + b"a" * (1 << 18) + b'"}]')
    with pytest.raises(DataError, match="more than 16384 bytes at byte 12"):
        list(scan("list", path))
    with pytest.raises(DataError, match="more than 16384 bytes at byte 0"):
        list(scan("lines", path))


def test_broken_lines_and_records_take_their_place(tmp_path: Path) -> None:
    lines = tmp_path / "rows.jsonl"
    lines.write_bytes(b'{"id": 1}\n{"id": \n[[\n{"id": 2}\n' + b"[" * 100_000 + b'\n{"id": 3}')
    kinds = [value if isinstance(value, dict) else type(value) for *_, value in scan("lines", lines)]
    assert kinds == [{"id": 1}, ValueError, ValueError, {"id": 2}, ValueError, {"id": 3}]
    table = tmp_path / "rows.csv"
    table.write_bytes(b'a,b\n1,2\n3\n4,5,6\n\n"7"7,8\n9,"10\n11"\n"12,' + b"x\n" * 100_000 + b"13,14\n")
    values = [value if isinstance(value, dict) else type(value) for *_, value in scan("table", table)]
    assert values[:5] == [{"a": "1", "b": "2"}, ValueError, ValueError, ValueError, {"a": "9", "b": "10\n11"}]
    assert values[5] is ValueError
    assert values[-1] == {"a": "13", "b": "14"}


WHOLE = [f"{number},u,d,p,caption {number}" for number in range(1000)]
OPENED = {
    "of the first cell": {2: '"2,u,d,p,caption 2'},
    "of a caption": {699: '699,u,d,p,"caption 699'},
    "in the last row": {999: '999,u,d,p,"caption 999'},
    "before a caption in quotes": {2: '2,u,d,p,"two', 5: '5,u,d,p,"five, or so"'},
    "closed by a later row": {2: '"2,u,d,p,two', 5: '5",u'},
    "of every row": {number: f'{number},u,d,p,"caption' for number in range(1000)},
}


@pytest.mark.parametrize("changes", OPENED.values(), ids=list(OPENED))
def test_a_quote_that_is_opened_takes_its_own_row_alone(tmp_path: Path, changes: dict[int, str]) -> None:
    (path := tmp_path / "rows.csv").write_text(
        "videoid,url,duration,page,name\n" + "\n".join(changes.get(n, row) for n, row in enumerate(WHOLE))
    )
    result = list(scan("table", path))
    wrong = {number for number, row in changes.items() if row.count('"') == 1}
    assert [number for number, (*_, value) in enumerate(result) if isinstance(value, ValueError)] == sorted(wrong)
    assert len(result) == 1000
    data = path.read_bytes()
    for number, (start, length, value) in enumerate(result):
        assert data[start : start + length].decode().strip() == changes.get(number, WHOLE[number])
        if number in wrong:
            with pytest.raises(ValueError, match=r"end of data|\d cells"):
                decode("table", data[start : start + length], read_header(path))
        else:
            assert value["videoid"] == str(number)
            assert decode("table", data[start : start + length], read_header(path)) == value


@pytest.mark.parametrize("more", [0, 1])
def test_a_record_spans_so_many_lines(tmp_path: Path, more: int) -> None:
    inner = ["of it"] * (layouts.MAX_RECORD_LINES - 2 + more)
    (path := tmp_path / "rows.csv").write_text("\n".join(["a,b", '1,"begin', *inner, 'end"', "2,x\n"]))
    values = [value for *_, value in scan("table", path)]
    assert values[-1] == {"a": "2", "b": "x"}
    if more:
        assert [type(value) for value in values[:-1]] == [ValueError] * (layouts.MAX_RECORD_LINES + 1)
    else:
        assert values[0] == {"a": "1", "b": "\n".join(["begin", *inner, "end"])}
        assert len(values) == 2


def test_a_quote_that_stays_open_does_not_hold_what_follows(tmp_path: Path) -> None:
    (path := tmp_path / "rows.csv").write_text('a,b\n1,"x\n' + "2,y\n" * 100_000)
    tracemalloc.start()
    first, second = islice(scan("table", path), 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(first[2], ValueError)
    assert second[2] == {"a": "2", "b": "y"}
    assert peak < path.stat().st_size / 4


def test_a_line_of_a_table_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "LIMIT", 1 << 14)
    (path := tmp_path / "rows.csv").write_text("a,b\n1,2\n3," + "x" * (1 << 15))
    with pytest.raises(DataError, match=r"rows\.csv, a line of more than 16384 bytes at byte 8"):
        list(scan("table", path))


def test_scanning_holds_a_window_not_the_file(tmp_path: Path, window: Any) -> None:
    window(1 << 14)
    peaks = []
    for rows in (500, 500, 4000):  # the first one warms up
        path = tmp_path / f"{rows}.json"
        path.write_text(json.dumps([{"id": str(number), "text": "x" * 400} for number in range(rows)]))
        tracemalloc.start()
        assert sum(1 for _ in scan("list", path)) == rows
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.2 * peaks[1]
    assert peaks[2] < (tmp_path / "4000.json").stat().st_size / 4
