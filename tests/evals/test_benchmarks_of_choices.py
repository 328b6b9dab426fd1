"""Published benchmarks of choices, and of yes and no: rows of our own words, prompts as text, tables by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
from benchmark_files import ask, judge, read, table, write

from dynfocus.errors import DataError
from dynfocus.evals.protocol import Value, shuffle_options

STEM, OPTIONS = "Who wins?", ["Red", "Blue", "Both", "None"]
LETTERED = [f"({letter}) {option}" for letter, option in zip("ABCD", OPTIONS, strict=True)]


def lvbench_question(
    uid: str, answer: str, *types: str, question: str = "\n".join([STEM, *LETTERED])
) -> dict[str, Any]:
    return {"uid": uid, "question": question, "answer": answer, "question_type": list(types), "time_reference": "0-1"}


def as_lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


LVBENCH_QUESTIONS = [
    lvbench_question("1", "B", "reasoning"),
    lvbench_question("2", "A", "entity recognition", "reasoning"),
    lvbench_question("3", "D", "summarization", question=f"{STEM} (A) Red (B) Blue (C) Both (D) None"),
]
LVBENCH_FORMS: dict[str, dict[str, Any]] = {
    "videos": {
        "video_info.meta.jsonl": as_lines(
            [{"key": "abc", "type": "tv", "qa": LVBENCH_QUESTIONS[:2]}, {"key": "d-e", "qa": LVBENCH_QUESTIONS[2:]}]
        )
    },
    "questions": {
        "lvbench.jsonl": as_lines(
            [{**row, "video_key": key} for row, key in zip(LVBENCH_QUESTIONS, ("abc", "abc", "d-e"), strict=True)]
        )
    },
    "clean": {
        "lvbench_clean.json": [
            {
                **row,
                "video": key,
                "question": STEM,
                "candidates": LETTERED,
                "answer": LETTERED["ABCD".index(row["answer"])],
            }
            for row, key in zip(LVBENCH_QUESTIONS, ("abc", "abc", "d-e"), strict=True)
        ]
    },
}


@pytest.mark.parametrize("form", LVBENCH_FORMS)
def test_every_form_of_lvbench_gives_the_same(tmp_path: Path, form: str) -> None:
    items = read("lvbench", tmp_path, LVBENCH_FORMS[form])
    assert [(one.id, one.video, one.question.meta["letter"], one.question.group) for one in items] == [
        ("1", "abc", "B", "Rea"),
        ("2", "abc", "A", "ER+Rea"),
        ("3", "d-e", "D", "Sum"),
    ]
    assert {ask("lvbench", one) for one in items} == {"Who wins?\n(A) Red\n(B) Blue\n(C) Both\n(D) None"}


@pytest.mark.parametrize(
    ("text", "evidence"),
    [
        ("00:15-00:19", ((15.0, 19.0),)),
        (" 61:05 - 1:02:03 ", ((3665.0, 3723.0),)),
        ("00:19-00:15", ()),
        ("0-1", ()),
        (None, ()),
    ],
)
def test_lvbench_says_when_an_answer_is_seen(tmp_path: Path, text: str | None, evidence: Any) -> None:
    row = lvbench_question("1", "B", "reasoning") | {"time_reference": text, "video_key": "abc"}
    assert read("lvbench", tmp_path, {"lvbench.jsonl": as_lines([row])})[0].evidence == evidence


def test_lvbench_counts_a_question_under_each_of_its_types(tmp_path: Path) -> None:
    items = read("lvbench", tmp_path, LVBENCH_FORMS["videos"])
    assert judge("lvbench", items, ["(B)", "the red one", "I cannot say"]) == {
        **{"ER": 100, "Rea": 100, "Sum": 0},
        "Overall": 66.67,
    }
    assert judge("lvbench", items, ["A", "A", "D. None"]) == {"ER": 100, "Rea": 50, "Sum": 100, "Overall": 66.67}


def test_options_that_are_no_options_stay_in_the_question(tmp_path: Path) -> None:
    text = "Who wins? A: Red, B: Blue, C: Both, D: None"
    row = lvbench_question("1", "B", "reasoning", question=text)
    (item,) = read("lvbench", tmp_path, {"video_info.meta.jsonl": as_lines([{"key": "a", "qa": [row]}])})
    assert ask("lvbench", item) == text
    assert shuffle_options(item) == item
    assert [judge("lvbench", [item], [answer])["Overall"] for answer in ("B", "(B) Blue", "A", "")] == [100, 100, 0, 0]


def test_numbered_videos_of_lvbench_are_found_by_their_place(tmp_path: Path) -> None:
    files = LVBENCH_FORMS["videos"] | {"00000/00000001.mp4": "", "00000/abc.mp4": ""}
    assert [one.video for one in read("lvbench", tmp_path, files)] == ["abc", "abc", "00000001"]


def mme_row(number: int, duration: str, answer: str = "B") -> dict[str, Any]:
    facts = {"video_id": f"{number:03}", "duration": duration, "domain": "Knowledge", "sub_category": "History"}
    facts |= {"videoID": f"v{number}", "question_id": f"{number:03}-1", "task_type": "Counting Problem", "url": ""}
    return {**facts, "question": STEM, "options": [f"{a}. {b}" for a, b in zip("ABCD", OPTIONS, strict=True)]} | {
        "answer": answer
    }


MME = {"videomme/test-00000-of-00001.parquet": [mme_row(n, d) for n, d in enumerate(("short", "medium", "long"), 1)]}
SRT = """\ufeff1\r
00:00:01,000 --> 00:00:02,500\r
<font color="white" size=".72c">First
line.</font>\r
\r
2
00:00:02,000 --> 00:00:04,000
<i></i>

