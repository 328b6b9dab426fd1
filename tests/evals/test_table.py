"""Tables of several runs beside published rows, through the real command line."""

import csv
import json
import shutil
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from dynfocus.cli import main
from dynfocus.evals.benchmarks import find_benchmark
from dynfocus.evals.protocol import OWN, UPSTREAM
from dynfocus.evals.summary import write_results
from dynfocus.evals.table_formats import escape_markdown
from dynfocus.evals.table_rows import build_tables, describe_frames
from dynfocus.records.predictions import Prediction

Capture = pytest.CaptureFixture[str]
FACTS = {"split": "test", "frame_rule": {"frames": 16, "fps": 1.0}, "sampling": {"seed": 7}}


def answer(id: int, text: str, group: str, arm: str = "learned", letter: str = "B") -> Prediction:
    meta = {"letter": letter, "domain": "Knowledge", "task_type": "OCR Problems"}
    options = ("Red", "Blue", "Both", "None")
    return Prediction(
        *(f"{group}_{id}", f"v{id // 2}", arm, "Who wins?", text, "Blue", group, (), None, 80 + id, options, meta)
    )


def write_run(
    folder: Path, answers: dict[str, list[str]], benchmark: str = "videomme", protocol: str = OWN, **facts: Any
) -> Path:
    """A run whose arms give these answers to questions of three durations in turn, two questions of each video."""
    predictions = [
        answer(n, text, ("short", "medium", "long")[n % 3], arm)
        for arm, texts in answers.items()
        for n, text in enumerate(texts)
    ]
    write_results(folder, predictions, find_benchmark(benchmark, protocol), {**FACTS, **facts})
    return folder


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(text)))


def show(capsys: Capture, *words: object) -> str:
    assert main(["table", *map(str, words)]) == 0
    return capsys.readouterr().out


ANSWERS = ["B", "B", "A", "B", "(B)", "I do not know"]


def test_our_numbers_stand_beside_the_published_ones(tmp_path: Path, capsys: Capture) -> None:
    run = write_run(tmp_path / "run", {"learned": ANSWERS})
    lines = show(capsys, run, "--format", "md").splitlines()
    assert lines[0] == "### videomme"
    heads, _, *rows = ([cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:7])
    assert heads[:5] == ["", "short", "medium", "long", "Overall"]
    assert [row[0] for row in rows] == ["ST-LLM", "DynFocus", f"{run} (learned)".replace("_", r"\_")]
    (published, own) = rows[1:]
    assert published[1:5] == ["50.9 (b)", "43.7 (b)", "37.7 (b)", "44.1 (b)"]
    metrics = json.loads((run / "metrics.json").read_text())
    low, high = metrics["columns"]["Overall"]["interval"]
    assert own[1:5] == [
        *("100.0, 100.0 to 100.0, n 2", "100.0, 100.0 to 100.0, n 2", "0.0, 0.0 to 0.0, n 2"),
        f"66.7, {low:.1f} to {high:.1f}, n 6",
    ]
    facts = dict(zip(heads, own, strict=True))
    assert {name: facts[name] for name in ("questions", "judge", "protocol", "split", "frames", "options")} == {
        **{"questions": "6", "judge": "rules", "protocol": "dynfocus", "split": "test"},
        **{"frames": "16 frames of 1 a second", "options": "in order"},
    }
    assert {name: facts[name] for name in ("subtitles", "tokens", "seed", "unparsed", "failed", "source")} == {
        **{"subtitles": "no", "tokens": "82", "seed": "7", "unparsed": "16.7%", "failed": "0.0%", "source": "ours"},
    }
    assert facts["commit"] == metrics["commit"][:9]
    notes = "\n".join(lines[7:])
    assert "Numbers without a letter: protocol dynfocus, split test, judge rules, frames 16 frames of 1 a sec" in notes
    assert "* b: protocol upstream, frames 16 frames, questions not stated." in notes


