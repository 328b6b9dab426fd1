"""Benchmarks that frame selection is measured on elsewhere: rows of our own words, prompts as text, tables by hand."""

from pathlib import Path
from typing import Any

import pytest
from benchmark_files import ask, judge, predict, read, table, write

from datamodules.benchmark import BenchmarkRows
from dynfocus.errors import DataError
from dynfocus.evals.benchmarks import BENCHMARKS
from dynfocus.evals.protocol import Value, digest_prompts
from dynfocus.records.rows import FrameFiles, VideoSegment

FIVE = ["to eat", "to run", "to hide", "to run", "to drink"]
ALONE = "Answer with the letter of the right option alone."


def lvb_row(number: int, group: int, category: str, **more: Any) -> dict[str, Any]:
    facts = {
        "video_id": f"@x-{number}",
        "id": f"{number}_0",
        "question": "What is it?",
        "candidates": ["A cup", "Bees", "C"],
    }
    facts |= {"correct_choice": 1, "question_category": category, "video_path": f"{number}.mp4"}
    facts |= {"subtitle_path": f"{number}_en.json", "duration_group": group, "duration": 20.0}
    return facts | {"starting_timestamp_for_subtitles": 10} | more


def as_parquet(row: dict[str, Any]) -> dict[str, Any]:
    options = [*row["candidates"], "N/A", "N/A"]
    return {name: value for name, value in row.items() if name != "candidates"} | {
        f"option{n}": option for n, option in enumerate(options)
    }


LVB = [lvb_row(1, 15, "S2E"), lvb_row(2, 3600, "TAA"), lvb_row(3, 3600, "T2O", correct_choice=2)]
LINES = [
    {"start": "00:00:11.000", "end": "00:00:13.500", "line": "one\nline"},
    {"start": "00:00:15.100", "end": "00:00:15.300", "line": "short"},
    {"start": "00:00:16.000", "end": "00:00:17.000", "line": "between frames"},
    {"start": "00:01:00.000", "end": "00:01:01.000", "line": "after the clip"},
]
TIMES = [{"timestamp": [14.0, 16], "text": "whole"}, {"timestamp": [29.5, None], "text": "open"}]
SUBTITLES = {"subtitles/1_en.json": LINES, "subtitles/2_en.json": TIMES}


@pytest.mark.parametrize("form", ["lvb_val.json", "validation-00000-of-00001.parquet"])
def test_long_video_bench_shows_subtitles_by_the_clock_of_the_clip(tmp_path: Path, form: str) -> None:
    rows = LVB if form.endswith("json") else [as_parquet(row) for row in LVB]
    first, second, third = read("longvideobench", tmp_path, {form: rows, **SUBTITLES})
    assert (first.id, first.video, first.question.options) == ("1_0", "1.mp4", ("A cup", "Bees", "C"))
    head = "Subtitles in the order of time:"
    plain = f"Question: What is it?\nA. A cup\nB. Bees\nC. C\n{ALONE}"
    assert ask("longvideobench", first, [0.0, 2.0, 5.0, 7.0]) == f"{head}\none line\nshort\n{plain}"
    assert ask("longvideobench", first, [0.0, 1.0, 3.5]) == ask("longvideobench", third, [2.0]) == plain
    assert ask("longvideobench", second, [4.5, 19.8]) == f"{head}\nwhole\nopen\n{plain}"
    assert judge("longvideobench", [first, second, third], ["B", "C. C", "the answer is C"]) == {
        **{"15 s": 100, "3600 s": 50, "Overall": 66.67, "type/L1-Perception": 100, "type/L2-Relation": 0},
        **{"type/S2E": 100, "type/T2O": 100, "type/TAA": 0},
    }


def test_long_video_bench_is_asked_without_subtitles_too(tmp_path: Path) -> None:
    first, *_ = read("longvideobench-no-subtitles", tmp_path, {"lvb_val.json": LVB, **SUBTITLES})
    assert ask("longvideobench-no-subtitles", first, [0.0, 2.0]).startswith("Question: What is it?\nA. A cup")
    with_them = read("longvideobench", tmp_path, {})
    prompts = [digest_prompts(BENCHMARKS["longvideobench"], items) for items in (with_them, [first, *_])]
    assert prompts[0] != prompts[1], "subtitles are part of what is asked"


def test_long_video_bench_without_any_subtitles_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no subtitles, such as subtitles/1_en.json"):
        read("longvideobench", tmp_path, {"lvb_val.json": LVB})