3
00:01:00,5 --> 00:01:01,250
Last line."""
TASK = "Choose the best answer to this question about the video. Reply with the letter A, B, C or D alone."
MME_PROMPT = f"{TASK}\nWho wins?\nA. Red\nB. Blue\nC. Both\nD. None\nThe best answer is:"


def test_video_mme_without_subtitles(tmp_path: Path) -> None:
    items = read("videomme", tmp_path, MME)
    assert [(one.id, one.video, one.question.group, one.subtitles) for one in items] == [
        ("001-1", "v1", "short", ()),
        ("002-1", "v2", "medium", ()),
        ("003-1", "v3", "long", ()),
    ]
    assert ask("videomme", items[0], [1.5]) == MME_PROMPT
    # Letters that upstream's extraction misreads: the B of "Best", and none in a long answer.
    assert judge("videomme", items, ["Best option: C", "I would say that it is the team that wears blue.", "B."]) == {
        **{"short": 0, "medium": 100, "long": 100},
        **{"Overall": 66.67, "type/Knowledge": 66.67, "type/Counting Problem": 66.67},
    }
    result = judge("videomme", items[:2], ["no idea", "B"])
    assert [result[name] for name in ("short", "medium", "Overall")] == [0, 100, 50]


def test_video_mme_is_broken_down_by_domain_and_task(tmp_path: Path) -> None:
    rows = [mme_row(1, "short"), mme_row(2, "short") | {"domain": "Multilingual", "task_type": "OCR Problems"}]
    items = read("videomme", tmp_path, {"videomme/test-00000-of-00001.parquet": rows})
    assert judge("videomme", items, ["B", "A"]) == {
        **{"short": 50, "Overall": 50, "type/Knowledge": 100, "type/Multilingual": 0},
        **{"type/OCR Problems": 0, "type/Counting Problem": 100},
    }


def test_video_mme_shows_the_subtitle_of_each_frame(tmp_path: Path) -> None:
    files = MME | {"subtitle/v1.srt": SRT, "subtitle/v3.srt": ""}
    first, second, third = read("videomme-subtitles", tmp_path, files)
    assert first.subtitles == ((1.0, 2.5, "First line."), (60.5, 61.25, "Last line."))
    assert (second.subtitles, third.subtitles) == ((), ())
    shown = ask("videomme-subtitles", first, [0.0, 1.0, 1.1, 2.2, 3.0, 61.0])
    assert shown == f"The subtitles of this video:\nFirst line.\nFirst line.\nLast line.\n{MME_PROMPT}"
    assert ask("videomme-subtitles", first, [1.0, 2.5]) == ask("videomme-subtitles", second, [1.5]) == MME_PROMPT


def test_subtitles_that_are_nowhere_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no subtitles, such as subtitle/v1.srt"):
        read("videomme-subtitles", tmp_path, MME)


@pytest.mark.parametrize(("parts", "overall"), [((50.9, 43.7, 37.7), 44.1), ((53.7, 46.0, 43.6), 47.8)])
def test_video_mme_pools_its_durations(parts: tuple[float, ...], overall: float) -> None:
    """The paper's rows; each duration has as many questions."""
    values = [Value(key, "v", one / 100) for key, one in zip(("short", "medium", "long"), parts, strict=True)]
    assert round(table("videomme", values)["Overall"], 1) == overall


