"""Draw the frames of the embedded world: textured places, coloured shapes, glitches of coloured noise."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from dynfocus.world import looks
from dynfocus.world.recipes import WorldSettings
from dynfocus.world.videos import CELLS, Thing, WorldVideo, generator

SIZE = 48
CELL = SIZE // 3

Pixels = NDArray[np.uint8]
Plane = NDArray[np.float64]

# Saturated, against dull places; a dark outline parts a thing from a place of a like hue.
THING_RGB = {
    "red": (225, 20, 25),
    "green": (15, 185, 35),
    "blue": (35, 50, 245),
    "yellow": (252, 236, 20),
    "purple": (165, 20, 205),
    "orange": (255, 128, 0),
    "cyan": (0, 220, 235),
    "white": (255, 255, 255),
}
OUTLINE = np.array((12.0, 12.0, 16.0))
# Each place: a darker and a lighter colour, mixed by its texture.
PLACE_RGB = {
    "forest": ((18, 48, 26), (58, 96, 58)),
    "beach": ((66, 112, 140), (208, 186, 140)),
    "desert": ((140, 92, 50), (186, 140, 86)),
    "city": ((58, 58, 66), (122, 120, 124)),
    "snow": ((136, 154, 182), (206, 216, 228)),
    "night": ((8, 10, 34), (122, 124, 150)),
    "field": ((104, 120, 48), (156, 166, 84)),
    "cave": ((30, 22, 28), (88, 66, 70)),
}
DRIFT = 0.35  # pixels per frame
BRIGHTNESS = 4.0  # grey levels, standard deviation between frames
NOISE = 2.0  # grey levels, standard deviation between pixels
GRAIN = 2  # pixels a side of one grain of a glitch


def render(video: WorldVideo) -> Pixels:
    """Draw every frame of ``video``.

    Returns:
        uint8 RGB frames ``[T, 48, 48, 3]``, the same for the same video.
    """
    rng, settings = generator(video.seed, video.index, 2), video.settings
    frames = np.empty((video.length, SIZE, SIZE, 3), np.uint8)
    for scene in video.scenes:
        start = rng.uniform(0, SIZE, 2)
        heading = rng.uniform(0, 2 * np.pi)
        step = DRIFT * np.array((np.cos(heading), np.sin(heading)))
        things = scene.event.things if scene.event else ()
        placements = [(thing, rng.integers(0, 2), rng.uniform(0, 1, 2)) for thing in things]
        for frame in range(scene.start, scene.stop):
            picture = _place(settings, scene.place, *(start + (frame - scene.start) * step))
            if scene.event and frame in scene.event.frames:
                for thing, shrink, corner in placements:
                    _draw(picture, settings, thing, settings.thing_size - int(shrink), corner)
            picture += rng.normal(0, BRIGHTNESS) + rng.normal(0, NOISE, picture.shape)
            frames[frame] = np.clip(np.rint(picture), 0, 255)
    for frame in video.glitches:
        grains = rng.integers(0, 256, (SIZE // GRAIN, SIZE // GRAIN, 3))
        frames[frame] = grains.repeat(GRAIN, 0).repeat(GRAIN, 1)
    return frames


def to_yuv(frame: Pixels) -> tuple[Pixels, ...]:
    """Convert RGB ``[H, W, 3]`` to Y, U and V ``[H, W]`` of BT.601, with Y from 16 to 235 and U, V from 16 to 240.

    Each is rounded to the nearest integer, halves up. Integers alone are computed with, so that every CPU finds the
    same; FFmpeg's converter does not, it takes another way with another alignment of its buffers.
    """
    red, green, blue = np.moveaxis(frame.astype(np.int32), -1, 0)
    light = 299 * red + 587 * green + 114 * blue  # in thousandths
    planes = (
        16 + _divide(219 * light, 255 * 1000),
        128 + _divide(224 * (1000 * blue - light), 255 * 1772),
        128 + _divide(224 * (1000 * red - light), 255 * 1402),
    )
    return tuple(plane.astype(np.uint8) for plane in planes)


def _divide(value: NDArray[np.int32], by: int) -> NDArray[np.int32]:
    return (2 * value + by) // (2 * by)


def _place(settings: WorldSettings, place: str, right: float, down: float) -> Plane:
    """A place's picture ``[48, 48, 3]``, its texture moved by ``right`` and ``down`` pixels."""
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(float)
    textures, colors = (TEXTURES, PLACE_RGB) if settings.look == "own" else (looks.TEXTURES, looks.PLACE_RGB)
    light = np.clip(textures[place](x, y, x + right, y + down), 0, 1)[..., None]
    dark, bright = (np.array(rgb, float) for rgb in colors[place])
    return dark + (bright - dark) * light


def _wave(angle: Plane) -> Plane:
    return 0.5 + 0.5 * np.sin(angle)


def _shore(down: Plane) -> Plane:
    return 1 / (1 + np.exp(-down))


