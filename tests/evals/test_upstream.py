"""Answers read and counted as the published code of benchmarks does, with its defects, beside this project's way."""

from pathlib import Path
from typing import Any

import pytest
from benchmark_files import predict

from dynfocus.errors import ConfigError
from dynfocus.evals.benchmarks import BENCHMARKS, find_benchmark
from dynfocus.evals.judges.judging import read_templates
from dynfocus.evals.protocol import OWN, PROTOCOLS, UPSTREAM, Benchmark, Item, Judged
from dynfocus.evals.summary import summarize
from dynfocus.records.predictions import Verdict
from dynfocus.records.rows import Question

OPTIONS = ("Red", "Blue", "Both", "None")
WITH_UPSTREAM = [name for name, one in BENCHMARKS.items() if one.upstream]


def choice(group: str = "short", id: str = "1", letter: str | None = "B", options: tuple[str, ...] = OPTIONS) -> Item:
    meta = {"letter": letter, "duration_group": "15", "domain": "Knowledge", "task_type": "OCR Problems"}
    return Item(id, "v", Question("Who wins?", options[1], options, group, meta=meta))


def is_right(benchmark: str, answer: str, protocol: str, item: Item | None = None) -> bool:
    scores, _ = find_benchmark(benchmark, protocol).check(predict(item or choice("PQA"), answer))
    return scores["correct"] == 1.0


# Benchmark, answer to a question whose right letter is B, whether it is right for us, and for upstream.
READINGS = [
    ("videomme", "B", True, True),
    ("videomme", "The best answer is B", True, True),
    ("videomme", "Answer: B", True, True),
    ("videomme", "Best option: C", False, True),  # the B of "Best"
    ("videomme", "The best option is B", True, True),
    ("videomme", "The correct option is: (B)", True, True),
    ("videomme", "CLEARLY (B)", True, False),  # the C of "CLEARLY"
    ("videomme", "b", True, False),
    ("mlvu", "(B)", True, True),
    ("mlvu", "B) Blue", True, True),
    ("mlvu", "B", True, True),
    ("mlvu", "I think that it is B) Blue", True, True),
    ("mlvu", "b", True, False),
    ("mlvu", "B.", True, False),
    ("mlvu", "(b)", True, False),
    ("lvbench", "(B) Blue", True, True),
    ("lvbench", "B. Blue", True, True),
    ("lvbench", "It is ( B )", True, True),
    ("lvbench", "Blue", True, True),  # the B of "Blue"
    ("lvbench", "Both", False, True),  # the B of "Both"
    ("lvbench", "The answer is B", True, False),
    ("lvbench", "b", True, False),
    ("longvideobench", "B", True, True),
    ("longvideobench", "Best option: B", True, True),
    ("longvideobench", "Answer: B", True, False),  # the A of "Answer"
    ("mvbench", "(B) Blue", True, True),
    ("mvbench", "B", True, True),
    ("mvbench", "(b.", True, True),
    ("mvbench", "B) Blue", True, True),
    ("mvbench", "(The bag.", False, False),
    ("mvbench", "The answer is (B)", True, False),
    ("mvbench", "", False, True),
]


@pytest.mark.parametrize(("benchmark", "answer", "own", "upstream"), READINGS)
def test_choices_are_read_as_upstream_reads_them(benchmark: str, answer: str, own: bool, upstream: bool) -> None:
    assert (is_right(benchmark, answer, OWN), is_right(benchmark, answer, UPSTREAM)) == (own, upstream)


@pytest.mark.parametrize("benchmark", ["videomme", "mlvu", "lvbench", "mvbench", "longvideobench"])
def test_a_question_without_a_right_letter_is_never_right(benchmark: str) -> None:
    item = choice("PQA", letter=None)
    assert not any(is_right(benchmark, answer, UPSTREAM, item) for answer in ("A", "(B)", "C", "D", "", "()"))


def summarize_answers(benchmark: str, protocol: str, items: list[Item], answers: list[str]) -> dict[str, Any]:
    return summarize([predict(item, one) for item, one in zip(items, answers, strict=True)], find(benchmark, protocol))


def find(benchmark: str, protocol: str) -> Benchmark:
    return find_benchmark(benchmark, protocol)


def test_video_mme_leaves_out_what_chooses_nothing() -> None:
    """Three of four answers choose a letter, two of them the right one: 50 %, or 66.67 % of those that choose."""
    items = [choice(id=str(n)) for n in range(4)]
    answers = ["B", "D", "(B)", "I would say that this is won by the team in yellow"]
    for protocol, value, n in ((OWN, 50.0, 4), (UPSTREAM, 200 / 3, 3)):
        result = summarize_answers("videomme", protocol, items, answers)
        assert result["columns"]["short"]["value"] == pytest.approx(value)
        assert (result["columns"]["short"]["n"], result["n"], result["unparsed"]) == (n, 4, 0.25)