SETS = ("object_relation", "temporal", "semantic_detail", "external_factual", "external_nonfactual")


def pair(basic: str, hallucination: str) -> dict[str, Any]:
    return {
        "basic": {"video": basic, "question": "Is there a dog?", "answer": "yes"},
        "hallucination": {"video": hallucination, "question": "Is there a cat?", "answer": "no"},
        "type": "subject",
    }


def test_video_hallucer_by_hand(tmp_path: Path) -> None:
    files = {f"{name}/{name}.json": [pair("a.mp4", "b.mp4"), pair("c.mp4", "c.mp4")] for name in SETS}
    items = read("videohallucer", tmp_path, files)
    assert [(one.id, one.video) for one in items[:2]] == [
        ("object_relation_0_basic", "object_relation/videos/a.mp4"),
        ("object_relation_0_hallucination", "object_relation/videos/b.mp4"),
    ]
    assert ask("videohallucer", items[0]) == "Is there a dog?\nAnswer with 'yes' or 'no'."
    right, half, wrong = ("Yes.", "No, it is not."), ("yes", "Yes, there is no dog"), ("not", "")
    result = judge(
        "videohallucer", items, [*right, *right, *right, *half, *half, *half, *wrong, *right, *wrong, *wrong]
    )
    assert {name: value for name, value in result.items() if not name.startswith("type/")} == {
        **{"Object-Relation": 100, "Temporal": 50, "Semantic Detail": 0, "Factual": 50, "Non-Factual": 0},
        **{"Overall": 40, "Overall basic": 70, "Overall hallucination": 40},
    }
    assert (result["type/Temporal basic"], result["type/Temporal hallucination"]) == (100, 50)


def test_video_hallucer_averages_its_sets() -> None:
    """The published leaderboard's row of finals gives its overall of 21.0."""
    finals = {"Object-Relation": 43.5, "Temporal": 21, "Semantic Detail": 17, "Factual": 2.5, "Non-Factual": 21}
    values = [Value(f"{name}/final", "v", one / 100) for name, one in finals.items()]
    assert round(table("videohallucer", values)["Overall"], 1) == 21.0


def test_half_a_pair_counts_in_its_own_column_alone(tmp_path: Path) -> None:
    files = {f"{name}/{name}.json": [pair("a.mp4", "b.mp4")] for name in SETS}
    items = read("videohallucer", tmp_path, files)
    assert judge("videohallucer", items[:1], ["yes"]) == {"type/Object-Relation basic": 100}


def problem(**more: Any) -> dict[str, Any]:
    facts = {"question": "Which is a mammal?", "choices": ["a cow", "a fly"], "answer": 0, "hint": "", "image": None}
    return facts | {"grade": "grade3", "subject": "natural science", "split": "test"} | more


SCIENCE = {
    "scienceqa/problems.json": {
        "4": problem(),
        "5": problem(image="image.png", hint="Look.", grade="grade7", subject="social science", answer=1),
        "6": problem(split="val"),
        "7": problem(hint="Think.", subject="language science", grade="grade12"),
    },
    "scienceqa/pid_splits.json": {"test": ["4", "5", "7"], "val": ["6"]},
}


def test_science_qa_by_hand(tmp_path: Path) -> None:
    items = read("scienceqa", tmp_path, SCIENCE)
    assert [(one.id, one.video, one.exact) for one in items] == [
        ("4", None, True),
        ("5", "test/5/image.png", True),
        ("7", None, True),
    ]
    assert ask("scienceqa", items[0]) == "Which is a mammal?\nContext: N/A\nOptions: (A) a cow (B) a fly"
    assert "\nContext: Look.\n" in ask("scienceqa", items[1])
    assert judge("scienceqa", items, ["The answer is A.", "The answer is A.", "A"]) == {
        **{"NAT": 100, "SOC": 0, "LAN": 100, "TXT": 50, "IMG": 0, "NO": 100, "G1-6": 100, "G7-12": 50},
        "Avg": 66.67,
    }
    assert [one.id for one in read("scienceqa", tmp_path, SCIENCE, "val")] == ["6"]


def test_images_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    files = write(tmp_path, SCIENCE | {"images/test/5/image.png": "five", "images/train/4/image.png": "4"})
    assert files.find_video("test/5/image.png", exact=True) == "images/test/5/image.png"
    assert files.find_video("test/4/image.png", exact=True) is None
