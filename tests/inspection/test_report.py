"""What pictures and pages share: the time axis, which frames are shown, what is said, letters."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_selections import SETTINGS, chosen

from dynfocus.inspection.report.axis import Axis, clock
from dynfocus.inspection.report.canvas import COLORS, DRAWN, drawable, font, length, wrapped
from dynfocus.inspection.report.chart import thinned
from dynfocus.inspection.report.filmstrip import shown
from dynfocus.inspection.report.style import DARK
from dynfocus.inspection.report.telling import doubt, legend, meaning, others_give, ranks, summary
from dynfocus.records.selections import Selection

GAPS = st.lists(st.floats(0.001, 100), min_size=0, max_size=60)
TIMES = GAPS.map(lambda gaps: tuple(np.cumsum([0.0, *gaps]).tolist()))


@given(TIMES)
def test_slices_fill_the_axis_and_each_holds_its_time_stamp(seconds: tuple[float, ...]) -> None:
    axis = Axis(seconds, 100, 1100)
    assert axis.edges[0] == pytest.approx(100)
    assert axis.edges[-1] == pytest.approx(1100)
    assert len(axis.edges) == len(seconds) + 1
    assert (np.diff(axis.edges) >= 0).all()
    assert (axis.edges[:-1] <= axis.centres + 1e-6).all()
    assert (axis.centres <= axis.edges[1:] + 1e-6).all()


@given(TIMES)
def test_ticks_are_few_round_and_within(seconds: tuple[float, ...]) -> None:
    ticks = Axis(seconds, 0, 1000).ticks()
    assert len(ticks) <= 12
    assert all(seconds[0] - 1e-6 <= tick <= seconds[-1] + 1e-6 for tick in ticks)
    assert not any(f"{tick:.10g}" == "-0" for tick in ticks)
    if len(ticks) > 1:
        step = ticks[1] - ticks[0]
        assert f"{step:.0e}"[0] in "125"


def test_equal_time_stamps_still_make_an_axis() -> None:
    axis = Axis((0.0, 0.0, 0.0), 0, 100)
    assert np.isfinite(axis.edges).all()
    assert axis.edges[-1] == 100


@given(TIMES, st.data())
def test_joined_slices_cover_exactly_their_frames(seconds: tuple[float, ...], data: st.DataObject) -> None:
    frames = data.draw(st.sets(st.integers(0, len(seconds) - 1)))
    axis = Axis(seconds, 0, 1000)
    spans = axis.spans(frames)
    assert sum(width for _, width in spans) == pytest.approx(sum(np.diff(axis.edges)[list(frames)]), abs=1e-6)


def test_no_slice_is_too_narrow_to_be_seen_nor_leaves_the_axis() -> None:
    axis = Axis(tuple(map(float, range(1000))), 0, 100)
    assert axis.spans([0, 500, 999], least=3) == [(0, 3), (pytest.approx(50), 3), (97, 3)]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=500), st.integers(20, 600))
def test_runs_leave_no_gap_and_change_their_label(labels: list[int], units: int) -> None:
    runs = Axis(tuple(map(float, range(len(labels)))), 10, 10 + units).runs(labels)
    assert runs[0][0] == pytest.approx(10)
    assert sum(width for _, width, _ in runs) == pytest.approx(units)
    assert all(a[0] + a[1] == pytest.approx(b[0]) and a[2] != b[2] for a, b in pairwise(runs))
    if units >= len(labels):
        kinds = [label for n, label in enumerate(labels) if n == 0 or labels[n - 1] != label]
        assert [label for _, _, label in runs] == kinds


@given(st.integers(1, 300), st.integers(1, 40), st.integers(0, 5))
def test_a_strip_shows_kept_frames_first(frames: int, places: int, seed: int) -> None:
    selection = chosen(frames, seed)
    there = shown(selection, places)
    assert len(there) == min(frames, places)
    assert list(there) == sorted(set(there))
    if places >= len(selection.kept):
        assert set(selection.kept) <= set(there)
    else:
        assert set(there) <= set(selection.kept)
        assert set(list(ranks(selection))[:places]) <= set(there)


def test_a_strip_without_scores_is_even() -> None:
    even = Selection(tuple(map(float, range(100))), tuple(range(0, 100, 2)), 1, 1)
    assert np.diff(shown(even, 10)).tolist() == [10] * 9
    nothing = Selection(tuple(map(float, range(100))), (), 1, 0)
    assert np.diff(shown(nothing, 10)).tolist() == [10] * 9


@given(st.integers(1, 100), st.integers(0, 5))
def test_ranks_are_those_of_figure_5(frames: int, seed: int) -> None:
    selection = chosen(frames, seed)
    rank, score = ranks(selection), dict(zip(selection.representatives, selection.scores, strict=True))
    assert tuple(sorted(rank)) == (selection.best(6) if len(selection.kept) > 1 else ())
    assert [score[frame] for frame in rank] == sorted((score[frame] for frame in rank), reverse=True)
    assert list(rank.values()) == list(range(1, len(rank) + 1))


@given(st.integers(1, 2000), st.sets(st.integers(0, 1999), max_size=9), st.integers(1, 60), st.integers(0, 99))
def test_a_thinned_curve_keeps_its_gaps_and_extremes(count: int, gaps: set[int], width: int, seed: int) -> None:
    there = np.array([n not in gaps for n in range(count)])
    xs, ys = np.linspace(0, width, count), np.random.default_rng(seed).normal(size=count)
    stretches = thinned(xs, ys, there)
    points = [point for stretch in stretches for point in stretch]
    assert len(points) <= 4 * (width + 1) + 4 * len(gaps)
    assert len(stretches) == int((np.diff(there.astype(int), prepend=0) == 1).sum())
    if there.any():
        assert {max(y for _, y in points), min(y for _, y in points)} == {
            max(ys[there]),
            min(ys[there]),
        }


def test_what_is_said_follows_the_counts() -> None:
    selection = chosen(20)
    kept = "4 of 20 frames kept; 192 visual tokens (152 cones, 40 rods)"
    assert summary(selection) == f"{kept}; the paper's 256 a frame would be 5,120"
    assert ("cone", "kept (b = 1): cones and rods; numbered from the highest score s") in legend(selection)
    assert all(word in meaning(selection) for word in ("rho*delta", "(s)", "cones"))
    assert others_give(selection)
    many = chosen(60, settings=replace(SETTINGS, events=20))
    assert legend(many)[0][1].endswith("; the 6 of the highest scores s are numbered")
    silent = Selection(selection.seconds, selection.kept, 152, 8)  # redundant_tokens = 0
    assert [color for color, _ in legend(silent)] == ["cone", "none"]
    averaged = Selection(selection.seconds, (), 320, 0)
    assert "20 frames, all alike; 320 visual tokens (averaged patches)" in summary(averaged)
    assert [color for color, _ in legend(averaged)] == ["none"]
    assert not any(word in meaning(averaged) for word in ("rho*delta", "(s)", "cones"))
    whole = Selection((0.0,), (0,), 38, 2)
    assert [color for color, _ in legend(whole)] == ["cone"]
    assert summary(whole).startswith("1 of 1 frame kept; 40 visual tokens")


def test_odd_numbers_are_called_odd() -> None:
    assert doubt((0.1, 0.2)) == doubt((0.0,)) == doubt(()) == ""
    assert doubt((0.0, 0.0)) == "all 2 are equal"
    assert doubt((0.0, float("nan"), float("inf"))) == "2 of 3 are not finite numbers"
    assert doubt((float("nan"),)) == "1 of 1 are not finite numbers"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (7.5, "7.5 s"), (99, "99 s"), (125, "2:05"), (3725.9, "1:02:05")]
)
def test_times_read_as_people_read_them(seconds: float, words: str) -> None:
    assert clock(seconds) == words


@given(st.text())
def test_any_text_can_be_drawn_and_wrapped(words: str) -> None:
    assert set(drawable(words)) <= DRAWN
    lines = wrapped(words, 15, 120)
    assert len(lines) <= 3
    assert all(length(line, 15) <= 120 + length("...", 15) for line in lines)


def test_a_long_text_is_cut_where_it_ends_in_dots() -> None:
    for words in ("word " * 10**5, "w" * 10**6, "  \n" * 10**5 + "w" * 10**5):
        lines = wrapped(words, 15, 500)
        assert len(lines) == 3
        assert lines[-1].endswith("...")
        assert all(400 < length(line, 15) < 520 for line in lines)
    assert wrapped("two words", 15, 500) == ["two words"]
    assert wrapped(" \n", 15, 500) == []


def test_the_letters_that_are_drawn_are_in_the_font() -> None:
    absent = bytes(font(20).getmask("\uffff"))
    assert not [letter for letter in DRAWN - {" "} if bytes(font(20).getmask(letter)) == absent]
    assert drawable("Ünïcode\n日本 \ud800") == "Unicode ?? ?"


def luminance(color: tuple[int, int, int]) -> float:
    parts = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


@pytest.mark.parametrize("colors", [COLORS, COLORS | DARK], ids=["light", "dark"])
def test_words_and_marks_stand_out_from_their_ground(colors: dict[str, tuple[int, int, int]]) -> None:
    def contrast(one: str, other: str) -> float:
        bright, dim = sorted((luminance(colors[one]), luminance(colors[other])), reverse=True)
        return (bright + 0.05) / (dim + 0.05)

    assert contrast("ink", "paper") > 7
    assert contrast("faint", "paper") > 4.5
    assert min(contrast(name, "paper") for name in ("cone", "peak", "relevant")) > 3
    assert min(contrast("dark", f"event{n}") for n in range(10)) > 4.5
    assert contrast("cone", "rod") > 1.5


def test_the_settings_of_these_tests_keep_some_and_leave_some() -> None:
    selection = chosen(20, settings=SETTINGS)
    assert 0 < len(selection.kept) < len(selection.representatives) < 20
