"""What pictures and pages share: the time axis, which frames are shown, what is said, letters."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageColor
from sample_selections import SETTINGS, choose

from dynfocus.inspection.charts import COLORS, EVENTS, make_figure, text_width, wrap_text
from dynfocus.inspection.frames import choose_strip
from dynfocus.inspection.page import DARK
from dynfocus.inspection.timeline import draw_scale, find_borders, find_runs, to_pixels
from dynfocus.inspection.wording import (
    explain_terms,
    format_time,
    list_legend,
    others_give_rods,
    rank_frames,
    summarize,
    warn_of,
)
from dynfocus.records.selections import Selection

GAPS = st.lists(st.floats(0.001, 100), min_size=0, max_size=60)
TIMES = GAPS.map(lambda gaps: tuple(np.cumsum([0.0, *gaps]).tolist()))


@given(TIMES)
def test_slices_fill_the_axis_and_each_holds_its_time_stamp(seconds: tuple[float, ...]) -> None:
    borders = find_borders(seconds)
    edges, centres = (to_pixels(times, borders, 1200) for times in (borders, seconds))
    assert edges[[0, -1]].tolist() == [116, 1180]
    assert len(edges) == len(seconds) + 1
    assert (np.diff(edges) >= 0).all()
    assert (edges[:-1] <= centres + 1e-6).all()
    assert (centres <= edges[1:] + 1e-6).all()


@settings(max_examples=30)
@given(TIMES, st.integers(400, 1300))
def test_ticks_are_few_round_and_within(seconds: tuple[float, ...], width: int) -> None:
    figure = make_figure(width, 100)
    draw_scale(figure, find_borders(seconds), seconds, 10)
    [axes] = figure.axes
    ticks = axes.get_xticks().tolist()
    assert 1 <= len(ticks) <= min(12, 2 + (width - 136) // 50)
    assert all(seconds[0] <= tick <= seconds[-1] for tick in ticks)
    assert not any(label.get_text() == "-0" for label in axes.get_xticklabels())
    if len(ticks) > 1:
        assert f"{ticks[1] - ticks[0]:.0e}"[0] in "125"


def test_equal_time_stamps_still_make_an_axis() -> None:
    borders = find_borders((0.0, 0.0, 0.0))
    assert np.isfinite(to_pixels(borders, borders, 1200)).all()


@given(st.lists(st.integers(0, 3), min_size=1, max_size=500))
def test_runs_leave_no_gap_and_change_their_label(labels: list[int]) -> None:
    runs = find_runs(labels)
    assert [label for start, end, label in runs for _ in range(start, end)] == labels
    assert all(a[1] == b[0] and a[2] != b[2] for a, b in pairwise(runs))


@given(st.integers(1, 300), st.integers(1, 40), st.integers(0, 5))
def test_a_strip_shows_kept_frames_first(frames: int, places: int, seed: int) -> None:
    selection = choose(frames, seed)
    there = choose_strip(selection, places)
    assert len(there) == min(frames, places)
    assert there == sorted(set(there))
    if places >= len(selection.kept):
        assert set(selection.kept) <= set(there)
    else:
        assert set(there) <= set(selection.kept)
        assert set(list(rank_frames(selection))[:places]) <= set(there)


def test_a_strip_without_scores_is_even() -> None:
    even = Selection(tuple(map(float, range(100))), tuple(range(0, 100, 2)), 1, 1)
    assert np.diff(choose_strip(even, 10)).tolist() == [10] * 9
    nothing = Selection(tuple(map(float, range(100))), (), 1, 0)
    assert np.diff(choose_strip(nothing, 10)).tolist() == [10] * 9


@given(st.integers(1, 100), st.integers(0, 5))
def test_ranks_are_those_of_figure_5(frames: int, seed: int) -> None:
    selection = choose(frames, seed)
    rank, score = rank_frames(selection), dict(zip(selection.representatives, selection.scores, strict=True))
    assert tuple(sorted(rank)) == (selection.best(6) if len(selection.kept) > 1 else ())
    assert [score[frame] for frame in rank] == sorted((score[frame] for frame in rank), reverse=True)
    assert list(rank.values()) == list(range(1, len(rank) + 1))


def test_what_is_said_follows_the_counts() -> None:
    selection = choose(20)
    kept = "4 of 20 frames kept; 192 visual tokens (152 cones, 40 rods)"
    assert summarize(selection) == f"{kept}; the paper's 256 a frame would be 5,120"
    assert ("cone", "kept (b = 1): cones and rods; numbered from the highest score s") in list_legend(selection)
    assert all(word in explain_terms(selection) for word in ("rho*delta", "(s)", "cones"))
    assert others_give_rods(selection)
    many = choose(60, settings=replace(SETTINGS, events=20))
    assert list_legend(many)[0][1].endswith("; the 6 of the highest scores s are numbered")
    silent = Selection(selection.seconds, selection.kept, 152, 8)  # redundant_tokens = 0
    assert [color for color, _ in list_legend(silent)] == ["cone", "none"]
    averaged = Selection(selection.seconds, (), 320, 0)
    assert "20 frames, all alike; 320 visual tokens (averaged patches)" in summarize(averaged)
    assert [color for color, _ in list_legend(averaged)] == ["none"]
    assert not any(word in explain_terms(averaged) for word in ("rho*delta", "(s)", "cones"))
    whole = Selection((0.0,), (0,), 38, 2)
    assert [color for color, _ in list_legend(whole)] == ["cone"]
    assert summarize(whole).startswith("1 of 1 frame kept; 40 visual tokens")


def test_odd_numbers_are_called_odd() -> None:
    assert warn_of((0.1, 0.2)) == warn_of((0.0,)) == warn_of(()) == ""
    assert warn_of((0.0, 0.0)) == "all 2 are equal"
    assert warn_of((0.0, float("nan"), float("inf"))) == "2 of 3 are not finite numbers"
    assert warn_of((float("nan"),)) == "1 of 1 are not finite numbers"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (7.5, "7.5 s"), (99, "99 s"), (125, "2:05"), (3725.9, "1:02:05")]
)
def test_times_read_as_people_read_them(seconds: float, words: str) -> None:
    assert format_time(seconds) == words


@settings(max_examples=30)
@given(st.text())
def test_any_text_can_be_wrapped(words: str) -> None:
    lines = wrap_text(words, 15, 120)
    assert len(lines) <= 3
    assert all(text_width(line, 15) <= 120 + text_width("...", 15) for line in lines)


def test_a_long_text_is_cut_where_it_ends_in_dots() -> None:
    for words in ("word " * 10**5, "w" * 10**6, "  \n" * 10**5 + "w" * 10**5):
        lines = wrap_text(words, 15, 500)
        assert len(lines) == 3
        assert lines[-1].endswith("...")
        assert all(400 < text_width(line, 15) < 520 for line in lines)
    assert wrap_text("two words", 15, 500) == ["two words"]
    assert wrap_text(" \n", 15, 500) == []


def test_letters_that_the_font_lacks_are_question_marks_and_what_cannot_be_seen_is_named() -> None:
    assert wrap_text("Ünïcode\n\U00020000 \ud800", 15, 500) == ["Ünïcode ? ?"]
    assert wrap_text("\u202egpj.exe", 15, 500) == ["\\u202egpj.exe"]


def luminance(name: str) -> float:
    color = ImageColor.getrgb(name)
    parts = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


@pytest.mark.parametrize("colors", [COLORS, COLORS | DARK], ids=["light", "dark"])
def test_words_and_marks_stand_out_from_their_ground(colors: dict[str, str]) -> None:
    colors = colors | {f"event{n}": color for n, color in enumerate(EVENTS)}

    def contrast(one: str, other: str) -> float:
        bright, dim = sorted((luminance(colors[one]), luminance(colors[other])), reverse=True)
        return (bright + 0.05) / (dim + 0.05)

    assert contrast("ink", "paper") > 7
    assert contrast("faint", "paper") > 4.5
    assert min(contrast(name, "paper") for name in ("cone", "peak", "relevant")) > 3
    assert min(contrast("dark", f"event{n}") for n in range(10)) > 4.5
    assert contrast("cone", "rod") > 1.5


def test_the_settings_of_these_tests_keep_some_and_leave_some() -> None:
    selection = choose(20, settings=SETTINGS)
    assert 0 < len(selection.kept) < len(selection.representatives) < 20