def test_what_is_not_comparable_has_a_mark(tmp_path: Path) -> None:
    same = [write_run(tmp_path / name, {"learned": ANSWERS}) for name in ("one", "two")]
    rule = {"frames": 32, "fps": 1.0}
    others = {
        "protocol upstream": write_run(tmp_path / "upstream", {"learned": ANSWERS}, protocol=UPSTREAM),
        "split val": write_run(tmp_path / "split", {"learned": ANSWERS}, split="val"),
        "frames 32 frames of 1 a second": write_run(tmp_path / "frames", {"learned": ANSWERS}, frame_rule=rule),
        "subtitles yes": write_run(tmp_path / "subtitles", {"learned": ANSWERS}, subtitles=True),
        "options shuffled": write_run(tmp_path / "options", {"learned": ANSWERS}, options_shuffled=True),
        "questions 3": write_run(tmp_path / "few", {"learned": ANSWERS[:3]}),
    }
    judged = write_run(tmp_path / "judged", {"learned": ANSWERS})
    metrics = json.loads((judged / "metrics.json").read_text()) | {"judge": "openai-j", "judge_model": "j"}
    (judged / "metrics.openai-j.json").write_text(json.dumps(metrics))
    (table,) = build_tables([*same, *others.values(), judged])
    own = table.rows[2:]
    assert [row.label.partition(" ")[0] for row in own[:2]] == [str(run) for run in same]
    marks = table.marks[2:]
    assert marks[:2] == ("", "")
    assert len({*marks[2:8], marks[9]}) == 7, "each difference has its own letter"
    assert marks[8] == ""
    for difference, mark in zip((*others, "judge openai-j"), (*marks[2:8], marks[9]), strict=True):
        assert f"{mark}: {difference}." in table.notes
    assert all(table.marks[:2]), "published rows do not state all that ours do"


def test_results_of_judges_are_rows_of_their_own(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {"learned": ANSWERS, "uniform": ["A"] * 6})
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.1.json").write_text(json.dumps(metrics))  # an older result of the same run, set aside
    (run / "metrics.local-judge.json").write_text(json.dumps(metrics | {"judge": "local-judge", "judge_model": "m"}))
    assert main(["judge", str(run), "--protocol", "upstream"]) == 0
    (table,) = build_tables([run])
    own = [
        (row.label.removeprefix(f"{run} "), row.settings["judge"], row.settings["protocol"]) for row in table.rows[2:]
    ]
    again = "judged as"
    assert own == [
        *(("(learned)", "rules", OWN), ("(uniform)", "rules", OWN)),
        (f"(learned, {again} local-judge)", "local-judge", OWN),
        (f"(uniform, {again} local-judge)", "local-judge", OWN),
        (f"(learned, {again} rules-upstream)", "rules", UPSTREAM),
        (f"(uniform, {again} rules-upstream)", "rules", UPSTREAM),
    ]
    assert table.rows[6].cells["long"].n == 1, "upstream leaves out the answer that chooses nothing"


def test_tables_come_in_the_papers_order(tmp_path: Path) -> None:
    names = ("world", "videomme", "mlvu", "msvd-qa")
    runs = []
    for name in names:
        group = {"world": "color", "mlvu": "PQA", "msvd-qa": "", "videomme": "long"}[name]
        one = answer(0, "B", group)
        one = Prediction(**{**one.__dict__, "meta": one.meta | {"word": "b"}})
        write_results(tmp_path / name, [one], find_benchmark(name), FACTS)
        runs.append(tmp_path / name)
    assert [table.benchmark for table in build_tables(runs)] == ["msvd-qa", "mlvu", "videomme", "world"]


