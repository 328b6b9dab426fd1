"""Rows read one by one: what is remembered of their files, when it is made anew, and copies in other processes."""

import csv
import json
import multiprocessing
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference_reader import read_conversations

from dynfocus.data.annotations import dataset, index, json_stream
from dynfocus.data.annotations.dataset import Annotations
from dynfocus.data.annotations.sources import Source
from dynfocus.errors import DataError, DiskError
from dynfocus.records import atomic
from perf.annotations import bench_annotations, write

OPENED: list[str] = []
sys.addaudithook(lambda event, args: OPENED.append(str(args[0])) if event == "open" else None)


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "SETTLED", -1)  # an index is kept even of a file that was written just now


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write(tmp_path / "rows.json", 60)
    return tmp_path


def opened(folder: Path, **options: Any) -> Annotations:
    return Annotations(Source("set", "rows.json", **options), folder, folder / "index")


def kept(folder: Path) -> list[Path]:
    return sorted((folder / "index").iterdir())


def test_rows_are_those_of_the_plain_way(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "WINDOW", 1000)
    plain = read_conversations(place / "rows.json")
    rows = opened(place)
    assert len(rows) == 60
    for i in (59, 0, 17, -1, np.int64(30)):
        result, known = rows[i], plain[i]
        assert (result.id, result.index, result.media, result.turns) == (
            known.id,
            int(i) % 60,
            known.media,
            known.turns,
        )
    assert rows.kinds.dtype == np.uint8
    assert rows.sizes.dtype == np.uint32
    assert rows.turns.dtype == np.uint16
    assert list(rows.turns) == [len(row.turns) for row in plain]
    assert list(rows.kinds) == [row.media is not None for row in plain]
    texts = ["".join(turn.question + str(turn.answer) for turn in row.turns) for row in plain]
    assert list(rows.sizes) == [len(text.encode()) for text in texts]
    for wrong in (60, -61):
        with pytest.raises(IndexError):
            rows[wrong]


