"""Tables of ablations from answers with known numbers."""

import csv
import json
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau, norm

from dynfocus.evals.benchmarks.world import WORLD
from dynfocus.evals.scores import Column
from dynfocus.evals.summary import write_results
from dynfocus.lab.ablations.formats import format_csv, format_html, format_markdown, write_tables
from dynfocus.lab.ablations.intervals import Measure, compare, compute_agreement, compute_kendall_tau
from dynfocus.lab.ablations.studies import Row, Study, Variant
from dynfocus.lab.ablations.tables import Answers, Table, build_table, list_facts
from dynfocus.records.predictions import Prediction

VIDEOS = 20
GOOD, MIDDLE, POOR = (Variant(name) for name in ("good", "middle", "poor"))
ROWS = (Row("<good>", GOOD), Row("middle", MIDDLE), Row("poor | bad", POOR))
STUDY = Study("table6", "Table <6>", ROWS, ranked=True)


def write_run(folder: Path, right: int, arm: str = "learned") -> Path:
    """Answers of which the first so many of ten about each video are right, half of them about detail."""
    folder.mkdir(parents=True)
    about = {"options": (), "meta": {"word": "red"}}
    predictions = []
    for video in range(VIDEOS):
        for n in range(10):
            group, hit = ("color", 0.5) if n % 2 else ("last", None)
            asked = f"{video}/{n}", f"{video}.mp4", arm, f"q {n}", "red" if n < right else "blue", "red"
            predictions.append(Prediction(*asked, group, (), hit, 85, **about))
    write_results(folder, predictions, WORLD, {"seed": 0})
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, dict[int, Path]]:
    right = {"good": (8, 8, 8), "middle": (6, 6, 6), "poor": (6, 6, 6)}
    return {
        name: {seed: write_run(tmp_path / name / f"seed-{seed}", n) for seed, n in enumerate(numbers)}
        for name, numbers in right.items()
    }


@pytest.fixture
def table(folders: dict[str, dict[int, Path]]) -> Table:
    return build_table(STUDY, folders, {})


def test_numbers_are_those_of_the_answers(table: Table) -> None:
    good, middle, _ = table.results
    assert good.measures["balanced"].value == pytest.approx(0.8)
    assert good.measures["balanced"].interval == pytest.approx((0.8, 0.8))
    assert middle.measures["detail"].value == pytest.approx(0.6)
    assert good.measures["hit rate"].value == 0.5
    assert (good.tokens, good.seeds, good.paper) == (85, (0, 1, 2), 1)


def test_pairs_are_resolved_or_open(table: Table) -> None:
    assert [table.say(pair) for pair in table.pairs] == ["resolved, in the paper's order", "open"]


def test_pairs_are_adjusted_for_their_number_and_say_what_they_can_show(tmp_path: Path) -> None:
    """The p-values are the normal ones of each bootstrap error; Holm's are counted by its definition."""
    rng = np.random.default_rng(0)
    variants = [Variant(name) for name in "abcd"]
    folders = {one.name: {0: tmp_path / one.name} for one in variants}
    known: dict[Path, Answers] = {}
    for one, mean in zip(variants, (0.7, 0.5, 0.45, 0.4), strict=True):
        sums = {f"{video}": (float(rng.random() < mean), 1) for video in range(200)}
        (tmp_path / one.name).mkdir()
        (tmp_path / one.name / "metrics.json").write_text("{}")
        known[tmp_path / one.name] = {"learned": {name: Column(name, (sums,)) for name in ("balanced", "tokens")}}
    table = build_table(Study("s", "S", tuple(Row(one.name, one) for one in variants)), folders, known)
    found = [pair.difference for pair in table.pairs if pair.difference is not None]
    ps = [one.p for one in found if one.p is not None]
    assert len(found) == len(ps) == 3
    for one, p in zip(found, ps, strict=True):
        error = (one.smallest or 0) / (norm.ppf(0.975) + norm.ppf(0.8))
        assert p == pytest.approx(2 * norm.sf(abs(one.value) / error))
        assert error == pytest.approx((2 * 0.24 / 200) ** 0.5, rel=0.15)
    order = np.argsort(ps)
    steps = np.minimum(1, np.maximum.accumulate([(3 - rank) * ps[n] for rank, n in enumerate(order)]))
    assert [table.pairs[n].p_holm for n in order] == pytest.approx(steps)
    smallest = [one.smallest for one in found if one.smallest is not None]
    assert table.list_notes() == [
        f"{sum(steps < 0.05)} of 3 pairs differ at the 5 % level by Holm's method over these pairs.",
        "Power: in four of five such experiments a pair is found to differ if its true difference is at least "
        f"{min(smallest):.3f} to {max(smallest):.3f}, by the pair. A smaller one may stay open.",
    ]
    line = next(line for line in csv.DictReader(StringIO(format_csv([table]))) if line["minus"] == "b")
    assert float(line["p by Holm"]) == pytest.approx(table.pairs[0].p_holm, rel=1e-4)
    assert f"{smallest[0]:.3g} |" in format_markdown([table], [])


def test_the_order_of_the_paper_is_compared(table: Table, folders: dict[str, dict[int, Path]]) -> None:
    assert table.list_notes() == [
        "1 of 2 adjacent pairs are resolved in the paper's order, 0 against it.",
        "Kendall's tau with the paper's order: 0.82 [0.82, 0.82].",
        "1 of 2 pairs differ at the 5 % level by Holm's method over these pairs.",
    ]
    reverse = build_table(Study("table6", "", ROWS[::-1], ranked=True), folders, {})
    assert [reverse.say(pair) for pair in reverse.pairs] == ["open", "resolved, against the paper's order"]
    assert reverse.list_notes()[1].endswith(": -0.82 [-0.82, -0.82].")


