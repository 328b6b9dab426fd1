"""Further published forms, and files that hold rows packed: gzip, parquet, folders of Hugging Face, tars of videos."""

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from make_videos import write_video
from PIL import Image

from dynfocus.cli import main
from dynfocus.data.annotations.dataset import Annotations
from dynfocus.data.annotations.sources import FormatName, Source
from dynfocus.errors import DataError
from dynfocus.records.rows import Turn

TALK = [{"from": "human", "value": "<video>\nWho waves?"}, {"from": "gpt", "value": "The baker."}]
ROWS = [{"id": str(n), "video": f"{n}.mp4", "conversations": TALK} for n in range(3)]
TURNS = (Turn("Who waves?", "The baker."),)


def open_rows(folder: Path, file: str, form: FormatName = "conversations", **options: Any) -> Annotations:
    return Annotations(Source("set", file, form, **options), folder, folder / "index")


def read(folder: Path, rows: list[Any], form: FormatName, **options: Any) -> Annotations:
    (folder / "rows.json").write_text(json.dumps(rows))
    return open_rows(folder, "rows.json", form, **options)


@pytest.mark.parametrize(
    "row",
    [
        {"query": "<video>Who waves?", "response": "The baker."},
        {"instruction": "<video>Who waves?", "input": "", "output": "The baker."},
        {"question": "Who waves?", "answer": "The baker."},
        {"prompt": "Who waves?", "response": "The baker."},
    ],
)
def test_one_question_and_its_answer(tmp_path: Path, row: dict[str, str]) -> None:
    for shown in ({"videos": ["a.mp4"]}, {"video": "a.mp4", "id": 7, "system": "Be brief."}):
        (one,) = read(tmp_path, [row | shown], "query_response")
        assert (one.media, one.turns, one.id) == ("a.mp4", TURNS, str(shown.get("id", 0)))
        assert one.system == shown.get("system")


def test_questions_with_history_input_and_captions(tmp_path: Path) -> None:
    rows: list[Any] = [
        {"query": "Then?", "response": "He left.", "history": [["<video>Who waves?", "The baker."]], "video": "a.mp4"},
        {"instruction": "Put it in English.", "input": "el pan", "output": "the bread"},
        {"video": "a.mp4", "caption": "a baker waves"},
        {"video": "a.mp4", "query": "Who?"},
    ]  # fmt: skip
    result = read(tmp_path, rows, "query_response")
    assert result[0].turns == (*TURNS, Turn("Then?", "He left."))
    assert result[1].turns == (Turn("Put it in English.\nel pan", "the bread"),)
    assert (result[2].turns[0].answer, bool(result[2].turns[0].question)) == ("a baker waves", True)
    with pytest.raises(DataError, match="row 3"):
        result[3]


@pytest.mark.parametrize("key", ["options", "choices", "candidates"])
def test_options_follow_the_question(tmp_path: Path, key: str) -> None:
    (one,) = read(
        tmp_path, [{"question": "Who?", key: ["she", "he"], "answer": "A", "video": "a.mp4"}], "query_response"
    )
    assert one.turns == (Turn("Who?\n(A) she (B) he", "A"),)


