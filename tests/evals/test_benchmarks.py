"""Published benchmarks with open answers: rows of our own words in the published forms, and tables by hand."""

from pathlib import Path
from typing import Any

import pytest
from benchmark_files import judge, predict, rate, table, write

from dynfocus.errors import DataError
from dynfocus.evals.benchmarks import BENCHMARKS
from dynfocus.evals.protocol import Value

ASKED = [("what is cut?", "bread", 4), ("is it raining?", "no", 3), ("who runs?", "man", 0)]
NO_IDS = [("v1", *ASKED[0]), ("v1", *ASKED[1]), ("v2", *ASKED[2])]


def split_rows(rows: list[tuple[str, str, str, int]], ids: list[str]) -> tuple[list[Any], list[Any]]:
    questions = [
        {"video_name": row[0], "question": row[1], "question_id": id} for row, id in zip(rows, ids, strict=True)
    ]
    return questions, [{"answer": row[2], "type": row[3], "question_id": id} for row, id in zip(rows, ids, strict=True)]


def as_csv(rows: list[tuple[str, str, str, int]]) -> str:
    lines = [f'{n},{v},{a},"{q}",{v},{v}_{n},{t}' for n, (v, q, a, t) in enumerate(rows)]
    return "\r\n".join([",video_id,answer,question,video_name,question_id,question_type", *lines, ""])