@pytest.mark.parametrize("rounds", [1, 2, 3, 100])
def test_long_conversations_are_cut(place: Path, rounds: int) -> None:
    plain = read_conversations(place / "rows.json")
    result = opened(place, rounds=rounds)
    rows = list(result)
    assert list(result.turns) == [len(row.turns) for row in rows]
    assert [row.index for row in rows] == list(range(len(rows)))
    assert max(len(row.turns) for row in rows) == min(rounds, max(len(row.turns) for row in plain))
    joined = {row.id: tuple(turn for part in rows if part.id == row.id for turn in part.turns) for row in plain}
    assert joined == {row.id: row.turns for row in plain}
    assert len(rows) == sum(-(-len(row.turns) // rounds) for row in plain)


def test_a_row_that_does_not_fit_has_no_turns_and_one_of_very_many_is_told(tmp_path: Path) -> None:
    output = [{"from": who, "value": "x"} for who in ("human", "gpt")]
    rows = [{"id": 1}, {"id": 2, "conversations": output * 70_000}, {"id": 3, "conversations": output}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    assert list(opened(tmp_path).turns) == [0, 65_535, 1]


def test_an_index_of_an_older_form_is_made_anew(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "VERSION", index.VERSION - 1)
    older = opened(place).stamp
    monkeypatch.undo()
    monkeypatch.setattr(atomic, "SETTLED", -1)
    assert opened(place).stamp != older
    assert len(kept(place)) == 1


def test_questions_go_with_their_turns(tmp_path: Path) -> None:
    question = {"text": "a", "answer": "b"}
    output = [{"from": who, "value": "x"} for who in ("human", "gpt") * 3]
    questions = [{**question, "group": str(number)} for number in range(3)]
    both = [{"id": 1, "conversations": output, "questions": questions[:some]} for some in (3, 2)]
    (tmp_path / "rows.json").write_text(json.dumps(both))
    keys = [[one.group for one in row.questions] for row in opened(tmp_path, rounds=2)]
    assert keys == [["0", "1"], ["2"], [], []]
    assert [len(row.questions) for row in opened(tmp_path)] == [3, 2]


def test_an_index_is_found_again_without_reading_the_rows(place: Path) -> None:
    first = opened(place)
    assert len(kept(place)) == 1
    OPENED.clear()
    again = opened(place)
    assert str(place / "rows.json") not in OPENED
    assert str(kept(place)[0]) in OPENED
    assert again.stamp == first.stamp
    assert again[7] == first[7]
    assert str(place / "rows.json") in OPENED


def test_another_name_or_folder_of_media_needs_no_new_index(place: Path) -> None:
    opened(place)
    Annotations(Source("other", "rows.json", media="images"), place, place / "index")
    Annotations(Source("third", "../" + place.name + "/rows.json"), place, place / "index")
    assert len(kept(place)) == 1
    opened(place, rounds=1)
    opened(place, media={"coco": "pictures"})
    assert len(kept(place)) == 3


@pytest.mark.parametrize("same_size", [True, False])
def test_a_file_that_changed_is_gone_through_again(place: Path, same_size: bool) -> None:
    path, first = place / "rows.json", opened(place)
    text = path.read_text()
    times = os.stat(path)
    path.write_text(text.replace('"000000000007"', '"x00000000007"' if same_size else '"7"'))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    again = opened(place)
    assert again.stamp != first.stamp
    assert again[7].id == ("x00000000007" if same_size else "7")
    assert len(kept(place)) == 1


def test_parts_that_come_later_are_noticed(tmp_path: Path) -> None:
    for part in (0, 1):
        with (tmp_path / f"{part}.csv").open("w", newline="") as file:
            columns = ["page_dir", "videoid", "name"][:: 1 if part else -1]
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows({"page_dir": "p", "videoid": str(part), "name": f"clip {n}"} for n in range(3))
        rows = Annotations(Source("webvid", "*.csv", "webvid"), tmp_path, tmp_path / "index")
        assert [row.media for row in rows] == ["p/0.mp4"] * 3 + ["p/1.mp4"] * 3 * part
    assert [row.turns[0].answer for row in rows] == ["clip 0", "clip 1", "clip 2"] * 2
    assert len(kept(tmp_path)) == 1


def test_a_map_that_comes_later_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text("video,question,answer,qid\n1,why,so,0\n")
    first = opened(tmp_path, format="nextqa")
    (tmp_path / "map_vid_vidorID.json").write_text('{"1": "1000/1"}')
    again = opened(tmp_path, format="nextqa")
    assert (first[0].media, again[0].media) == ("1.mp4", "1000/1.mp4")
    assert again.stamp != first.stamp


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "text", "another"])
def test_a_damaged_index_is_made_anew(place: Path, damage: str) -> None:
    first = opened(place)
    (known,) = kept(place)
    data = known.read_bytes()
    at = data.index(first.index.offsets.tobytes()) + 80
    flipped = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    wrong = {"empty": b"", "cut": data[:-100], "flipped": flipped, "text": b"hello" * 100}
    if damage == "another":
        with known.open("wb") as file:
            np.savez(file, offsets=np.zeros(3))
    else:
        known.write_bytes(wrong[damage])
    again = opened(place)
    np.testing.assert_array_equal(again.index.offsets, first.index.offsets)
    assert list(again) == list(first)
    assert len(known.read_bytes()) == len(data)
    assert known.read_bytes() not in wrong.values()
    assert kept(place) == [known]


def test_a_young_file_is_not_remembered(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "SETTLED", 10**12)
    assert len(opened(place)) == 60
    assert not (place / "index").exists()


def test_a_file_that_grows_meanwhile_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def grow(*inputs: Any) -> Any:
        result = real(*inputs)
        (place / "rows.json").write_text("[]")
        return result

    real = index._build_index
    monkeypatch.setattr(index, "_build_index", grow)
    with pytest.raises(DataError, match=r"rows\.json, which changed while it was read"):
        opened(place)
    assert not (place / "index").exists()


def test_an_index_that_cannot_be_written_is_said(place: Path) -> None:
    (place / "index").write_text("a file")
    with pytest.raises(DiskError, match="could not be written"):
        opened(place)


def test_copies_read_on(place: Path) -> None:
    rows = opened(place)
    rows[3]
    data = pickle.dumps(rows)
    assert len(data) < 1000
    assert list(pickle.loads(data)) == list(rows)
    (place / "rows.json").write_text("[]")
    with pytest.raises(DataError, match="changed since the run began"):
        pickle.loads(data)


@pytest.mark.parametrize("how", ["deleted", "a folder"])
def test_a_file_that_goes_during_a_run_is_named(place: Path, how: str) -> None:
    rows = opened(place)
    (place / "rows.json").unlink()
    if how == "a folder":
        (place / "rows.json").mkdir()
    with pytest.raises(DataError, match=r"rows\.json, which cannot be read \((No such file|Is a directory)"):
        rows[3]


def test_a_file_that_is_read_already_may_go(place: Path) -> None:
    rows = opened(place)
    first = rows[3]
    (place / "rows.json").unlink()
    assert rows[3] == first


def test_files_beyond_those_kept_open_are_read_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "MAX_OPEN_FILES", 2)
    for part in range(5):
        (tmp_path / f"{part}.csv").write_text(f"videoid,page_dir,name\n{part},p,clip {part}\n")
    rows = Annotations(Source("webvid", "*.csv", "webvid"), tmp_path, tmp_path / "index")
    before = len(os.listdir("/proc/self/fd"))
    assert [rows[i].id for i in (4, 0, 3, 1, 2, 4)] == list("403124")
    assert len(os.listdir("/proc/self/fd")) == before + 2
    del rows
    assert len(os.listdir("/proc/self/fd")) == before


def _sum(rows: Annotations, folder: Path, queue: Any) -> None:
    mine = rows if rows is not None else opened(folder)
    queue.put((mine.stamp, [row.id for row in mine for _ in range(20)]))


@pytest.mark.parametrize("share", [True, False])
def test_processes_read_at_once(place: Path, share: bool) -> None:
    rows = opened(place) if share else None
    if rows is not None:
        rows[0]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=_sum, args=(rows, place, queue)) for _ in range(4)]
    for worker in workers:
        worker.start()
    result = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(60)
    assert len({stamp for stamp, _ in result}) == 1
    ids = [f"{number:012d}" for number in range(60) for _ in range(20)]
    assert [found_ids for _, found_ids in result] == [ids] * 4
    assert len(kept(place)) == 1
    assert opened(place).stamp == result[0][0]


def test_the_bench_runs(tmp_path: Path) -> None:
    rows = bench_annotations(tmp_path, rows=200, reads=50)
    assert [row["case"].partition(", ")[2] for row in rows] == [
        "first start",
        "later start",
        "rows at random",
        "json.load",
    ]
    assert all(row["seconds"] > 0 and row["rows"] == 200 for row in rows)
    assert [row["id"] for row in json.loads((tmp_path / "conversations_200.json").read_text())][199] == "000000000199"