def test_every_number_of_the_csv_says_all_about_itself(tmp_path: Path, capsys: Capture) -> None:
    run = write_run(tmp_path / "run", {"learned": ANSWERS})
    lines = read_csv(show(capsys, run, "--format", "csv"))
    own = [line for line in lines if line["source"] == "ours"]
    metrics = json.loads((run / "metrics.json").read_text())
    assert {line["column"]: int(line["n"]) for line in own} == {
        name: one["n"] for name, one in metrics["columns"].items()
    }
    facts = ("judge", "protocol", "split", "frames", "tokens", "seed", "commit", "unparsed", "failed", "low", "high")
    assert all(line[name] for line in own for name in facts)
    published = {(line["row"], line["column"]): line["value"] for line in lines if line["source"] != "ours"}
    assert published[("DynFocus", "Overall")] == "44.1"
    assert all(line["source"] and line["mark"] for line in lines if line["source"] != "ours")


def test_a_wrong_published_average_is_named(tmp_path: Path) -> None:
    meta = {"number": 0, "half": "basic", "type": "subject"}
    one = Prediction("temporal_0_basic", "v", "learned", "q", "yes", "yes", "Temporal", (), None, 85, (), meta)
    write_results(tmp_path / "run", [one], find_benchmark("videohallucer"), FACTS)
    (table,) = build_tables([tmp_path / "run"])
    sources = {row.source: mark.endswith("*") for row, mark in zip(table.rows, table.marks, strict=True)}
    assert [row.label for row, mark in zip(table.rows, table.marks, strict=True) if mark.endswith("*")] == ["DynFocus"]
    assert sources["the poster"]
    assert "*: the published average does not follow from its columns." in table.notes


def test_two_settings_that_are_not_stated_are_not_the_same(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, {"learned": ANSWERS}, frame_rule=None) for name in ("one", "two")]
    (table,) = build_tables(runs)
    assert table.marks[2] == ""
    assert f"{table.marks[3]}: frames not stated." in table.notes
    assert f"{table.marks[0]}: protocol upstream, frames not stated, questions not stated." in table.notes


class Texts(HTMLParser):
    """Collect the elements and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


HOSTILE = "<img src=x onerror=alert(1)>|`a`_b_[c](d)&amp;"


def test_hostile_names_stay_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.chdir(tmp_path)
    run = write_run(Path(HOSTILE), {"learned": ANSWERS}, commit="<script>1</script>")
    page = Texts(show(capsys, run, "--format", "html"))
    assert HOSTILE in page.text
    assert not page.tags & {"img", "script", "a"}
    output = show(capsys, run, "--format", "md")
    (line,) = [line for line in output.splitlines() if "onerror" in line]
    assert "<" not in line
    assert line.count(" | ") == output.splitlines()[2].count(" | "), "no cell more than there are heads"
    assert escape_markdown("a\n# b|c") == r"a \# b\|c"
    formula = write_run(Path("=1+1"), {"learned": ANSWERS})
    lines = read_csv(show(capsys, formula, "--format", "csv"))
    assert {line["row"] for line in lines if line["source"] == "ours"} == {"'=1+1 (learned)"}


def test_one_run_keeps_its_short_table(tmp_path: Path, capsys: Capture) -> None:
    run = write_run(tmp_path / "run", {"learned": ANSWERS})
    short = show(capsys, run)
    assert short.startswith("kept frames")
    assert "ST-LLM" not in short
    assert show(capsys, run, run).startswith("### videomme")
    assert main(["table", str(run), "--format", "html", "--out", str(tmp_path / "new" / "page.html")]) == 0
    assert (tmp_path / "new" / "page.html").read_text().startswith("<!DOCTYPE html>")
    assert main(["table", str(run), str(run), "--bars"]) == 2
    assert "--bars with 2 runs" in capsys.readouterr().err
    assert main(["table", str(run), str(tmp_path)]) == 1
    assert "metrics.json. Needed: a tested run" in capsys.readouterr().err
    shutil.rmtree(run)


def test_frames_are_said_in_the_words_of_published_tables() -> None:
    assert describe_frames({"frames": 200, "fps": 1.0}) == "200 frames of 1 a second"
    assert describe_frames({"frames": None, "fps": 0.5}) == "0.5 a second"
    assert describe_frames({"frames": 16, "fps": None}) == "16 frames"
    assert describe_frames({"frames": None, "fps": None}) == "every frame"
    assert describe_frames(None) is None
