"""dynfocus doctor beside training and beside itself: the same prompts, nothing read twice or unused in silence."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from broken_dataset import RULE, count_openings, make_row, many, patient, write_rows
from count_doctor import CountingView
from make_videos import with_bytes, write_video

from datamodules.examples import ExampleDataset
from dynfocus.data.annotations.dataset import Annotations
from dynfocus.data.annotations.sources import Source
from dynfocus.data.doctor.examine import diagnose
from dynfocus.data.doctor.pool import Workers
from dynfocus.data.doctor.store import Checkup, count_tokens
from dynfocus.errors import DataError
from dynfocus.models.collate import Collator


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "decoded.txt"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Eight videos in sixteen rows; the sixth video is cut off."""
    write_rows(tmp_path / "root", many(tmp_path / "root", 8))
    return tmp_path / "root"


def loaded(reading: CountingView) -> Checkup:
    result = reading.load()
    assert result is not None
    return result


def two_sets(root: Path) -> tuple[list[Annotations], Collator]:
    """Two data sets of the same twelve rows, and a tokenizer that needs fewer tokens with the video behind."""
    root.mkdir()
    write_video(root / "v.mp4", count=3)
    write_rows(root, [make_row(n, video="v.mp4") for n in range(12)])
    sets = [Annotations(Source(name, "rows.json"), root, root.parent / "index") for name in ("first", "second")]
    words = tiny.byte_pairs()
    return sets, replace(tiny.processor(answers=True), tokenizer=words, context=900)


def test_costs_are_those_of_training_wherever_a_set_stands_in_a_mixture(tmp_path: Path, log: Path) -> None:
    sets, processor = two_sets(tmp_path / "root")
    readings = [CountingView(one, processor, RULE, log=log) for one in sets]
    diagnose(readings, 0, progress=False)
    report = {one.annotations.source.name: count_tokens(loaded(one), processor.settings).tolist() for one in readings}
    for order in (sets, sets[::-1], sets[1:]):
        data = ExampleDataset(order, RULE, None, skip_invalid=False)
        lengths = [processor([data[n]]).input_ids.shape[1] for n in range(len(data))]
        assert lengths == [length for one in order for length in report[one.source.name]]
    assert len(set(report["first"])) == 2  # before and behind
    assert report["first"] != report["second"]


def test_the_seed_is_part_of_what_costs_hang_on(root: Path, log: Path) -> None:
    diagnose([patient(root, log)], 0, progress=False)
    assert patient(root, log, seed=1).load() is None
    assert patient(root, log, seed=0).load() is not None