UNIQUE = split_rows(NO_IDS, ["v1_0", "v1_1", "v2_0"])
BY_VIDEO = split_rows(NO_IDS, ["v1", "v1", "v2"])
FORMS = {
    "pairs by id, in another order": ("test", {"test_q.json": UNIQUE[0], "test_a.json": UNIQUE[1][::-1]}),
    "pairs by order": ("test", {"A_Zero_Shot_QA/test_q.json": BY_VIDEO[0], "A_Zero_Shot_QA/test_a.json": BY_VIDEO[1]}),
    "one csv": (None, as_csv(NO_IDS)),
    "one list": ("test", [{"video_name": v, "question": q, "answer": a} for v, q, a, _ in NO_IDS]),
}
LISTS = {"msvd-qa": "msvd_qa.json", "msrvtt-qa": "msrvtt_qa.json", "activitynet-qa": "activitynet_qa.json"}
TABLES = {
    "msvd-qa": ("val", "MSVD_QA.csv"),
    "msrvtt-qa": ("val", "MSRVTT_QA.csv"),
    "activitynet-qa": ("test", "ActivityNet_QA.csv"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", LISTS)
def test_every_form_of_open_questions_gives_the_same(tmp_path: Path, name: str, form: str) -> None:
    split, content = FORMS[form]
    if form == "one csv":
        split, file = TABLES[name]
        content = {file: content}
    elif form == "one list":
        content = {LISTS[name]: content}
    items = BENCHMARKS[name].read_items(write(tmp_path, content), str(split))
    assert [(one.id, one.video, one.question.text, one.question.answer) for one in items] == [
        (str(n), *row[:3]) for n, row in enumerate(NO_IDS)
    ]
    assert [BENCHMARKS[name].prompt(one.question, []) for one in items] == [row[1] for row in NO_IDS]
    typed = name == "activitynet-qa" and form != "one list"
    assert [one.question.group for one in items] == (["color", "yes-no", "motion"] if typed else [""] * 3)


def test_numbers_of_videos_find_their_files(tmp_path: Path) -> None:
    rows = [{"id": 7, "video_id": 12, "question": "q", "answer": "a"}]
    clips = [{"video_name": "abc_1_2", "question": "q", "answer": "a"}]
    files = write(tmp_path / "1", {"MSVD-QA/test_qa.json": rows, "MSRVTT-QA/test_qa.json": rows, "vid12.avi": ""})
    (item,) = BENCHMARKS["msvd-qa"].read_items(files, "test")
    assert files.find_video(str(item.video)) == "vid12.avi"
    files = write(tmp_path / "2", {"msvd_qa.json": clips, "youtube_mapping.txt": "abc_1_2 vid12\n", "vid12.avi": ""})
    (item,) = BENCHMARKS["msvd-qa"].read_items(files, "test")
    assert files.find_video(str(item.video)) == "vid12.avi"


def test_a_benchmark_is_not_taken_for_its_neighbour(tmp_path: Path) -> None:
    one, other = ([{"video_id": n, "id": 0, "question": f"q{n}", "answer": "a"}] for n in (1, 2))
    answers = [{"answer": "b"}]
    files = {"MSVD-QA/test_qa.json": one, "MSRVTT_Zero_Shot_QA/test_q.json": other}
    root = write(tmp_path, {**files, "MSRVTT_Zero_Shot_QA/test_a.json": answers})
    assert [BENCHMARKS[name].read_items(root, "test")[0].question.text for name in ("msvd-qa", "msrvtt-qa")] == [
        "q1",
        "q2",
    ]


@pytest.mark.parametrize("answers", [BY_VIDEO[1][:2], BY_VIDEO[1][::-1], []])
def test_answers_of_other_questions_are_refused(tmp_path: Path, answers: list[Any]) -> None:
    files = write(tmp_path, {"test_q.json": BY_VIDEO[0], "test_a.json": answers})
    with pytest.raises(DataError, match="answers of which some are not theirs"):
        BENCHMARKS["msvd-qa"].read_items(files, "test")


def test_a_row_that_is_not_as_published_is_named(tmp_path: Path) -> None:
    files = write(
        tmp_path, {"msvd_qa.json": [{"video_name": "v", "question": "q", "answer": "a"}, {"video_name": "v"}]}
    )
    with pytest.raises(DataError, match=r"msvd-qa below .*row after 1 questions cannot be read \(KeyError: 'question'"):
        BENCHMARKS["msvd-qa"].read_items(files, "test")


def test_open_answers_by_hand(tmp_path: Path) -> None:
    truths = ("run", "left", "before", "yes", "red", "dog", "park", "two", "home")
    rows = [("v", "q", truth, kind) for kind, truth in enumerate(truths)]
    files = write(tmp_path, {"ActivityNet_QA.csv": as_csv([*rows, *rows[3:5]])})
    items = BENCHMARKS["activitynet-qa"].read_items(files, "test")
    answers = ["Run.", "right", "", "Yes, it is", "red", "the dogs", "sea", "2", "home", "no", "blue"]
    assert judge("activitynet-qa", items, answers) == {
        "Acc": round(600 / 11, 2),
        **{"type/motion": 100, "type/spatial": 0, "type/temporal": 0, "type/free": round(500 / 8, 2)},
        **{"type/yes-no": 50, "type/color": 50, "type/object": 100, "type/location": 0, "type/number": 100},
        "type/other": 100,
    }
    judged = [rate(item, correct=float(n < 8), score=4.0 if n else 1.8) for n, item in enumerate(items)]
    columns = table("activitynet-qa", BENCHMARKS["activitynet-qa"].list_values(judged))
    assert (columns["Acc"], columns["Score"]) == (round(800 / 11, 2), 3.8)


VCG_FILES = {
    "generic_qa.json": [{"Q": "What is built?", "A": "A shed.", "video_name": "v_a"}],
    "temporal_qa.json": [{"Q": "What comes first?", "A": "The floor.", "video_name": "v_a"}],
    "consistency_qa.json": [{"Q1": "What is it?", "Q2": "Which thing is it?", "A": "A shed.", "video_name": "v_b"}],
}


def test_vcg_bench_asks_each_question_of_a_pair(tmp_path: Path) -> None:
    items = BENCHMARKS["vcg-bench"].read_items(write(tmp_path, VCG_FILES), "test")
    assert [(one.id, one.video, one.question.text) for one in items] == [
        ("generic_0", "v_a", "What is built?"),
        ("temporal_0", "v_a", "What comes first?"),
        ("consistency_0_Q1", "v_b", "What is it?"),
        ("consistency_0_Q2", "v_b", "Which thing is it?"),
    ]
    assert [one.question.meta for one in items[2:]] == [{}, {"pair": "consistency_0_Q1"}]
    assert [BENCHMARKS["vcg-bench"].templates(predict(item, "")) for item in items] == [
        ("vcg_correctness", "vcg_detail", "vcg_context"),
        ("vcg_temporal",),
        (),
        ("vcg_consistency",),
    ]
    assert judge("vcg-bench", items, ["a shed", "the roof", "shed", "it is a shed"]) == {
        "F1": round(100 * (1 + 0 + 1 + 1 / 2) / 4, 2)
    }


def test_vcg_bench_averages_five_aspects(tmp_path: Path) -> None:
    """The paper's row 3.27 3.15 3.78 2.86 2.78 gives its average of 3.17."""
    generic, temporal, first, second = BENCHMARKS["vcg-bench"].read_items(write(tmp_path, VCG_FILES), "test")
    ratings = rate(generic, correctness=3.27, detail=3.15, context=3.78), rate(temporal, temporal=2.86)
    values = BENCHMARKS["vcg-bench"].list_values([*ratings, rate(first), rate(second, consistency=2.78)])
    assert table("vcg-bench", values) == {
        **{"CI": 3.27, "DO": 3.15, "CU": 3.78, "TU": 2.86, "CO": 2.78},
        "Avg": 3.17,
    }


def test_mlvu_averages_its_tasks() -> None:
    """The paper's row gives M-Avg 48.3, and VS 3.36 with SSC 5.34 gives G-Avg 4.35; each sum is over two scores."""
    tasks = {"TR": 75.4, "AR": 60.5, "NQA": 50.6, "ER": 42.3, "PQA": 50.5, "AO": 26.2, "AC": 32.6}
    values = [Value(f"{task}/correct", "v", one / 100) for task, one in tasks.items()]
    values += [Value("VS/completeness", "v", 1.36), Value("VS/reliability", "v", 2.0)]
    values += [Value("SSC/accuracy", "v", 2.34), Value("SSC/relevance", "v", 3.0)]
    columns = table("mlvu", values)
    assert {name: columns[name] for name in tasks} == tasks
    assert (round(columns["M-Avg"], 1), columns["VS"], columns["SSC"], columns["G-Avg"]) == (48.3, 3.36, 5.34, 4.35)