def test_clevrers_own_questions(tmp_path: Path) -> None:
    def option(number: int, text: str, answer: str) -> dict[str, Any]:
        return {"choice_id": number, "choice": text, "program": [], "answer": answer}

    video = {"scene_index": 7, "video_filename": "video_00007.mp4"}
    questions = [
        {
            "question_id": 0,
            "question": "What is cyan?",
            "question_type": "descriptive",
            "program": [],
            "answer": "cube",
        },
        {
            **{"question_id": 1, "question": "What comes next?", "question_type": "predictive", "program": []},
            "choices": [option(0, "the cube turns", "wrong"), option(1, "the ball stops", "correct")],
        },
        {
            **{"question_id": 2, "question": "Why?", "question_type": "explanatory", "program": []},
            "choices": [option(0, "the cube", "correct"), option(1, "the ball", "correct"), option(2, "x", "wrong")],
        },
        {"question_id": 3, "question": "If?", "question_type": "counterfactual", "choices": [option(0, "x", "wrong")]},
    ]
    (tmp_path / "video_00000-01000").mkdir()
    (tmp_path / "video_00000-01000/video_00007.mp4").touch()
    rows = read(tmp_path, [video | {"questions": questions}], "clevrer", rounds=1)
    assert [row.turns[0] for row in rows] == [
        Turn("What is cyan?", "cube"),
        Turn("What comes next?\nOptions: (A) the cube turns (B) the ball stops", "(B) the ball stops"),
        Turn("Why?\nOptions: (A) the cube (B) the ball (C) x", "(A) the cube (B) the ball"),
        Turn("If?\nOptions: (A) x", "None of them."),
    ]
    assert {row.id for row in rows} == {"7"}
    assert rows.find(rows[0]) == tmp_path / "video_00000-01000/video_00007.mp4"
    with pytest.raises(DataError, match="row 0"):
        read(tmp_path, [video | {"questions": [{"question": "What?"}]}], "clevrer")[0]


def test_sharegpt4video(tmp_path: Path) -> None:
    captions = [{"idx": "0", "content": "first a gate"}, {"idx": "-1", "content": "A gate opens; a dog runs out."}]
    row = {"video_id": "k1", "video_path": "mixit/k1.mp4", "captions": captions, "zip_folder": "mixit.zip"}
    row |= {"timestamp": ["00:00:00.000", "00:00:07.000"], "keyframe": [0, 90]}
    rows = read(tmp_path, [row, row | {"captions": captions[:1]}], "sharegpt4video")
    assert (rows[0].id, rows[0].media, rows[0].span) == ("k1", "mixit/k1.mp4", None)
    assert rows[0].turns[0].answer == "A gate opens; a dog runs out."
    with pytest.raises(DataError, match="row 1"):
        rows[1]


@pytest.mark.parametrize("name", ["rows.json.gz", "rows.jsonl.gz"])
def test_gzip(tmp_path: Path, name: str) -> None:
    text = json.dumps(ROWS) if "jsonl" not in name else "\n".join(map(json.dumps, ROWS))
    (tmp_path / name).write_bytes(gzip.compress(text.encode()))
    rows = open_rows(tmp_path, name)
    assert [(row.id, row.media) for row in rows] == [(row["id"], row["video"]) for row in ROWS]
    (tmp_path / name).write_bytes(gzip.compress(json.dumps(ROWS[:1]).encode()))
    assert len(open_rows(tmp_path, name)) == 1
    (tmp_path / name).write_bytes(gzip.compress(text.encode())[:-20])
    with pytest.raises(DataError, match=r"rows\.json.*gz"):
        open_rows(tmp_path, name)


def test_a_table_in_gzip(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"videoid,page_dir,name\n12,p,a gate\n"))
    assert open_rows(tmp_path, "a.csv.gz", "webvid")[0].media == "p/12.mp4"


def png(side: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (side, side)).save(stream, "PNG")
    return stream.getvalue()


def test_parquet(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    assert [row.turns for row in open_rows(tmp_path, "rows.parquet")] == [TURNS] * 3
    clips = [{"videoid": 12, "page_dir": "p", "name": "a gate"}]
    pq.write_table(pa.Table.from_pylist(clips), tmp_path / "clips.parquet")
    assert open_rows(tmp_path, "clips.parquet", "webvid")[0].media == "p/12.mp4"
    talk = [{"role": "user", "content": "<image>Who?"}, {"role": "assistant", "content": "He."}]
    shown = [{"messages": talk, "images": [{"bytes": png(side), "path": None}]} for side in (3, 5)]
    pq.write_table(pa.Table.from_pylist(shown), tmp_path / "shown.parquet")
    rows = open_rows(tmp_path, "shown.parquet")
    paths = [rows.find(row) for row in rows]
    assert [Path(str(path)).read_bytes() for path in paths] == [png(3), png(5)]
    assert len({rows.address(row) for row in rows}) == 2
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match=r"bad\.parquet"):
        open_rows(tmp_path, "bad.parquet")


