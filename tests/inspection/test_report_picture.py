"""The picture of a selection: what stands where, for every shape of selection."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import ImageColor
from sample_selections import CountedFrames, choose, color, inspection, plain_frames

from dynfocus.errors import ConfigError
from dynfocus.inspection.charts import COLORS, EVENTS, make_figure
from dynfocus.inspection.content import Inspection
from dynfocus.inspection.storyboard import draw_storyboard
from dynfocus.inspection.timeline import (
    add_row,
    draw_events,
    draw_mask,
    draw_peaks,
    draw_relevant,
    draw_scores,
    find_borders,
    to_pixels,
)
from dynfocus.records.selections import Selection


def draw_row(draw: object, selection: Selection, width: int = 536) -> tuple[Axes, np.ndarray]:
    """A curve's or ribbon's axes and pixels."""
    figure, borders = make_figure(width, 20), find_borders(selection.seconds)
    axes = add_row(figure, borders, 0, 20)
    draw(axes, selection, borders)  # type: ignore[operator]
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return axes, np.asarray(canvas.buffer_rgba())[..., :3]


def colors_of(draw: object, selection: Selection) -> list[str]:
    """The colours in the middles of the frames' slices of one ribbon."""
    _, pixels = draw_row(draw, selection)
    edges = to_pixels(borders := find_borders(selection.seconds), borders, 536)
    return ["#{:02x}{:02x}{:02x}".format(*pixels[4, int(x)]) for x in (edges[:-1] + edges[1:]) / 2]


@pytest.mark.parametrize("frames", [1, 2, 20, 57])
def test_ribbons_show_every_frame(frames: int) -> None:
    selection = choose(frames, relevant=((0,),))
    mask = [COLORS["cone" if frame in selection.kept else "rod"] for frame in range(frames)]
    assert colors_of(draw_mask, selection) == mask
    silent = replace(selection, rods=2 * len(selection.kept))
    unseen = [COLORS["cone" if frame in selection.kept else "none"] for frame in range(frames)]
    assert colors_of(draw_mask, silent) == unseen
    assert colors_of(draw_events, selection) == [EVENTS[event % 10] for event in selection.nearest]
    assert colors_of(draw_relevant, selection)[0] == COLORS["relevant"]
    assert COLORS["relevant"] not in colors_of(draw_relevant, selection)[1:]


def test_a_kept_frame_is_seen_in_a_video_of_hours() -> None:
    _, pixels = draw_row(draw_mask, Selection(tuple(map(float, range(10_000))), (5_000,), 38, 20_000))
    cone, rod = (np.array(ImageColor.getrgb(COLORS[name])) for name in ("cone", "rod"))
    to_cone, to_rod = (np.abs(pixels[10, 120:500].astype(int) - one).sum(-1) for one in (cone, rod))
    assert 1 <= (to_cone < to_rod).sum() <= 3


def test_curves_stand_at_their_time_and_height() -> None:
    selection = replace(choose(4), peaks=(0.0, 1.0, 0.5, 0.25), representatives=(1, 3), nearest=(0, 0, 1, 1))
    selection = replace(selection, scores=(1.0, 0.5), kept=(1,))
    axes, _ = draw_row(draw_peaks, selection)
    assert axes.lines[0].get_xydata().tolist() == [[0, 0], [1, 1], [2, 0.5], [3, 0.25]]  # type: ignore[union-attr]
    scores, _ = draw_row(draw_scores, selection)
    ranked, _ = draw_row(draw_scores, replace(selection, kept=(1, 3)))
    texts = [[text.get_text() for text in one.texts if text.get_text().isdigit()] for one in (scores, ranked)]
    assert texts == [[], ["1", "2"]], "one kept frame alone has no rank"
    for one, heights in ((axes, (1, 0.25)), (scores, (1, 0.5))):
        dots = one.collections[-1]
        assert dots.get_offsets().tolist() == [[1, heights[0]], [3, heights[1]]]  # type: ignore[union-attr]
        fills = (255 * dots.get_facecolor()[:, :3]).round().tolist()  # type: ignore[index]
        assert fills == [list(ImageColor.getrgb(COLORS[name])) for name in ("cone", "paper")]


