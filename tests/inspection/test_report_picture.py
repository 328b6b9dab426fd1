"""The picture of a selection: what stands where, for every shape of selection."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_selections import Watched, chosen, color, plain, story

from dynfocus.errors import ConfigError
from dynfocus.inspection.report.axis import Axis
from dynfocus.inspection.report.canvas import COLORS, Pixels, Vectors
from dynfocus.inspection.report.chart import draw_chart, draw_events, draw_mask, draw_relevant, rows
from dynfocus.inspection.report.picture import picture
from dynfocus.inspection.report.story import Story
from dynfocus.records.selections import Selection

NAN = float("nan")


def pixels(draw: object, selection: Selection, width: int = 400) -> list[tuple[int, int, int]]:
    """The colours in the middles of the frames' slices of one ribbon."""
    canvas, axis = Pixels(width, 20), Axis(selection.seconds, 0, width)
    draw(canvas, selection, axis, 0, 20)  # type: ignore[operator]
    return [canvas.picture().getpixel((int(x), 3)) for x in (axis.edges[:-1] + axis.edges[1:]) / 2]  # type: ignore[misc]


@pytest.mark.parametrize("frames", [1, 2, 20, 57])
def test_ribbons_tell_of_every_frame(frames: int) -> None:
    selection = chosen(frames, relevant=((0,),))
    mask = [COLORS["cone"] if frame in selection.kept else COLORS["rod"] for frame in range(frames)]
    assert pixels(draw_mask, selection) == mask
    silent = replace(selection, rods=2 * len(selection.kept))
    unseen = [COLORS["cone"] if frame in selection.kept else COLORS["none"] for frame in range(frames)]
    assert pixels(draw_mask, silent) == unseen
    assert pixels(draw_events, selection) == [COLORS[f"event{event % 10}"] for event in selection.nearest]
    assert pixels(draw_relevant, selection)[0] == COLORS["relevant"]
    assert COLORS["relevant"] not in pixels(draw_relevant, selection)[1:]


def test_a_kept_frame_is_seen_in_a_video_of_hours() -> None:
    selection = Selection(tuple(map(float, range(10_000))), (5_000,), 38, 20_000)
    canvas, axis = Pixels(400, 20), Axis(selection.seconds, 0, 400)
    draw_mask(canvas, selection, axis, 0, 20)
    row = np.asarray(canvas.picture())[10]
    assert 1 <= (row == COLORS["cone"]).all(-1).sum() <= 3


def test_curves_stand_at_their_time_and_height() -> None:
    selection = replace(chosen(4), peaks=(0.0, 1.0, 0.5, 0.25), representatives=(1, 3), nearest=(0, 0, 1, 1))
    selection = replace(selection, scores=(1.0, 0.0), kept=(1,))
    canvas, axis = Vectors(), Axis(selection.seconds, 100, 500)
    draw_chart(canvas, selection, axis, 0)
    (road,) = [element for element in canvas.elements if 'class="l-peak"' in element]
    top, height = 0, rows(selection)[0].height
    points = [(150, height), (250, top), (350, height / 2), (450, height * 0.75)]
    assert f'points="{" ".join(f"{x:g},{y:g}" for x, y in points)}"' in road
    dots = [element for element in canvas.elements if element.startswith("<circle")]
    assert [("f-cone" in dot, dot.split('"')[1]) for dot in dots] == [(True, "250"), (False, "450")] * 2


def test_a_strip_frames_what_was_kept_and_fades_the_rest() -> None:
    told = story(20)
    codes = np.unique(np.asarray(picture(told)).reshape(-1, 3).astype(int) @ [65536, 256, 1])
    colors = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], 1)
    for frame in range(20):
        kept = frame in told.selection.kept
        faded = [part + 0.55 * (255 - part) for part in color(frame)]
        assert (np.abs(colors - color(frame)).max(1).min() == 0) == kept
        assert kept or np.abs(colors - faded).max(1).min() <= 1


def test_frames_of_every_shape_keep_it() -> None:
    for height, width in ((48, 48), (90, 160), (160, 90), (10, 400), (1, 1)):
        told = Story(chosen(20), plain(20, height, width))
        drawn = np.asarray(picture(told))
        (ys, xs), frame = np.nonzero((drawn == color(told.selection.kept[0])).all(-1)), height / width
        assert len(ys)
        assert np.ptp(ys) + 1 == pytest.approx((np.ptp(xs) + 1) * frame, abs=2.5)
    assert picture(Story(chosen(3), plain(3, 400, 40))).height < 150 + picture(Story(chosen(3))).height + 80


def test_the_same_story_gives_the_same_pixels() -> None:
    assert picture(story(33)).tobytes() == picture(story(33)).tobytes()
    assert picture(story(33)).tobytes() != picture(story(33, truth="star blue")).tobytes()


numbers = st.floats(allow_nan=True, allow_infinity=True)


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(0, 9), st.integers(400, 1300), st.data())
def test_any_selection_has_a_picture(frames: int, seed: int, width: int, data: st.DataObject) -> None:
    selection = chosen(frames, seed)
    values = {name: data.draw(st.sampled_from(["as it is", "odd", "absent"])) for name in ("peaks", "scores")}
    for name, kind in values.items():
        count = 0 if kind == "absent" else len(getattr(selection, name))
        if kind != "as it is":
            odd = tuple(data.draw(st.lists(numbers, min_size=count, max_size=count)))
            selection = replace(selection, **{name: odd})
    if data.draw(st.booleans()):
        selection = replace(selection, relevant=((0, frames - 1), ()))
    seen = plain(frames) if data.draw(st.booleans()) else ()
    drawn = picture(Story(selection, seen, data.draw(st.text()), data.draw(st.text()), "a", "b"), width)
    assert drawn.width == width
    assert drawn.mode == "RGB"


@pytest.mark.parametrize("frames", [1, 20])
def test_a_selection_of_nothing_but_times_has_a_picture(frames: int) -> None:
    seconds = tuple(map(float, range(frames)))
    for selection in (Selection(seconds, (0,), 38, 2), Selection(seconds, (), 16 * frames, 0)):
        assert picture(Story(selection, plain(frames))).height > picture(Story(selection)).height > 60


def test_a_long_video_is_looked_at_in_few_frames() -> None:
    watched = Watched(10_000)
    drawn = picture(Story(chosen(10_000), watched, "long"))
    assert len(watched.seen) <= 25
    assert drawn.height < 800


def test_pictures_that_nobody_could_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 400"):
        picture(story(3), 399)
    with pytest.raises(ConfigError, match="2 frames and 3 time stamps"):
        picture(Story(chosen(3), plain(2)))
    with pytest.raises(ConfigError, match="0 frames and 0 time stamps"):
        picture(Story(Selection((), (), 0, 0)))
