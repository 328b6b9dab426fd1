"""Index files of every form, out and in again: the same frames, in one unit that the form names."""

import json
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from make_videos import numbered_frame, write_video

from dynfocus.bridge.choose import select
from dynfocus.bridge.convert import find_nearest, pick_row, resolve_index
from dynfocus.bridge.index_files import FORMS, IndexRow, read_index, write_index
from dynfocus.bridge.picked import Picked
from dynfocus.bridge.rows import Asked, Chosen, read_questions
from dynfocus.cli import main
from dynfocus.errors import DataError, MissingFileError

SAMPLES = Path(__file__).parents[3] / "shared" / "samples" / "index-files"
MILLIS = [0, 40, 80, 400, 410, 900, 1500, 1501, 2750, 3000, 3001, 3002, 9000]


def write_ntsc(path: Path, count: int = 60) -> Path:
    """A clip at 30000/1001 frames a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(30000, 1001))
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        for number in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_frame(number), "rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def questions(tmp_path: Path) -> list[Asked]:
    """Three questions about a clip at 29.97 frames a second and one whose rate varies."""
    write_ntsc(tmp_path / "ntsc.mp4")
    write_video(tmp_path / "vfr.mkv", len(MILLIS), millis=MILLIS)
    rows = [
        {"id": "n1", "video": "ntsc.mp4", "question": "who waves"},
        {"id": "v1", "video": "vfr.mkv", "question": "what falls"},
        {"id": "n2", "video": "ntsc.mp4", "question": "what is left"},
    ]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_questions(tmp_path / "q.jsonl")


def chosen(questions: list[Asked]) -> list[Chosen]:
    """Frames of each question with scores, as `dynfocus select` leaves them."""
    result = []
    for asked, keep in zip(questions, (5, 4, 7), strict=True):
        picked = select(asked.path, asked.question, keep, "random", fps=1000.0)
        result.append(Chosen.of(asked, picked, "random", "pixels", keep))
    return result


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read_back_as_the_same_frames(form: str, questions: list[Asked], tmp_path: Path) -> None:
    rows, file = chosen(questions), tmp_path / "index"
    write_index(file, form, rows)
    back = resolve_index(read_index(file, form), questions, "index")
    assert [row.frames for row in back] == [row.frames for row in rows]
    assert [row.seconds for row in back] == [row.seconds for row in rows]
    if form in ("jsonl", "videoitg"):
        assert [row.scores for row in back] == [row.scores for row in rows]


def test_the_forms_are_those_that_others_read(questions: list[Asked], tmp_path: Path) -> None:
    rows = chosen(questions)
    for form in FORMS:
        write_index(tmp_path / form, form, rows)
    first, seconds = rows[0], [round(second, 6) for second in rows[0].seconds]
    assert json.loads((tmp_path / "aks").read_text()) == [list(row.frames) for row in rows]
    tspo = json.loads((tmp_path / "tspo").read_text())
    assert tspo[0] == {"id": "n1", "video": "ntsc.mp4", "question": "who waves", "frame_idx": list(first.frames)}
    bolt = json.loads((tmp_path / "bolt").read_text())
    assert bolt["ntsc"][0] == {"question_id": "n1", "question": "who waves", "frames": seconds}
    assert [row["question_id"] for row in bolt["ntsc"] + bolt["vfr"]] == ["n1", "n2", "v1"]
    assert json.loads((tmp_path / "kfs").read_text())[0] == {"id": "n1", "frame_timestamps": seconds}
    itg = [json.loads(line) for line in (tmp_path / "videoitg").read_text().splitlines()]
    assert [row["doc_id"] for row in itg] == [0, 1, 2]
    assert itg[0]["scores"] == sorted(first.scores or (), reverse=True)
    assert sorted(itg[0]["frames"]) == list(first.frames)
    assert (tmp_path / "csv").read_text().splitlines()[:2] == ["id,frames", "n1," + " ".join(map(str, first.frames))]
    assert (tmp_path / "csv-seconds").read_text().startswith("id,seconds\nn1,")


@pytest.mark.parametrize("name", ["ntsc.mp4", "vfr.mkv"])
def test_every_frame_is_the_same_in_frames_and_in_seconds(name: str, questions: list[Asked]) -> None:
    """Also where seconds are rounded to milliseconds, as many files have them."""
    video = questions[0].path.parent / name
    whole = pick_row(video, IndexRow(0, None, "frames", tuple(range(13))))
    for digits in (3, 6):
        seconds = tuple(round(second, digits) for second in whole.seconds)
        assert pick_row(video, IndexRow(0, None, "seconds", seconds)) == whole


def test_a_time_between_two_frames_is_the_nearer_one() -> None:
    times = np.array([0.0, 1.0, 3.0])
    assert find_nearest(times, [0, 0.5, 0.51, 1.9, 2.1, 3.9]) == [0, 0, 1, 1, 2, 2]
    assert find_nearest(np.array([0.0]), [0.0]) == [0]


def test_repeated_frames_count_once(questions: list[Asked], tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(
        json.dumps({"ntsc": [{"question_id": "n1", "question": "", "frame_indices": [1.0, 0.5, 1.0]}]})
    )
    back = resolve_index(read_index(tmp_path / "a.json", "bolt"), questions[:1], "a.json")
    assert back[0].frames == (15, 30)
    assert isinstance(back[0].picked(tmp_path), Picked)
    assert len(back[0].picked(tmp_path).images()) == 2


WRONG = [
    ("kfs", [{"id": "n1", "frame_idx": [3]}], "frame_idx"),
    ("kfs", [{"id": "n1", "frame_timestamps": [3.0], "frames": [3]}], "another unit"),
    ("bolt", {"ntsc": [{"question_id": "n1", "frames": [1.0], "frame_idx": [3]}]}, "another unit"),
    ("tspo", [{"id": "n1", "frame_idx": [3], "frame_timestamps": [0.1]}], "another unit"),
    ("tspo", [{"id": "n1", "frame_idx": [0.5, 1.5]}], "no number of a frame"),
    ("aks", [[1.5]], "no number of a frame"),
    ("aks", [[3.0, 17.0]], "no number of a frame"),  # times are written so
    ("tspo", [{"id": "n1", "frame_idx": [3.0]}], "no number of a frame"),
    ("tspo", [{"id": "n1", "frame_idx": [3], "seconds": [0.1]}], "another unit"),
    ("bolt", {"ntsc": [{"question_id": "n1", "frames": [1.0], "frame_indices": [3.0]}]}, "another unit"),
    ("bolt", {"ntsc": [{"question_id": "n1", "frames": [1.0], "seconds": [3.0]}]}, "another unit"),
    ("kfs", [{"id": "n1", "frame_timestamps": [3.0], "seconds": [3.0]}], "another unit"),
    ("jsonl", {"id": "n1", "frames": [3], "seconds": [0.1], "frame_idx": [3]}, "another unit"),
    ("jsonl", {"id": "n1", "frames": [3.0], "seconds": [0.1]}, "no number of a frame"),
    ("videoitg", {"doc_id": 0, "frames": [3.0], "scores": [1]}, "no number of a frame"),
    ("videoitg", {"doc_id": 0, "frames": [3], "scores": [1], "frame_idx": [3]}, "another unit"),
    ("aks", [[-1]], "no number of a frame"),
    ("aks", [["1"]], "no list of numbers"),
    ("aks", [[True]], "no list of numbers"),
    ("aks", {"ntsc": [{"question_id": "n1", "frames": [1.0]}]}, "no list of numbers"),
    ("kfs", [{"id": "n1", "frame_timestamps": [-0.5]}], "no time"),
    ("kfs", [{"id": "n1", "frame_timestamps": [float("nan")]}], "no time"),
    ("aks", [[float("inf")]], "no number of a frame"),
    ("aks", [[10**400]], "no index file"),
]


@pytest.mark.parametrize(("form", "content", "told"), WRONG)
def test_files_of_another_unit_are_refused(form: str, content: object, told: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=told):
        read_index(tmp_path / "a.json", form)


@pytest.mark.parametrize(
    ("form", "text", "told"),
    [
        ("csv", "id,indices\nn1,3\n", "which is the unit"),
        ("csv", "id,frames,seconds\nn1,3,0.1\n", "another unit"),
        ("csv", "id,seconds\nn1,3 4\n", "id and frames, which is the unit"),
        ("csv-seconds", "id,frames\nn1,3 4\n", "id and seconds, which is the unit"),
        ("csv-seconds", "id,seconds,frame_idx\nn1,3.5,4\n", "another unit"),
        ("csv", "id,frames\nn1\n", "without a cell a column"),
        ("csv", "n1,3 4\n", "which is the unit"),
        ("csv", "id,frames\nn1,3 4.5\n", "no number of a frame"),
        ("videoitg", '{"doc_id": 0, "frames": [3, 4], "scores": [0.1, 0.2]}\n', "the highest first"),
        ("videoitg", '{"doc_id": 0, "frames": [3, 4], "scores": [0.1]}\n', "as many"),
        ("jsonl", '{"id": "n1", "frames": [3, 4], "seconds": [0.1]}\n', "2 frames and 1 seconds"),
        ("jsonl", '{"id": "n1", "frames": [3]}\n', "seconds"),
        ("jsonl", '{"id": "n1", "frames": [3], "seconds": [0.1], "scores": [NaN]}\n', "finite"),
        ("jsonl", '{"id": "n1", "frames": [3], "seconds": [0.1], "scores": [1, 2]}\n', "as many"),
        ("videoitg", '{"doc_id": 0.5, "frames": [3], "scores": [1]}\n', "no number of a frame"),
        ("videoitg", '{"doc_id": 0, "frames": [3, 4], "scores": [NaN, 1]}\n', "finite"),
        ("csv", "id,frames\nn1,3,4\n", "without a cell a column"),
        ("aks", "[" * 100_000, "no index file"),
        ("aks", "[[1, 2", "no index file"),
    ],
)
def test_text_that_is_not_of_the_form_is_refused(form: str, text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text(text)
    with pytest.raises(DataError, match=told):
        read_index(tmp_path / "a", form)


@pytest.mark.parametrize(("form", "text"), [("csv", "id,frames\r\nn1,3 4\r\n"), ("aks", "[[3, 4]]")])
def test_a_byte_order_mark_is_passed_over(form: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_index(tmp_path / "a", form)[0].values == (3, 4)


def test_numbers_outside_the_video_are_refused(questions: list[Asked], tmp_path: Path) -> None:
    for unit, values in (("frames", (60,)), ("seconds", (2.01,)), ("frames", ()), ("seconds", ())):
        with pytest.raises(DataError, match="index, row of 'n1'"):
            resolve_index([IndexRow(0, "n1", unit, values)], questions[:1], "index")  # type: ignore[arg-type]
    # Frame numbers that are read as seconds mostly lie outside.
    (tmp_path / "a.json").write_text('[{"id": "n1", "frame_timestamps": [30, 45]}]')
    with pytest.raises(DataError, match=r"seconds, from 0 to 2\.002"):
        resolve_index(read_index(tmp_path / "a.json", "kfs"), questions[:1], "a.json")


def test_frames_and_times_that_differ_are_of_another_video(questions: list[Asked], tmp_path: Path) -> None:
    rows = chosen(questions)
    write_index(tmp_path / "a.jsonl", "jsonl", rows)
    write_video(tmp_path / "ntsc.mp4", 60)  # ten frames a second by now
    with pytest.raises(DataError, match="Choose the frames again"):
        resolve_index(read_index(tmp_path / "a.jsonl", "jsonl"), questions, "a.jsonl")


def test_rows_and_questions_belong_together_one_by_one(questions: list[Asked]) -> None:
    named = [IndexRow(n, name, "frames", (1,)) for n, name in enumerate(("n1", "v1", "n2"))]
    placed = [IndexRow(n, None, "frames", (1,)) for n in range(3)]
    for rows in (named, named[::-1], placed, placed[::-1]):
        assert len(resolve_index(rows, questions, "index")) == 3
    for rows, told in (
        (named[:2], "no row of 'n2'"),
        ([*named, named[0]], "two rows of 'n1'"),
        ([*named, IndexRow(3, "x", "frames", (1,))], "a row of 'x', which is no question"),
        (placed[:2], "no row of '2'"),
        ([*placed, IndexRow(7, None, "frames", (1,))], "a row of '7', which is no question"),
    ):
        with pytest.raises(DataError, match=told):
            resolve_index(rows, questions, "index")


def test_a_form_that_needs_scores_says_so(questions: list[Asked], tmp_path: Path) -> None:
    row = chosen(questions[:1] + questions[1:])[0]
    bare = Chosen(*[getattr(row, name) for name in list(row.__dataclass_fields__)[:-1]])
    with pytest.raises(DataError, match="which have no scores"):
        write_index(tmp_path / "a", "videoitg", [bare])
    assert not [name for name in os.listdir(tmp_path) if name.strip(".").startswith("a")]


def test_forms_and_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Did you mean bolt"):
        read_index(tmp_path / "a", "bolts")
    with pytest.raises(MissingFileError, match="an index file"):
        read_index(tmp_path / "a", "aks")


def test_the_command_line_converts(questions: list[Asked], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames, own = tmp_path / "frames.jsonl", ["--questions", str(tmp_path / "q.jsonl")]
    assert main(["select", *own, "--keep", "3", "--out", str(frames)]) == 0
    last, form = str(frames), "jsonl"
    for following in (*FORMS, "jsonl"):
        if following != "videoitg":  # the default selector scores frames by their places alone
            out = str(tmp_path / f"{following}.out")
            words = ["--from-index", last, "--from-form", form, "--form", following, "--out", out]
            assert main(["select", *own, *words]) == 0, capsys.readouterr().err
            last, form = out, following
    before = {row["id"]: row["frames"] for row in map(json.loads, frames.read_text().splitlines())}
    after = {row["id"]: row["frames"] for row in map(json.loads, Path(last).read_text().splitlines())}
    assert after == before


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="samples of published index files are not beside the project")
@pytest.mark.parametrize(
    ("name", "form", "unit"),
    [
        ("aks_selected_frames.json", "aks", "frames"),
        ("bolt_indices.json", "bolt", "seconds"),
        ("kfs_prediction.json", "kfs", "seconds"),
        ("videoitg_scores.jsonl", "videoitg", "frames"),
    ],
)
def test_published_samples_are_read(name: str, form: str, unit: str) -> None:
    rows = read_index(SAMPLES / name, form)
    assert rows
    assert {row.unit for row in rows} == {unit}
    assert all(len(row.values) >= 3 for row in rows)