EGO = ["C eats.", "C runs.", "C hides.", "C runs.", "C drinks."]
EGO_LETTERS = [f"{letter}. {option}" for letter, option in zip("ABCDE", EGO, strict=True)]
EGO_ROWS = [{"q_uid": uid, "question": "Why?", **{f"option {n}": one for n, one in enumerate(EGO)}} for uid in "xyz"]
EGO_PARQUET = [{"question_idx": "0", "question": "Why?", "video_idx": uid, "option": EGO_LETTERS} for uid in "xyz"]
EGO_CSV = "\r\n".join(
    [
        ",video_name,question_id,question,answer,a0,a1,a2,a3,a4",
        f"1,x,g,Why?,C drinks.,{','.join(EGO)}",
        f"2,z,g,Why?,C eats.,{','.join(EGO)}",
        "",
    ]
)
EGO_FORMS: dict[str, dict[str, Any]] = {
    "questions": {"questions.json": EGO_ROWS, "subset_answers.json": {"x": 4, "z": 0}},
    "parquet": {"MC/test-00000-of-00001.parquet": EGO_PARQUET, "subset_answers.json": {"x": 4, "z": 0}},
    "subset": {
        "Subset/test-00000-of-00001.parquet": [
            {**row, "answer": answer} for row, answer in zip(EGO_PARQUET[::2], ("4", "0"), strict=True)
        ]
    },
    "csv": {"EgoSchema.csv": EGO_CSV},
}


@pytest.mark.parametrize("form", EGO_FORMS)
def test_every_form_of_egoschema_gives_the_subset(tmp_path: Path, form: str) -> None:
    items = read("egoschema", tmp_path, EGO_FORMS[form])
    assert [(one.id, one.video, one.question.meta["letter"], one.question.answer) for one in items] == [
        ("x", "x", "E", "C drinks."),
        ("z", "z", "A", "C eats."),
    ]
    shown = "Why?\nA. C eats.\nB. C runs.\nC. C hides.\nD. C runs.\nE. C drinks."
    assert {ask("egoschema", one) for one in items} == {f"{shown}\n{ALONE}"}
    assert judge("egoschema", items, ["C drinks", "C walks away"]) == {"Subset": 50}


def test_all_of_egoschema_is_asked_for_the_authors_server(tmp_path: Path) -> None:
    items = read("egoschema", tmp_path, EGO_FORMS["questions"], "full")
    assert [(one.id, one.question.meta["letter"]) for one in items] == [("x", "E"), ("y", None), ("z", "A")]
    predictions = [predict(item, answer) for item, answer in zip(items, ("E", "(B)", "no idea"), strict=True)]
    benchmark = BENCHMARKS["egoschema"]
    assert benchmark.submit is not None
    assert benchmark.submit(benchmark.judge(predictions)) == {"x": 4, "y": 1}
    assert judge("egoschema", items, ["E", "B", "no idea"]) == {"Subset": 50}
    (tmp_path / "subset_answers.json").unlink()
    assert [one.question.meta["letter"] for one in read("egoschema", tmp_path, {}, "full")] == [None] * 3


NEXT_HEAD = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4"
TYPES = ("CW", "CH", "TN", "TP", "TC", "DC", "DL", "DO")
NEXT_CSV = "\n".join([NEXT_HEAD, *(f"10{n},9,6,4,why,3,{n},{t},{','.join(FIVE)}" for n, t in enumerate(TYPES)), ""])
IG_HEAD = ",video_name,frame_count,width,height,question,answer_number,question_id,question_type,a0,a1,a2,a3,a4,answer"
IG_CSV = "\r\n".join(
    [IG_HEAD, *(f"{n},10{n},9,6,4,why,3,10{n}{n},{t},{','.join(FIVE)},to run" for n, t in enumerate(TYPES)), ""]
)
NEXT_PARQUET = [
    {
        "video": f"10{n}",
        "question": "why",
        "answer": 3,
        "qid": str(n),
        "type": t,
        **{f"a{k}": a for k, a in enumerate(FIVE)},
    }
    for n, t in enumerate(TYPES)
]


