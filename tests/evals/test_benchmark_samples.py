"""Real rows of published benchmarks, where a checkout has them beside it: they read, and none is copied."""

import shutil
from pathlib import Path

import pytest
from benchmark_files import ask, judge, predict

from dynfocus.evals.benchmarks import BENCHMARKS, read_items
from dynfocus.evals.benchmarks.videomme import read_srt
from dynfocus.evals.protocol import Item

SAMPLES = Path(__file__).parents[3] / "shared" / "samples"

pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="no real rows of benchmarks beside this checkout")

# Benchmark, folder, split, number of questions.
ROWS = [
    ("msvd-qa", "msvd-qa", "test", 20),
    ("msvd-qa", "msvd-qa", "val", 20),
    ("msrvtt-qa", "msrvtt-qa", "val", 20),
    ("activitynet-qa", "activitynet-qa", "test", 20),
    ("activitynet-qa", "activitynet-qa", "val", 20),
    ("activitynet-qa", "activitynet-qa/chat-univi", "test", 20),
    ("vcg-bench", "vcg-bench", "test", 80),
    ("mlvu", "mlvu", "dev", 190),
    ("lvbench", "lvbench", "test", 20),
    ("videomme", "video-mme", "test", 27),
    ("videohallucer", "videohallucer", "test", None),
    ("scienceqa", "scienceqa", "test", 9),
    ("scienceqa", "scienceqa", "val", 9),
    ("egoschema", "egoschema", "subset", 5),
    ("egoschema", "egoschema/ig-vlm", "subset", 5),
    ("nextqa", "nextqa-mc/edge", "test", 6),
    ("nextqa", "nextqa-mc/edge", "val", 4),
    ("nextqa", "nextqa-mc/ig-vlm", "val", None),
]


@pytest.mark.parametrize(("name", "folder", "split", "count"), ROWS)
def test_real_rows_read_and_right_answers_are_right(name: str, folder: str, split: str, count: int | None) -> None:
    items = read_items(name, SAMPLES / folder, split)
    assert len(items) == (count or len(items)) > 0
    assert len({item.id for item in items}) == len(items)
    assert all(ask(name, item).strip() for item in items)
    if any(item.question.options for item in items):
        check_letters(name, items)
    else:
        table = judge(name, items, [item.question.answer for item in items])
        assert all(value == 100 for value in table.values())


def check_letters(name: str, items: list[Item]) -> None:
    """Letters that answer rightly give every choice its point, and the letter behind them gives none."""
    choices = [item for item in items if item.question.options]
    letters = [item.question.meta["letter"] or "?" for item in choices]
    known = [letter != "?" for letter in letters]
    for shift, right in ((0, 1.0), (1, 0.0)):
        moved = ["ABCDE?"[("ABCDE?".index(letter) + shift) % 6] for letter in letters]
        values = [
            BENCHMARKS[name].check(predict(item, f"({one})"))[0] for item, one in zip(choices, moved, strict=True)
        ]
        assert [value["correct"] for value in values] == [right * one for one in known]


def test_the_same_rows_in_two_forms_are_the_same_questions() -> None:
    def questions(name: str, folder: str) -> list[tuple[str, str, str, object]]:
        items = read_items(name, SAMPLES / folder, BENCHMARKS[name].splits[0])
        facts = [(one.question, str(one.video).removeprefix("v_")) for one in items]
        return [(one.text, one.answer, video, one.options) for one, video in facts]

    assert questions("activitynet-qa", "activitynet-qa") == questions("activitynet-qa", "activitynet-qa/chat-univi")
    assert questions("activitynet-qa", "activitynet-qa") == questions("activitynet-qa", "activitynet-qa/ig-vlm")
    assert questions("egoschema", "egoschema") == questions("egoschema", "egoschema/ig-vlm")


@pytest.mark.parametrize("form", ["lvb_val.json", "validation-00000-of-00001.parquet"])
def test_real_rows_of_long_video_bench_read(tmp_path: Path, form: str) -> None:
    """Its subtitles are not beside them: one line of our own stands for the first row's."""
    shutil.copy(SAMPLES / "longvideobench" / form, tmp_path)
    (tmp_path / "86CxyhFV9MI_en.json").write_text('[{"timestamp": [1.0, 3.0], "text": "our line"}]')
    items = read_items("longvideobench", tmp_path)
    assert len(items) == 6
    assert "\nour line\n" in ask("longvideobench", items[0], [2.0])
    assert {len(item.question.options) for item in items} >= {3, 4}
    check_letters("longvideobench", items)


def test_a_real_subtitle_file_reads() -> None:
    cues = read_srt(SAMPLES / "video-mme/demo.srt")
    assert [(start, end) for start, end, _ in cues[:2]] == [(0.0, 5.72), (5.72, 7.32)]
    assert all(text and "<" not in text for *_, text in cues)