def test_a_run_that_failed_leaves_its_row_to_other_seeds(folders: dict[str, dict[int, Path]]) -> None:
    del folders["middle"][1]
    folders["poor"] = {}
    table = build_table(STUDY, folders, {})
    assert [result.seeds for result in table.results] == [(0, 1, 2), (0, 2), ()]
    assert [table.say(pair) for pair in table.pairs] == ["resolved, in the paper's order", "not measured"]
    assert "not computed" in table.list_notes()[1]
    assert "| - | - |" in format_markdown([table], [])


def test_seeds_enter_the_interval(tmp_path: Path) -> None:
    runs = {"good": {seed: write_run(tmp_path / str(seed), n) for seed, n in enumerate((4, 6, 8))}}
    table = build_table(Study("one", "", (ROWS[0],)), runs, {})
    assert table.results[0].measures["balanced"].interval == pytest.approx((0.4, 0.8))


def test_intervals_have_the_width_of_a_known_spread() -> None:
    rng = np.random.default_rng(3)
    right = {f"{n}": (float(rng.random() < 0.3), 1) for n in range(400)}
    measure = Measure({seed: Column("x", (right,)) for seed in (0, 1, 2)})
    low, high = measure.interval
    share = measure.value
    assert high - low == pytest.approx(2 * 1.96 * (share * (1 - share) / 400) ** 0.5, rel=0.15)
    difference = compare(
        measure, Measure({0: Column("x", ({name: (1 - hit, 1) for name, (hit, _) in right.items()},))})
    )
    assert difference is not None
    assert difference.value == pytest.approx(2 * share - 1)
    assert difference.is_resolved
    assert compare(measure, Measure({7: Column("x", (right,))})) is None


def test_pairs_are_drawn_together() -> None:
    """Rows that differ by the same amount on every video differ surely, however unlike the videos are."""
    hard = {f"{n}": (n / 100, 1) for n in range(100)}
    easier = {name: (value + 0.01, 1) for name, (value, _) in hard.items()}
    a, b = (Measure({seed: Column("x", (sums,)) for seed in (0, 1)}) for sums in (easier, hard))
    difference = compare(a, b)
    assert difference is not None
    assert difference.interval == pytest.approx((0.01, 0.01))


@pytest.mark.parametrize("seed", range(20))
def test_kendalls_tau_is_scipys(seed: int) -> None:
    a, b = np.random.default_rng(seed).integers(0, 5, (2, 7)).astype(float)
    assert compute_kendall_tau(a, b) == pytest.approx(kendalltau(a, b).statistic, nan_ok=True)


def test_taus_interval_knows_noise() -> None:
    rng = np.random.default_rng(0)
    means = np.linspace(0.6, 0.5, 6)
    measures = [
        Measure({0: Column("x", ({f"{n}": (float(rng.random() < mean), 1) for n in range(100)},))}) for mean in means
    ]
    agreement = compute_agreement(measures)
    assert agreement is not None
    tau, (low, high) = agreement
    assert tau == pytest.approx(kendalltau(-np.arange(6), [one.value for one in measures]).statistic)
    assert low < tau < high


def test_all_forms_hold_the_same_and_escape_it(table: Table, tmp_path: Path) -> None:
    facts = list_facts("easy", (0, 1, 2), 104)
    assert "at most 104 steps" in facts[0]
    text, page = format_markdown([table], facts), format_html([table], facts, {"table6": b"picture"})
    assert r"0.800 \[0.800, 0.800\]" in text
    assert "0.800 [0.800, 0.800]" in page
    assert "&lt;good&gt;" in page
    assert "<good>" not in page + text
    assert page.count("<th>") == 9 + 8
    assert "poor \\| bad" in text
    lines = list(csv.DictReader(StringIO(format_csv([table]))))
    (balanced,) = [line for line in lines if (line["row"], line["column"], line["minus"]) == ("<good>", "balanced", "")]
    assert (float(balanced["value"]), balanced["seeds"], balanced["paper"]) == (0.8, "0 1 2", "1")
    (pair,) = [line for line in lines if line["minus"] == "middle"]
    assert float(pair["value"]) == pytest.approx(0.2)
    (tau,) = [line for line in lines if line["column"] == "Kendall's tau"]
    assert float(tau["value"]) == pytest.approx(0.816, abs=1e-3)
    files = write_tables(tmp_path / "tables", [table], facts)
    assert [file.name for file in files] == ["ablations.md", "ablations.csv", "ablations.html", "table6.png"]
    assert files[-1].read_bytes().startswith(b"\x89PNG")


def test_a_curve_is_drawn_with_what_is_there(folders: dict[str, dict[int, Path]], tmp_path: Path) -> None:
    rows = (Row("a", GOOD, place=1.0), Row("b", MIDDLE, place=2.0), Row("c", Variant("absent"), place=3.0))
    table = build_table(Study("figure3a", "A curve", rows, axis="L"), folders | {"absent": {}}, {})
    assert write_tables(tmp_path / "tables", [table], [])[-1].stat().st_size > 1000
    assert json.loads((folders["good"][0] / "metrics.json").read_text())["n"] == 10 * VIDEOS