@pytest.mark.parametrize("inside", ["", "train/"])
def test_a_folder_of_hugging_faces_datasets(tmp_path: Path, inside: str) -> None:
    pa = pytest.importorskip("pyarrow")
    folder = tmp_path / "saved" / inside
    folder.mkdir(parents=True)
    names = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    for n, name in enumerate(names):
        table = pa.Table.from_pylist(ROWS[2 * n : 2 * n + 2])
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
    (folder / "cache-1.arrow").write_bytes(b"of no use")
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    assert [row.id for row in open_rows(tmp_path, "saved")] == ["0", "1", "2"]


def test_a_folder_of_parquet_by_split(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (tmp_path / "hub" / "data").mkdir(parents=True)
    for n, name in enumerate(("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001")):
        pq.write_table(pa.Table.from_pylist(ROWS[n : n + 1]), tmp_path / f"hub/data/{name}.parquet")
    assert [row.id for row in open_rows(tmp_path, "hub")] == ["0", "1"]
    assert [row.id for row in open_rows(tmp_path, "hub", split="test")] == ["2"]


def test_a_tar_of_raw_videos(tmp_path: Path) -> None:
    video = write_video(tmp_path / "source.mp4", count=5).read_bytes()
    captioned = {"a.txt": b"a gate opens", "a.mp4": video, "b.mp4": video, "b.txt": b"a dog runs"}
    asked = {"x/1.mp4": video, "x/1.json": json.dumps({"id": "k", "video": "1.mp4", "conversations": TALK}).encode()}
    for name, members in (("c.tar", captioned), ("q.tar", asked), ("z.tar.gz", asked)):
        with tarfile.open(tmp_path / name, "w:gz" if "gz" in name else "w") as tar:
            for member, data in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    rows = open_rows(tmp_path, "c.tar", "query_response")
    assert [(row.id, row.turns[0].answer) for row in rows] == [("a", "a gate opens"), ("b", "a dog runs")]
    assert [Path(str(rows.find(row))).read_bytes() == video for row in rows] == [True, True]
    for name in ("q.tar", "z.tar.gz"):
        (row,) = open_rows(tmp_path, name)
        assert (row.id, row.turns) == ("k", TURNS)


def test_members_of_a_tar_stay_where_they_belong(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "bad.tar", "w") as tar:
        for member, data in (("../../out.mp4", b"video"), ("../../out.txt", b"a gate")):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    rows = open_rows(tmp_path, "bad.tar", "query_response")
    assert (tmp_path / "index") in Path(str(rows.find(rows[0]))).parents


def test_a_table_of_questions_and_answers(tmp_path: Path, capsys: Any) -> None:
    lines = 'video,question,answer\na.mp4,Who waves?,The baker.\n,Who?,\nb.mp4,<video>Who?,"A, B"\n'
    (tmp_path / "qa.csv").write_text(lines)
    rows = open_rows(tmp_path, "qa.csv", "query_response")
    assert (rows[0].id, rows[0].media, rows[0].turns) == ("0", "a.mp4", TURNS)
    assert rows[2].turns == (Turn("Who?", "A, B"),)
    with pytest.raises(DataError, match="row 1"):
        rows[1]
    (tmp_path / "other.csv").write_text("video_name,question,answer\na,Who waves?,The baker.\n")
    with pytest.raises(DataError, match="'video_name', which nobody reads"):
        open_rows(tmp_path, "other.csv", "query_response")[0]
    (tmp_path / "qa.csv.gz").write_bytes(gzip.compress(lines.encode()))
    assert open_rows(tmp_path, "qa.csv.gz", "query_response")[0].turns == TURNS
    assert main(["doctor", "--file", str(tmp_path / "qa.csv")]) == 0
    assert "format: query_response, in a CSV table" in capsys.readouterr().out
    assert main(["doctor", "--file", str(tmp_path / "other.csv")]) == 1
    assert "video_name, question, answer" in capsys.readouterr().err