def test_one_folder_under_two_names_is_one_data_set(root: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    diagnose([patient(root, log)], 0, progress=False)
    (root.parent / "link").symlink_to(root)
    monkeypatch.chdir(root.parent)
    for name in ("root", "link", "../" + root.parent.name + "/root"):
        near = Annotations(Source("films", "rows.json"), Path(name), root.parent / "index")
        far = Annotations(Source("films", "rows.json", folder=str(root)), Path(), root.parent / "index")
        for annotations in (near, far):
            assert replace(patient(root, log), annotations=annotations).load() is not None
            one = replace(patient(root, log), annotations=annotations)
            assert [row.medium for row in one.check_rows([0, 1])] == loaded(one).media[:2].tolist()  # type: ignore[union-attr]


def test_annotations_that_are_linked_to_beside_other_media_are_another_data_set(root: Path, log: Path) -> None:
    diagnose([patient(root, log)], 0, progress=False)
    (root.parent / "other").mkdir()
    (root.parent / "other" / "rows.json").symlink_to(root / "rows.json")
    other = patient(root.parent / "other", log)
    assert other.annotations.stamp == patient(root, log).annotations.stamp
    assert other.load() is None
    assert other.explain_unused() is None


def test_what_training_does_not_read_is_said(root: Path, log: Path) -> None:
    one = patient(root, log)
    assert one.explain_unused() is None
    checkup = one.open()
    checkup.set_frames(range(5), 5)
    assert one.load() is None
    assert str(one.explain_unused()).startswith(
        "dynfocus doctor has looked at 5 of 16 rows of films: run it again to finish"
    )
    diagnose([one], 0, progress=False)
    assert one.explain_unused() is None
    assert replace(one, rule=replace(RULE, fit="crop")).load() is not None  # the same can be read, however it is cut
    words = one.collator
    for other, named in (
        (replace(one, rule=replace(RULE, frames=3, max_pixels=9)), "frame_rule.frames, frame_rule.max_pixels"),
        (patient(root, log, prompt="plain", slots="first"), "slots, template"),
        (replace(one, collator=replace(words, tokenizer=tiny.pieces(), seed=4)), "seed, tokenizer"),
    ):
        assert other.load() is None
        report = str(other.explain_unused())
        assert report.startswith(f"dynfocus doctor was run on films under other settings ({named}): run it again")
    write_rows(root, [make_row(0, video="0.mp4")])
    assert "under other settings (the annotation files)" in str(patient(root, log).explain_unused())
    nearest = str(patient(root, log, slots="first").explain_unused())
    assert "(the annotation files, slots)" in nearest
    (checkup.folder / "key.json").write_text("[]")
    with pytest.raises(DataError, match=r"key\.json, which is damaged"):
        patient(root, log).explain_unused()


@pytest.mark.parametrize("workers", [0, 2])
def test_the_second_stage_reads_no_medium_again(root: Path, log: Path, workers: int) -> None:
    rows = many(root.parent / "more", 8)
    rows[3] |= {"conversations": [*rows[3]["conversations"][:1], {"from": "gpt", "value": " "}]}
    write_rows(root, [*rows, make_row(16, video="late.mp4"), make_row(17)])
    diagnose([first := patient(root, log, prompt="plain", slots="first")], 0, progress=False)
    assert sum(count_openings(log).values()) == 8
    log.unlink()
    write_video(root / "late.mp4", count=2)
    second = patient(root, log)
    (summary,) = diagnose([second], workers, progress=False)
    assert count_openings(log) == {"late.mp4": 1}
    checkup = loaded(second)
    assert checkup.frames.tolist()[:16] == loaded(first).frames.tolist()[:16]
    assert checkup.frames.tolist()[16:] == [2, 0]
    assert (checkup.text != loaded(first).text).any()
    assert {n: checkup.bad[n] for n in (5, 13)} == {n: loaded(first).bad[n] for n in (5, 13)}
    assert summary.faults["unreadable"] == 2
    assert [summary.bad, checkup.bad[3].fault] == [3, "no target"]
    log.unlink()
    diagnose([replace(second, rule=replace(RULE, frames=3))], workers, progress=False)
    assert sum(count_openings(log).values()) == 9  # another rule is another look


def test_what_was_mended_since_the_first_stage_is_read_when_asked_for(root: Path, log: Path) -> None:
    diagnose([patient(root, log, prompt="plain")], 0, progress=False)
    log.unlink()
    with_bytes(root / "5.mp4", (root / "4.mp4").read_bytes())
    diagnose([patient(root, log)], 0, retry=True, progress=False)
    assert count_openings(log) == {"5.mp4": 1}
    assert loaded(patient(root, log)).frames.tolist() == [5] * 16
    log.unlink()
    with_bytes(root / "5.mp4", b"")
    diagnose([one := patient(root, log, slots="first")], 0, progress=False)
    assert not log.exists()  # what one of the two could read counts
    assert not loaded(one).bad


class Hired:
    """Writes down each process that it comes to."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def __setstate__(self, state: dict) -> None:
        self.__dict__ |= state
        with open(self.log, "a") as log:
            log.write(f"{os.getpid()} here\n")

    def pause(self, job: Sequence[int]) -> list[int]:
        return [2 * one for one in job]


def test_no_more_processes_than_jobs(log: Path) -> None:
    with Workers(Hired(log), 16) as pool:
        assert [*pool.each("pause", [])] == []
        assert not log.exists()
        assert [*pool.each("pause", [[1, 2]])] == [([1, 2], [2, 4])]
        assert len(log.read_text().splitlines()) == 1
        assert sorted(done for _, done in pool.each("pause", [[n] for n in range(3)])) == [[0], [2], [4]]
        processes = pool.pool
        assert [done for _, done in pool.each("pause", [[7]])] == [[14]]
        assert pool.pool is processes  # those that are there go on
    assert 1 < len(log.read_text().splitlines()) <= 4  # one of the first pool, at most three of the second
