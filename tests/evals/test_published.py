"""The published rows that tables show: where they come from, and that averages follow from their columns."""

import json

import pytest

from dynfocus.evals.benchmarks import BENCHMARKS
from dynfocus.evals.published import FILE, PublishedRow, list_mismatches, read_notes, read_published, recompute_averages

ROWS = [row for name in BENCHMARKS for row in read_published(name)]
# Where the published average does not follow from its own columns: 176 / 5 is 35.2, and 35.1 is printed.
MISMATCHES = {("videohallucer", "DynFocus", "the poster"): ["Overall"]}


def name(row: PublishedRow) -> str:
    return f"{row.benchmark} {row.model}, {row.source}"


def test_every_row_belongs_to_a_benchmark() -> None:
    stored = json.loads(FILE.read_text())
    assert len(ROWS) == len(stored["rows"]) == 28
    assert set(stored["notes"]) <= set(BENCHMARKS)
    assert all(isinstance(note, str) for name in stored["notes"] for note in read_notes(name))


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_a_row_names_its_source_and_columns_that_exist(row: PublishedRow) -> None:
    assert row.model
    assert row.source
    assert list(row.values) == [column for column in BENCHMARKS[row.benchmark].columns if column in row.values]
    assert all(0 <= float(value) <= 100 for value in row.values.values())


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_averages_follow_from_their_columns(row: PublishedRow) -> None:
    """To the printed digit, but for those that are named here."""
    assert list_mismatches(row) == MISMATCHES.get((row.benchmark, row.model, row.source), [])


def test_the_averages_of_the_paper_are_recomputed() -> None:
    """Each from the columns of its row, through the code that averages our own answers."""
    recomputed = {
        (row.benchmark, average): (row.values[average], value)
        for row in ROWS
        for average, value in recompute_averages(row).items()
        if not list_mismatches(row)
    }
    assert {key: printed for key, (printed, _) in recomputed.items()} == {
        ("vcg-bench", "Avg"): "3.17",
        ("mlvu", "M-Avg"): "48.3",
        ("mlvu", "G-Avg"): "4.35",
        ("videomme", "Overall"): "44.1",
        ("videomme-subtitles", "Overall"): "47.8",
        ("videohallucer", "Overall"): "21.0",
    }
    exact = {("vcg-bench", "Avg"): 3.168, ("mlvu", "M-Avg"): 48.3, ("mlvu", "G-Avg"): 4.35}
    exact |= {("videomme", "Overall"): 132.3 / 3, ("videomme-subtitles", "Overall"): 143.3 / 3}
    exact |= {("videohallucer", "Overall"): 21.0}
    assert {key: value for key, (_, value) in recomputed.items()} == pytest.approx(exact)


def test_an_average_that_is_off_by_one_digit_is_found() -> None:
    values = {"short": "50.9", "medium": "43.7", "long": "37.7"}
    assert list_mismatches(PublishedRow("videomme", "m", "s", values | {"Overall": "44.1"})) == []
    assert list_mismatches(PublishedRow("videomme", "m", "s", values | {"Overall": "44.2"})) == ["Overall"]
    incomplete = PublishedRow("videomme", "m", "s", {"short": "50.9", "long": "37.7", "Overall": "1"})
    assert recompute_averages(incomplete) == {}


def test_where_paper_and_poster_disagree_both_are_kept() -> None:
    assert ["L = 50" in note and "L = 60" in note for note in read_notes("lvbench")] == [True]
    non_factual = {row.source: row.values["Non-Factual"] for row in read_published("videohallucer")[:2]}
    assert non_factual == {"VideoHallucer's own list": "21", "the poster": "3.5"}