@pytest.mark.parametrize(
    ("split", "files"),
    [
        ("test", {"nextqa/test.csv": NEXT_CSV}),
        ("test", {"MC/test-00000-of-00001.parquet": NEXT_PARQUET}),
        ("val", {"val.csv": NEXT_CSV}),
        ("val", {"NExT_QA.csv": IG_CSV}),
    ],
)
def test_every_form_of_nextqa_gives_the_same(tmp_path: Path, split: str, files: dict[str, Any]) -> None:
    items = read("nextqa", tmp_path, files | {"map_vid_vidorID.json": {"100": "07/100"}}, split)
    assert [(one.id, one.question.meta["letter"]) for one in items] == [(f"10{n}_{n}", "D") for n in range(8)]
    assert [one.video for one in items[:2]] == ["07/100.mp4", "101.mp4"]
    assert ask("nextqa", items[0]) == f"why\nA. to eat\nB. to run\nC. to hide\nD. to run\nE. to drink\n{ALONE}"
    answers = ["D", "B", "D.", "to run", "(D)", "D", "A", ""]  # of two options alike the text decides nothing
    assert judge("nextqa", items, answers) == {
        **{"Why": 100, "How": 0, "Bef&Aft": 50, "When": 100, "Cnt": 100, "Loc": 0, "Other": 0},
        **{"Acc_C": 50, "Acc_T": 66.67, "Acc_D": 33.33, "Acc": 50},
    }


def test_nextgqa_says_when_answers_are_seen(tmp_path: Path) -> None:
    times = {"101": {"duration": 9, "location": {"1": [[1.5, 3], [6, 7.25]], "2": [[0, 1]]}, "fps": 25.0}}
    files = {"nextqa/test.csv": NEXT_CSV, "nextqa/gsub_test.json": times}
    items = read("nextqa", tmp_path, files)
    assert [one.evidence for one in items[:3]] == [(), ((1.5, 3.0), (6.0, 7.25)), ()]  # 2 is another video's question
    ig = read("nextqa", tmp_path / "ig", {"NExT_QA.csv": IG_CSV, "gsub_val.json": times}, "val")
    assert [one.evidence for one in ig] == [one.evidence for one in items]


def test_nextqa_pools_its_groups_as_the_official_example() -> None:
    """The published example on val: its eight counts give C 46.26, T 50.74, D 59.33 and all 49.74."""
    counts = {"CW": 1924, "CH": 683, "TN": 895, "TP": 54, "TC": 663, "DC": 177, "DL": 295, "DO": 305}
    means = {"CW": 46.99, "CH": 44.22, "TN": 49.53, "TP": 49.53, "TC": 52.49, "DC": 44.07, "DL": 72.54, "DO": 55.41}
    values = [Value(key, "v", means[key] / 100) for key, count in counts.items() for _ in range(count)]
    columns = table("nextqa", values)
    assert [columns[name] for name in ("Acc_C", "Acc_T", "Acc_D", "Acc")] == pytest.approx(
        [46.26, 50.74, 59.33, 49.74], abs=0.011
    )


def test_the_hard_questions_of_nextqa_are_rows_of_a_list(tmp_path: Path) -> None:
    files = {"nextqa/val.csv": NEXT_CSV, "atp_hard.txt": "4\n0, 1\n"}
    items = read("nextqa", tmp_path, files, "hard")
    assert [one.id for one in items] == ["104_4", "100_0", "101_1"]
    assert judge("nextqa", items, ["D", "D", "A"]) == {
        **{"Why": 100, "How": 0, "When": 100, "Acc_C": 50, "Acc_T": 100, "Acc": 66.67}
    }
    benchmark = BENCHMARKS["nextqa"]
    assert benchmark.submit is not None
    assert benchmark.submit(benchmark.judge([predict(items[0], "A"), predict(items[1], "?")])) == {
        **{"104_4": {"prediction": 0, "answer": 3}, "100_0": {"prediction": -1, "answer": 3}}
    }
    for listed, message in (("[0, 8]", "with '8'. Needed: numbers of rows from 0 to 7"), ("5", "row 5, a descriptive")):
        with pytest.raises(DataError, match=message):
            read("nextqa", tmp_path, {"atp_hard.txt": listed}, "hard")


def test_open_questions_of_nextqa_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no options a0 to a4"):
        read("nextqa", tmp_path, {"test.csv": "video,question,answer,qid,type\n1,why,run,0,CW\n"})


TASKS = [name.removeprefix("type/") for name in BENCHMARKS["mvbench"].columns if name.startswith("type/")]


def mv_row(**more: Any) -> dict[str, Any]:
    return {
        "video": "a.mp4",
        "question": "Which?",
        "candidates": ["A bag.", "A cup.", "A bag."],
        "answer": "A bag.",
    } | more