def test_long_video_bench_draws_a_letter_the_same_every_time() -> None:
    items = [choice("S2E", str(n)) for n in range(200)]
    drawn = [is_right("longvideobench", "nothing of this", UPSTREAM, item) for item in items]
    assert drawn == [is_right("longvideobench", "nothing of this", UPSTREAM, item) for item in items]
    assert 30 < sum(drawn) < 70  # a quarter of 200, plus or minus more than three standard deviations
    result = summarize_answers("longvideobench", UPSTREAM, items, ["nothing of this"] * 200)
    assert result["unparsed"] == 1.0
    assert not any(is_right("longvideobench", "nothing of this", OWN, item) for item in items)


def test_video_hallucer_takes_both_words() -> None:
    half = {"number": 0, "half": "basic", "type": "subject"}
    item = Item("temporal_0_basic", "v", Question("Is there a dog?", "no", group="Temporal", meta=half))
    for answer, own, upstream in (("Yes, there is no dog", False, True), ("No.", True, True), ("not", False, False)):
        assert is_right("videohallucer", answer, OWN, item) == own
        assert is_right("videohallucer", answer, UPSTREAM, item) == upstream


def judged(item: Item, failure: str | None = None, **scores: float) -> Judged:
    return predict(item, ""), Verdict(item.id, "learned", "a judge", scores, "a reply", failure=failure)


def columns(benchmark: str, protocol: str, pairs: list[Judged]) -> dict[str, tuple[float, int]]:
    result = summarize([one for one, _ in pairs], find(benchmark, protocol), pairs)["columns"]
    return {name: (round(one["value"], 2), one["n"]) for name, one in result.items()}


def test_scores_are_cut_to_whole_numbers() -> None:
    item = Item("1", "v", Question("What is built?", "a shed"))
    pairs = [judged(item, correct=1.0, score=4.8), judged(item, correct=0.0, score=1.4)]
    assert columns("msvd-qa", OWN, pairs) == {"Acc": (50.0, 2), "Score": (3.1, 2)}
    assert columns("msvd-qa", UPSTREAM, pairs) == {"Acc": (50.0, 2), "Score": (2.5, 2)}
    item = Item("temporal_0", "v", Question("What comes first?", "a floor", group="temporal"))
    pairs = [judged(item, temporal=3.9, f1=0.55), judged(item, temporal=2.0, f1=0.5)]
    assert columns("vcg-bench", OWN, pairs) == {"TU": (2.95, 2), "F1": (52.5, 2)}
    assert columns("vcg-bench", UPSTREAM, pairs) == {"TU": (2.5, 2), "F1": (52.5, 2)}


def test_a_failure_of_mlvus_judge_counts_as_nothing() -> None:
    item = Item("VS_0", "v", Question("Sum it up.", "a text", group="VS"))
    pairs = [judged(item, completeness=4.0, reliability=3.0), judged(item, failure="no reply")]
    assert columns("mlvu", OWN, pairs) == {"VS": (7.0, 2)}
    assert columns("mlvu", UPSTREAM, pairs) == {"VS": (3.5, 4)}
    for protocol in PROTOCOLS:
        assert summarize([one for one, _ in pairs], find("mlvu", protocol), pairs)["failed"] == 0.5


def test_a_pair_of_vcg_bench_is_judged_by_its_first_question() -> None:
    item = Item("consistency_0_Q2", "v", Question("Q two", "t", group="consistency", meta={"pair": "consistency_0_Q1"}))
    fields = {"question": "Q two", "truth": "t", "answer": "a", "pair_question": "Q one", "pair_answer": "b"}
    prompts = {}
    for protocol in PROTOCOLS:
        benchmark = find("vcg-bench", protocol)
        (template,) = read_templates(benchmark, [predict(item, "a")]).values()
        prompts[protocol] = template.fill(fields)
        assert list(template.scores) == ["consistency"]
    assert (prompts[OWN].count("Q one"), prompts[OWN].count("Q two")) == (1, 1)
    assert (prompts[UPSTREAM].count("Q one"), prompts[UPSTREAM].count("Q two")) == (2, 0)
    assert prompts[UPSTREAM].replace("Q one", "Q two") == prompts[OWN].replace("Q one", "Q two")


@pytest.mark.parametrize("benchmark", WITH_UPSTREAM)
def test_a_protocol_changes_no_question_and_no_column(benchmark: str) -> None:
    """Prompts and columns are the same, so that both protocols can read the same answers."""
    own, upstream = (find(benchmark, protocol) for protocol in PROTOCOLS)
    assert (own.protocol, upstream.protocol) == PROTOCOLS
    assert (own.read, own.prompt, own.splits, own.columns) == (
        *(upstream.read, upstream.prompt, upstream.splits, upstream.columns),
    )


def test_protocols_that_there_are_not_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"the protocol 'theirs'. Needed: one of dynfocus, upstream"):
        find_benchmark("mlvu", "theirs")
    with pytest.raises(ConfigError, match="upstream of scienceqa, whose answers are read and counted in one way only"):
        find_benchmark("scienceqa", UPSTREAM)


def test_the_documentation_lists_the_protocols() -> None:
    text = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("`--protocol upstream` is there for ")]
    start = text.index(line)
    assert all(f"`{name}`" in text[start : start + 450] for name in WITH_UPSTREAM)
