"""The embedded world's pixels: what happens is drawn, can be told apart, and survives the video file."""

import io
import math
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np

from dynfocus.settings import FrameRule
from dynfocus.video import read_clip
from dynfocus.world import dataset
from dynfocus.world.dataset import encode_video
from dynfocus.world.pixels import CELL, FORMS, PLACE_RGB, TEXTURES, THING_RGB, render, to_yuv
from dynfocus.world.videos import CELLS, COLORS, PLACES, SHAPES, Event, Scene, Thing, WorldVideo, sample_video

RULE = FrameRule(size=48, interpolation="box")


def test_everything_that_happens_is_drawn():
    assert tuple(THING_RGB) == COLORS
    assert tuple(FORMS) == SHAPES
    assert tuple(PLACE_RGB) == tuple(TEXTURES) == PLACES


def test_rendering_hangs_on_seed_and_index_alone():
    videos = [sample_video(seed, index) for seed, index in ((1, 0), (1, 1), (2, 0))]
    frames = [render(video) for video in videos]
    assert all((render(video) == one).all() for video, one in zip(videos, frames, strict=True))
    assert all(one.shape == (20, 48, 48, 3) and one.dtype == np.uint8 for one in frames)
    alike = [render(replace(videos[0], **other)) for other in ({}, {"index": 1}, {"seed": 2})]
    assert len({one.tobytes() for one in (*frames, *alike)}) == 5


def cell_of(frame: np.ndarray, name: str) -> np.ndarray:
    row, column = divmod(CELLS.index(name), 3)
    return frame[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL].astype(float)


def test_events_show_their_things_and_other_frames_none():
    """A thing's cell holds many pixels near its colour; without the event it holds few."""
    for index in range(40):
        video = sample_video(3, index)
        frames = render(video)
        for scene in video.eventful:
            without = [t for t in range(scene.start, scene.stop) if t not in (*scene.event.frames, *video.glitches)]
            for thing in scene.event.things:
                near = {
                    t: (np.abs(cell_of(frames[t], thing.cell) - THING_RGB[thing.color]).max(-1) < 25).sum()
                    for t in (*scene.event.frames, *without)
                }
                assert min(near[t] for t in scene.event.frames) > 30, (index, thing, near)
                assert max([near[t] for t in without], default=0) < 20, (index, thing, near)


def one_thing(color: str, shape: str, place: str, index: int) -> np.ndarray:
    event = Event((0,), (Thing(color, shape, "center"),))
    return render(WorldVideo(77, index, (Scene(place, 0, 1, event),)))[0].astype(float)


def centre(mask: np.ndarray) -> np.ndarray:
    shift = [round(CELL / 2 - float(np.mean(np.nonzero(mask)[axis]))) for axis in (0, 1)]
    return np.roll(mask, shift, (0, 1))


def test_shapes_can_be_told_apart():
    """By the nearest of 128 masks: in every colour and place, whatever the size and the corner."""
    masks = {
        shape: [
            centre(np.abs(cell_of(one_thing(color, shape, place, n), "center") - THING_RGB[color]).max(-1) < 60)
            for n, (color, place) in enumerate(zip(COLORS * 3, (PLACES[3:] + PLACES[:3]) * 3, strict=True))
        ]
        for shape in SHAPES
    }
    examples = [(shape, mask) for shape, some in masks.items() for mask in some[:16]]
    agreements = [
        min(examples, key=lambda one: (one[1] != mask).sum())[0] == shape
        for shape, some in masks.items()
        for mask in some[16:]
    ]
    assert np.mean(agreements) > 0.95


def test_scenes_are_redundant_and_events_and_glitches_stand_out():
    """In means of 8 x 8 pixels, the coarsest a small vision transformer sees."""
    for index in range(25):
        video = sample_video(5, index)
        coarse = render(video).reshape(20, 6, 8, 6, 8, 3).mean((2, 4)).reshape(20, -1)
        events = {t for scene in video.eventful for t in scene.event.frames}
        plain = [t for t in range(20) if t not in events and t not in video.glitches]

        def apart(one: int, other: int, coarse: np.ndarray = coarse) -> float:
            return float(np.abs(coarse[one] - coarse[other]).mean())

        within = [apart(a, b) for a, b in pairwise(plain) if video.scene_at(a) is video.scene_at(b)]
        outside = [apart(t, p) for t in (*events, *video.glitches) for p in plain]
        across = [apart(a, b) for a in plain for b in plain if video.scene_at(a).place != video.scene_at(b).place]
        assert np.mean(within) < 10
        assert min(outside) > 1.5 * np.mean(within), index
        assert min(across) > 1.5 * np.mean(within), index


def bt601(red: int, green: int, blue: int) -> tuple[int, int, int]:
    """Y, Cb and Cr by the standard's own definition, in fractions; the nearest integer, halves up."""
    r, g, b = (Fraction(value, 255) for value in (red, green, blue))
    light = Fraction("0.299") * r + Fraction("0.587") * g + Fraction("0.114") * b
    values = 16 + 219 * light, 128 + 224 * (b - light) / Fraction("1.772"), 128 + 224 * (r - light) / Fraction("1.402")
    return tuple(math.floor(value + Fraction(1, 2)) for value in values)


def test_a_video_holds_the_pixels_by_the_standard_on_every_cpu(monkeypatch):
    """Compressed without loss. FFmpeg's converter rounds otherwise, and as its buffers happen to lie in memory."""
    monkeypatch.setitem(dataset.ENCODER, "crf", "0")
    frames = render(sample_video(1, 0))[:2]
    with av.open(io.BytesIO(encode_video(frames))) as container:
        decoded = [frame.to_ndarray() for frame in container.decode(video=0)]
    for frame, planes in zip(frames, decoded, strict=True):
        expected = np.array([[bt601(*pixel) for pixel in row] for row in frame.tolist()]).transpose(2, 0, 1)
        light, colours = planes[:96], planes[96:].reshape(2, 48, 48)
        assert (light == expected[0].repeat(2, 0).repeat(2, 1)).all()
        assert (colours == expected[1:]).all()


def test_the_ends_of_every_colour_stay_in_range():
    corners = np.array([[[r, g, b] for r in (0, 255) for g in (0, 255) for b in (0, 255)]], np.uint8)
    planes = np.stack(to_yuv(corners), -1)[0].tolist()
    assert planes == [list(bt601(*corner)) for corner in corners[0].tolist()]
    assert [16, 128, 128] in planes
    assert [235, 128, 128] in planes


def test_decoded_frames_are_the_rendered_ones(tmp_path):
    """Mean absolute error over 8 videos: 1.3 grey levels, 1.2 without glitches, all of those below 13 (measured)."""
    plain, whole = [], []
    for index in range(8):
        video = sample_video(1, index)
        path = tmp_path / f"{index}.mp4"
        path.write_bytes(encode_video(render(video)))
        clip = read_clip(path, RULE)
        assert clip.seconds.tolist() == list(range(20))
        error = np.abs(clip.frames.numpy().astype(int) - render(video))
        whole.append(error)
        plain.append(np.delete(error, video.glitches, 0))
    assert np.mean(whole) < 2
    assert np.mean(plain) < 2
    assert np.mean(np.concatenate(plain) < 13) > 0.99