def test_numbers_that_are_none_leave_gaps_and_lone_ones_are_dots() -> None:
    nan = float("nan")
    axes, _ = draw_row(draw_peaks, replace(choose(5), peaks=(nan, 2.0, nan, 1.0, float("inf"))))
    curve, *dots = (line.get_xydata().tolist() for line in axes.lines)  # type: ignore[union-attr]
    assert [point[1] for point in curve if np.isfinite(point[1])] == [1, 0.5]
    assert dots == [[[1, 1]], [[3, 0.5]]]


def test_a_strip_frames_what_was_kept_and_fades_the_rest() -> None:
    one = inspection(20)
    codes = np.unique(np.asarray(draw_storyboard(one)).reshape(-1, 3).astype(int) @ [65536, 256, 1])
    colors = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], 1)
    for frame in range(20):
        kept = frame in one.selection.kept
        faded = [part + 0.55 * (255 - part) for part in color(frame)]
        assert (np.abs(colors - color(frame)).max(1).min() == 0) == kept
        assert kept or np.abs(colors - faded).max(1).min() <= 1


def test_frames_of_every_shape_keep_it() -> None:
    for height, width in ((48, 48), (90, 160), (160, 90), (10, 400), (1, 1)):
        one = Inspection(choose(20), plain_frames(20, height, width))
        drawn = np.asarray(draw_storyboard(one))
        (ys, xs), frame = np.nonzero((drawn == color(one.selection.kept[0])).all(-1)), height / width
        assert len(ys)
        assert np.ptp(ys) + 1 == pytest.approx((np.ptp(xs) + 1) * frame, abs=2.5)
    assert (
        draw_storyboard(Inspection(choose(3), plain_frames(3, 400, 40))).height
        < 150 + draw_storyboard(Inspection(choose(3))).height + 80
    )


def test_the_same_inspection_gives_the_same_pixels() -> None:
    assert draw_storyboard(inspection(33)).tobytes() == draw_storyboard(inspection(33)).tobytes()
    assert draw_storyboard(inspection(33)).tobytes() != draw_storyboard(inspection(33, truth="star blue")).tobytes()


numbers = st.floats(allow_nan=True, allow_infinity=True)


@settings(max_examples=20)
@given(st.integers(1, 40), st.integers(0, 9), st.integers(400, 1300), st.data())
def test_any_selection_has_a_picture(frames: int, seed: int, width: int, data: st.DataObject) -> None:
    selection = choose(frames, seed)
    values = {name: data.draw(st.sampled_from(["as it is", "odd", "absent"])) for name in ("peaks", "scores")}
    for name, kind in values.items():
        count = 0 if kind == "absent" else len(getattr(selection, name))
        if kind != "as it is":
            odd = tuple(data.draw(st.lists(numbers, min_size=count, max_size=count)))
            selection = replace(selection, **{name: odd})
    if data.draw(st.booleans()):
        selection = replace(selection, relevant=((0, frames - 1), ()))
    thumbnails = plain_frames(frames) if data.draw(st.booleans()) else ()
    drawn = draw_storyboard(
        Inspection(selection, thumbnails, data.draw(st.text()), data.draw(st.text()), "a", "b"), width
    )
    assert drawn.width == width
    assert drawn.mode == "RGB"


@pytest.mark.parametrize("frames", [1, 20])
def test_a_selection_of_nothing_but_times_has_a_picture(frames: int) -> None:
    seconds = tuple(map(float, range(frames)))
    for selection in (Selection(seconds, (0,), 38, 2), Selection(seconds, (), 16 * frames, 0)):
        bare = Inspection(selection)
        assert draw_storyboard(replace(bare, frames=plain_frames(frames))).height > draw_storyboard(bare).height > 60


def test_a_long_video_is_looked_at_in_few_frames() -> None:
    watched = CountedFrames(10_000)
    drawn = draw_storyboard(Inspection(choose(10_000), watched, "long"))
    assert len(watched.read) <= 25
    assert drawn.height < 800


def test_pictures_that_nobody_could_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 400"):
        draw_storyboard(inspection(3), 399)
    with pytest.raises(ConfigError, match="2 frames and 3 time stamps"):
        draw_storyboard(Inspection(choose(3), plain_frames(2)))
    with pytest.raises(ConfigError, match="0 frames and 0 time stamps"):
        draw_storyboard(Inspection(Selection((), (), 0, 0)))
