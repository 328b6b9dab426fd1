"""dynfocus doctor on real files, broken of every sort: what it finds, how it goes on, and what it costs."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from broken_dataset import RULE, broken_set, count_openings, many, patient, write_rows
from make_videos import with_bytes, write_video
from tiny_sketches import small_cache, small_sketcher
from tiny_world import call

from dynfocus.budget import budget
from dynfocus.data.doctor.examine import diagnose, examine
from dynfocus.data.doctor.findings import format_table
from dynfocus.data.doctor.store import QUARANTINE, Checkup, count_tokens, find_over_long
from dynfocus.data.sketches.shards import SketchShards
from dynfocus.data.sketches.write_shards import write_shards
from dynfocus.models.collate import Example
from dynfocus.records.jsonl import read_jsonl
from dynfocus.records.skipped import FAULTS, Skipped
from dynfocus.video import read_media

TESTS = Path(__file__).parents[1]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "decoded.txt"


def result(checkup: Checkup) -> tuple:
    return (
        *(getattr(checkup, name).tolist() for name in ("frames", "text", "slots", "targets", "media")),
        dict(sorted(checkup.bad.items())),
    )


def test_each_row_is_found_for_what_it_is(tmp_path: Path, log: Path) -> None:
    rows, faults = broken_set(tmp_path / "root")
    write_rows(tmp_path / "root", rows)
    one = patient(tmp_path / "root", log)
    (summary,) = diagnose([one], 0, progress=False)
    listed = {bad.index: bad for bad in read_jsonl(summary.quarantine, Skipped)}
    assert {row: bad.fault for row, bad in listed.items()} == faults
    assert list(listed) == sorted(listed)
    assert all(bad.source == "films" for bad in listed.values())
    assert listed[10].id == "r10"
    assert listed[10].media == "middle.mp4"
    assert {bad.media for bad in listed.values() if bad.media} <= {*(r.get("video") or r.get("image") for r in rows)}
    assert summary.faults == {name: list(faults.values()).count(name) for name in FAULTS}
    assert (summary.rows, summary.bad) == (len(rows), len(faults))
    assert summary.frames == (7, 40, 40)
    checkup = one.load()
    assert checkup is not None
    assert checkup.frames[:5].tolist() == [7, 7, 1, 0, 40]
    assert sorted(checkup.bad) == sorted(row for row, what in faults.items() if what != "too long")
    assert set(count_openings(log).values()) == {1}  # though several rows show the same


def test_numbers_are_those_of_the_batches_that_training_makes(tmp_path: Path, log: Path) -> None:
    rows, faults = broken_set(tmp_path / "root")
    write_rows(tmp_path / "root", rows)
    one = patient(tmp_path / "root", log)
    diagnose([one], 0, progress=False)
    checkup = one.load()
    assert checkup is not None
    for number in range(5):
        row = one.annotations[number]
        medium = one.annotations.find(row)
        frames = tiny.frames(1) if medium is None else read_media(medium, RULE).frames
        batch = one.collator([Example(row, frames=frames)])
        assert batch.input_ids.shape[1] == count_tokens(checkup, one.collator.settings)[number]
        assert batch.labels.ne(-100).sum() == checkup.targets[number]
    long = next(row for row, what in faults.items() if what == "too long")
    assert count_tokens(checkup, one.collator.settings)[long] > one.collator.context
    assert find_over_long(checkup, one.collator.settings, one.collator.context).tolist() == [long]
    fewer = replace(one.collator.settings, events=1, redundant_tokens=0)
    assert budget(40, fewer).visual_tokens < budget(40, one.collator.settings).visual_tokens
    assert find_over_long(checkup, fewer, one.collator.context).tolist() == []


def test_two_workers_find_what_none_finds_and_a_second_run_opens_nothing(tmp_path: Path, log: Path) -> None:
    write_rows(tmp_path / "root", many(tmp_path / "root") + broken_set(tmp_path / "other")[0])
    for name in ("index", "kept"):
        one = patient(tmp_path / "root", log)
        diagnose([one], 0 if name == "index" else 2, progress=False)
        checkup = one.load()
        assert checkup is not None
        if name == "index":
            alone, folder = result(checkup), tmp_path / "index" / "checkups"
            first = (checkup.folder / QUARANTINE).read_text()
            folder.rename(tmp_path / "kept")
    assert result(checkup) == alone
    assert (checkup.folder / QUARANTINE).read_text() == first
    log.unlink()
    diagnose([patient(tmp_path / "root", log)], 2, progress=False)
    assert not log.exists()
    assert (checkup.folder / QUARANTINE).read_text() == first


def running(process: int) -> bool:
    """Whether there is such a process that has not ended, as one that nobody waits for has."""
    state = Path(f"/proc/{process}/stat")
    try:
        return state.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(("finger", "workers"), [(signal.SIGKILL, 2), (signal.SIGINT, 0)], ids=["kill", "interrupt"])
def test_it_goes_on_from_where_it_was_stopped(tmp_path: Path, log: Path, workers: int, finger: int) -> None:
    write_rows(tmp_path / "root", many(tmp_path / "root"))
    command = [
        sys.executable,
        str(TESTS / "support" / "broken_dataset.py"),
        str(tmp_path / "root"),
        str(log),
        str(workers),
    ]
    environment = os.environ | {"PYTHONPATH": f"{TESTS.parent}:{TESTS / 'support'}", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    while process.poll() is None and sum(count_openings(log).values()) < 8:
        time.sleep(0.002)
    process.send_signal(finger)
    process.communicate(timeout=60)
    assert process.returncode != 0
    workers_seen = {int(line.split()[0]) for line in log.read_text().splitlines()}
    limit = time.monotonic() + 20
    while any(running(worker) for worker in workers_seen) and time.monotonic() < limit:
        time.sleep(0.01)
    assert not any(running(worker) for worker in workers_seen)
    one = patient(tmp_path / "root", log)
    assert one.load() is None
    stopped = one.open()
    done = {one.annotations[int(row)].media for row in stopped.is_checked.nonzero()[0]}
    assert 0 < len(done) < 24
    assert done <= set(count_openings(log))
    log.unlink()
    diagnose([one], 0, progress=False)
    again = count_openings(log)
    assert set(again) == {f"{n}.mp4" for n in range(24)} - done
    assert set(again.values()) == {1}
    whole = one.load()
    assert whole is not None
    assert sorted(whole.bad) == [5, 11, 17, 23, 29, 35, 41, 47]
    assert whole.frames[:5].tolist() == [5] * 5


def test_what_came_since_is_found_when_asked_for(tmp_path: Path, log: Path) -> None:
    rows, faults = broken_set(tmp_path / "root")
    write_rows(tmp_path / "root", rows)
    one = patient(tmp_path / "root", log)
    diagnose([one], 0, progress=False)
    log.unlink()
    for name in ("missing.mp4", "empty.mp4"):
        write_video(tmp_path / "root" / name, count=6)
    diagnose([one], 0, progress=False)
    assert not log.exists()
    (summary,) = diagnose([one], 0, retry=True, progress=False)
    came = [row for row, what in faults.items() if rows[row].get("video") in ("missing.mp4", "empty.mp4")]
    assert summary.bad == len(faults) - len(came) == len(faults) - 2
    assert not {"good.mp4", "long.mp4", "good.png"} & set(count_openings(log))
    checkup = one.load()
    assert checkup is not None
    assert [checkup.frames[row] for row in came] == [6, 6]
    assert {row: bad.fault for row, bad in checkup.bad.items()} == {
        row: what for row, what in faults.items() if row not in came and what != "too long"
    }


@pytest.mark.parametrize(
    "change", ["rows", {"prompt": "plain"}, {"slots": "first"}, {"system_prompt": False}, {"tokenizer": None}, "rule"]
)
def test_another_way_of_reading_is_another_checkup(tmp_path: Path, log: Path, change: str | dict) -> None:
    rows = many(tmp_path / "root", 2)
    write_rows(tmp_path / "root", rows)
    one = patient(tmp_path / "root", log)
    diagnose([one], 0, progress=False)
    other = patient(
        tmp_path / "root", log, **(change if isinstance(change, dict) and "tokenizer" not in change else {})
    )
    if change == "rows":
        write_rows(tmp_path / "root", [*rows, rows[0]])
        other = patient(tmp_path / "root", log)
    elif change == "rule":
        other = replace(other, rule=replace(RULE, frames=3))
    elif change == {"tokenizer": None}:
        other = replace(other, collator=replace(other.collator, tokenizer=tiny.pieces()))
    assert other.load() is None
    assert patient(tmp_path / "root", log).load() is None or change != "rows"
    cheaper = replace(one, collator=replace(one.collator, settings=replace(one.collator.settings, events=2)))
    assert change == "rows" or cheaper.load() is not None


def test_a_tokenizer_that_was_called_is_still_the_same(tmp_path: Path, log: Path) -> None:
    """A call leaves its padding and truncation in a fast tokenizer."""
    write_rows(tmp_path / "root", many(tmp_path / "root", 1))
    one = patient(tmp_path / "root", log, tokenizer=tiny.words())
    keys = [one.key]
    for options in ({"padding": True}, {"truncation": True, "max_length": 4}, {}):
        one.collator.tokenizer(["star", "star red"], **options)
        keys.append(one.key)
    assert keys == keys[:1] * 4


def test_a_file_that_kills_its_reader_is_one_bad_row(tmp_path: Path, log: Path) -> None:
    rows = many(tmp_path / "root", 8)
    write_video(tmp_path / "root" / "deadly.mp4", count=2)
    rows.insert(3, rows[0] | {"id": "d", "video": "deadly.mp4"})
    write_rows(tmp_path / "root", rows)
    one = patient(tmp_path / "root", log)
    checkup = one.open()
    examine(one, checkup, 2, progress=False)
    assert checkup.is_finished
    assert checkup.bad.pop(3).cause.startswith("unreadable: the process")
    assert sorted(checkup.bad) == [6, 14]
    assert (checkup.frames[[0, 1, 2, 4, 5]] == 5).all()


def test_what_is_sketched_is_not_opened(place: Path, tmp_path: Path, log: Path) -> None:
    """Neither what a cache holds, nor what shards hold, of which the files may be gone; but what could not be read."""
    rows, root = many(tmp_path / "root", 8), tmp_path / "root"
    write_rows(root, rows)
    one = patient(root, log)
    sketching = small_cache(place, tmp_path / "cache", rule=RULE)
    sketching.fill((root / f"{n}.mp4" for n in range(4)), workers=0)
    examine(one, alone := one.open(), 0, progress=False)
    assert set(count_openings(log)) == {f"{n}.mp4" for n in range(8)}
    shutil.rmtree(alone.folder)
    examine(replace(one, cache=sketching), cached := one.open(), 0, progress=False)
    assert result(cached) == result(alone)
    shutil.rmtree(cached.folder)

    items = [(one.annotations.address(row), one.annotations.find(row)) for row in one.annotations]
    write_shards(items[:6], small_sketcher(place, rule=RULE), str(tmp_path / "shards"), workers=0)
    for n in range(6):
        (root / f"{n}.mp4").unlink()
    stored = small_cache(place, tmp_path / "other", rule=RULE, shards=SketchShards(str(tmp_path / "shards")))
    examine(replace(one, cache=stored), sharded := one.open(), 0, progress=False)
    assert sharded.frames.tolist() == alone.frames.tolist()
    assert {row: bad.fault for row, bad in sharded.bad.items()} == {5: "unreadable", 13: "unreadable"}


def test_the_command_line(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """On the miniature's own data: a table, a quarantine, and an exit code that follows the share."""
    data = shutil.copytree(place / "data", tmp_path / "data")
    with_bytes(data / "videos" / "train_000001.mp4", b"")
    more = ("--data.init_args.root", str(data), "--data.init_args.index", str(tmp_path / "index"), "--workers", "0")
    assert call(place, "doctor", "stage2", tmp_path / "run", *more, "--limit", "0.9") == 0
    table = capsys.readouterr().out
    assert call(place, "doctor", "stage2", tmp_path / "run", *more) == 1
    output = capsys.readouterr()
    assert output.out == table
    (quarantine,) = (tmp_path / "index" / "checkups").glob("*/quarantine.jsonl")
    listed = list(read_jsonl(quarantine, Skipped))
    assert {bad.media for bad in listed} == {"videos/train_000001.mp4"}
    assert f"{len(listed)} of 50 rows ({len(listed)} unreadable), listed in {quarantine}" in output.err
    assert "more bad rows than the limit of 5.0%" in output.err
    assert str(quarantine) in table


def test_answers_of_words_that_the_tokenizer_does_not_know_are_named(tmp_path: Path, log: Path) -> None:
    (tmp_path / "root").mkdir()
    texts = ["star red", "giraffe zebra"]
    turns = [[{"from": "human", "value": "what"}, {"from": "gpt", "value": text}] for text in texts]
    write_rows(tmp_path / "root", [{"id": f"r{n}", "conversations": one} for n, one in enumerate(turns)])
    one = patient(tmp_path / "root", log)
    (summary,) = diagnose([one], 0, progress=False)
    assert summary.unknown == 2 / 6  # each answer has two words and an end
    assert "33% of what is learned of films are words that the language model's tokenizer does not know" in (
        format_table([summary])
    )
    assert "tokenizer" not in format_table([replace(summary, unknown=0.09)])