def test_mvbench_by_hand(tmp_path: Path) -> None:
    files = {f"json/{task}.json": [mv_row()] for task in TASKS}
    files["json/action_sequence.json"] = [mv_row(start=1.5, end=4), mv_row(answer="A hat.")]
    files["json/object_interaction.json"] = [mv_row(start=7.5, end=7.5, accurate_start=0.0, accurate_end=8.0)]
    items = read("mvbench", tmp_path, files)
    assert (len(TASKS), len(items)) == (20, 21)
    facts = {one.id: (one.video, one.span, one.question.meta["letter"]) for one in items}
    assert facts["action_sequence_0"] == ("star/Charades_v1_480/a.mp4", (1.5, 4.0), "C")
    assert facts["action_sequence_1"] == ("star/Charades_v1_480/a.mp4", None, None)
    assert facts["object_interaction_0"] == ("star/Charades_v1_480/a.mp4", (0.0, 8.0), "C")
    assert ask("mvbench", items[0]) == (
        "Question: Which?\nOptions:\n(A) A bag.\n(B) A cup.\n(C) A bag.\nOnly give the best option."
    )
    answers = ["(C)" if one.id.endswith("0") else "A" for one in items]
    result = judge("mvbench", items, answers)
    assert (result["Avg"], result["Avg of 19"], result["type/action_sequence"]) == (97.5, 97.37, 50)
    assert judge("mvbench", items[:2], ["", "("]) == {"type/action_sequence": 0}  # upstream takes both for right
    without = [one for one in items if one.question.group != "fine_grained_pose"]
    assert "Avg" not in judge("mvbench", without, ["C"] * len(without))


def test_videos_of_the_same_name_are_never_swapped(tmp_path: Path) -> None:
    files: dict[str, Any] = {f"json/{task}.json": [mv_row()] for task in TASKS}
    files |= {"video/clevrer/video_validation/a.mp4": "clevrer", "video/sta/sta_video/A.MP4": "sta"}
    frames = [f"video/tvqa/frames_fps3_hq/clip/{n:05}.jpg" for n in range(1, 7)]
    files |= {"json/episodic_reasoning.json": [mv_row(video="clip", start=0.5, end=1.5)], **dict.fromkeys(frames, "")}
    files["json/action_localization.json"] = [mv_row(start=2, end=3)]
    items = read("mvbench", tmp_path, files)
    rows = BenchmarkRows("mvbench", write(tmp_path, {}), items)
    place = {one.question.group: n for n, one in enumerate(items)}
    found = {task: rows.paths[str(items[n].video)] for task, n in place.items()}
    assert {task: path for task, path in found.items() if path} == {
        **{task: "video/clevrer/video_validation/a.mp4" for task in TASKS if task.startswith("moving")},
        **dict.fromkeys(("object_existence", "counterfactual_inference"), "video/clevrer/video_validation/a.mp4"),
        **{"action_localization": "video/sta/sta_video/A.MP4", "episodic_reasoning": "video/tvqa/frames_fps3_hq/clip"},
    }
    assert rows.find(rows[place["action_localization"]]) == VideoSegment(tmp_path / "video/sta/sta_video/A.MP4", 2, 3)
    media = rows.find(rows[place["episodic_reasoning"]])
    assert media == FrameFiles(tuple(tmp_path / one for one in frames), tuple(n / 3 for n in range(6)), 0.5, 1.5)
    assert "perception/videos/a.mp4" in rows.missing


def test_videos_that_are_cut_already_are_not_cut_again(tmp_path: Path) -> None:
    root = {task: f"star/Charades_segment/{task}/" for task in TASKS}
    content = {"root": root, "meta": {task: [mv_row(start=2, end=3)] for task in TASKS}}
    items = read("mvbench", tmp_path, {"test.json": content})
    assert {one.span for one in items} == {None}
    assert items[0].video == "star/Charades_segment/action_sequence/a.mp4"


def test_lines_are_those_that_a_newline_ends(tmp_path: Path) -> None:
    """Other separators of lines may stand within a text."""
    files = write(tmp_path, {"a.jsonl": '{"a": "x\u2028y\x85"}\n \n{"a": "z"}\r\n', "a.csv": "a,b\r\nx\u2028y,1\r\n"})
    assert files.read_json_lines("a.jsonl") == [{"a": "x\u2028y\x85"}, {"a": "z"}]
    assert files.read_csv("a.csv") == [{"a": "x\u2028y", "b": "1"}]