def _dots(u: Plane, v: Plane, period: float, radius: float) -> Plane:
    """Soft dots on a lattice whose odd rows stand half a period aside."""
    row = np.floor(v / period)
    du = (u + (row % 2) * period / 2) % period - period / 2
    return np.clip(radius + 0.5 - np.hypot(du, v % period - period / 2), 0, 1)


def _bricks(u: Plane, v: Plane) -> Plane:
    row = np.floor(v / 6)
    mortar = (v % 6 < 1.2) | ((u + (row % 2) * 5) % 10 < 1.2)
    return np.where(mortar, 0.0, 0.75 + 0.25 * ((row + np.floor(u / 10)) % 2))


# x, y stand still; u, v drift.
TEXTURES = {
    "forest": lambda x, y, u, v: 0.75 * _wave(2 * np.pi * u / 6) ** 2 + 0.25 * _wave(2 * np.pi * v / 17),
    "beach": lambda x, y, u, v: 0.85 * _shore(y - 22 - 3 * np.sin(2 * np.pi * u / 24)) + 0.15 * _wave(v / 1.3),
    "desert": lambda x, y, u, v: _wave(2 * np.pi * (0.5 * u + v + 2 * np.sin(2 * np.pi * u / 24)) / 12),
    "city": lambda x, y, u, v: _bricks(u, v),
    "snow": lambda x, y, u, v: _dots(u, v, 8, 2.2),
    "night": lambda x, y, u, v: 0.1 * y / SIZE + _dots(u, v, 12, 0.9),
    "field": lambda x, y, u, v: _wave(2 * np.pi * v / 5),
    "cave": lambda x, y, u, v: 0.35 * _wave(np.pi * (u + v) / 15) + 0.65 * _wave(np.hypot(u % 48 - 24, v % 48 - 24)),
}


def _draw(picture: Plane, settings: WorldSettings, thing: Thing, size: int, corner: Plane) -> None:
    """Paint a thing of ``size`` px, and its outline of 1 px, somewhere in its cell; ``corner`` in [0, 1) says where."""
    fill, outline = _masks(settings.look, thing.shape, size)
    color = (THING_RGB if settings.look == "own" else looks.THING_RGB)[thing.color]
    row, column = divmod(CELLS.index(thing.cell), 3)
    room = CELL - len(fill) + 1
    top, left = row * CELL + int(corner[0] * room), column * CELL + int(corner[1] * room)
    patch = picture[top : top + len(fill), left : left + len(fill)]
    patch += outline[..., None] * (OUTLINE - patch)
    patch += fill[..., None] * (np.array(color, float) - patch)


@cache
def _masks(look: str, shape: str, size: int) -> tuple[Plane, Plane]:
    """Coverage in [0, 1] of a shape and of the shape grown by 1 px, both ``[size + 2, size + 2]``."""
    fine = 4
    grid = (np.arange((size + 2) * fine) + 0.5) / fine - (size + 2) / 2
    y, x = np.meshgrid(grid / (size / 2), grid / (size / 2), indexing="ij")
    inside = (FORMS if look == "own" else looks.FORMS)[shape](x, y)
    grown = np.zeros_like(inside)
    for dy in range(-fine, fine + 1):
        for dx in range(-fine, fine + 1):
            if dx * dx + dy * dy <= fine * fine:
                grown |= np.roll(inside, (dy, dx), (0, 1))
    return _coverage(inside, fine), _coverage(grown, fine)


def _coverage(mask: NDArray[np.bool_], fine: int) -> Plane:
    side = len(mask) // fine
    return mask.reshape(side, fine, side, fine).mean((1, 3))


def _star(x: Plane, y: Plane) -> NDArray[np.bool_]:
    """Five points, the first upwards."""
    turn = (np.arctan2(x, -(y - 0.05)) / (2 * np.pi / 5) + 0.5) % 1 - 0.5
    angle = np.abs(turn) * 2 * np.pi / 5
    tip, dent = 1.05, 0.42
    # the straight edge from the tip (angle 0) to the dent (angle pi / 5), in polar form
    edge = tip * dent * np.sin(np.pi / 5) / (tip * np.sin(angle) + dent * np.sin(np.pi / 5 - angle))
    return np.hypot(x, y - 0.05) <= edge


# Which points of [-1, 1] x [-1, 1], y downwards, belong to a shape.
FORMS = {
    "circle": lambda x, y: np.hypot(x, y) <= 0.95,
    "square": lambda x, y: np.maximum(abs(x), abs(y)) <= 0.82,
    "triangle": lambda x, y: (y <= 0.85) & (abs(x) <= (y + 0.95) * 0.55),
    "cross": lambda x, y: (np.minimum(abs(x), abs(y)) <= 0.3) & (np.maximum(abs(x), abs(y)) <= 1),
    "star": _star,
    "ring": lambda x, y: (np.hypot(x, y) <= 1) & (np.hypot(x, y) >= 0.6),
    "bar": lambda x, y: (abs(x) <= 1) & (abs(y) <= 0.36),
    "diamond": lambda x, y: abs(x) / 0.7 + abs(y) <= 1,
}
