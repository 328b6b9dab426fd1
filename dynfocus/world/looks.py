"""Draw places and things in a second way, under the same words, that no shipped tower has seen."""

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float64]

THING_RGB = {
    "red": (176, 62, 74),
    "green": (110, 215, 150),
    "blue": (92, 120, 205),
    "yellow": (206, 190, 92),
    "purple": (206, 98, 226),
    "orange": (222, 146, 96),
    "cyan": (70, 168, 176),
    "white": (226, 232, 214),
}
PLACE_RGB = {
    "forest": ((34, 70, 74), (92, 120, 84)),
    "beach": ((96, 82, 128), (220, 176, 160)),
    "desert": ((116, 58, 52), (196, 120, 100)),
    "city": ((40, 52, 50), (140, 132, 110)),
    "snow": ((150, 170, 176), (226, 220, 206)),
    "night": ((30, 10, 40), (150, 96, 132)),
    "field": ((72, 110, 78), (188, 172, 92)),
    "cave": ((12, 30, 34), (60, 92, 84)),
}


def _wave(angle: Plane) -> Plane:
    return 0.5 + 0.5 * np.sin(angle)


def _zigzag(value: Plane, period: float) -> Plane:
    return 2 * np.abs(value / period - np.floor(value / period + 0.5))


def _checks(u: Plane, v: Plane, side: float) -> Plane:
    return (np.floor(u / side) + np.floor(v / side)) % 2


# x, y stand still; u, v drift.
TEXTURES = {
    "forest": lambda x, y, u, v: 0.7 * _zigzag(u + 3 * _zigzag(v, 9), 7) + 0.3 * _wave(v / 2),
    "beach": lambda x, y, u, v: np.clip((y - 26 + 4 * _zigzag(u, 16)) / 6, 0, 1),
    "desert": lambda x, y, u, v: _zigzag(u - v + 4 * _wave(u / 5), 14),
    "city": lambda x, y, u, v: 0.8 * _checks(u, v, 6) + 0.2 * _wave(v),
    "snow": lambda x, y, u, v: _wave(u / 1.4) * _wave(v / 1.4),
    "night": lambda x, y, u, v: 0.15 * (1 - y / 48) + 0.85 * (_wave(u / 1.8) * _wave((u + v) / 2.3) > 0.8),
    "field": lambda x, y, u, v: _zigzag(u + 0.4 * v, 5),
    "cave": lambda x, y, u, v: _wave(np.hypot(u % 24 - 12, v % 24 - 12) * 1.3),
}
# Which points of [-1, 1] x [-1, 1], y downwards, belong to a shape.
FORMS = {
    "circle": lambda x, y: np.hypot(x / 0.95, y / 0.7) <= 1,
    "square": lambda x, y: np.maximum(abs(x) / 0.62, abs(y) / 0.9) <= 1,
    "triangle": lambda x, y: (y >= -0.8) & (abs(x) <= (0.95 - y) * 0.5),
    "cross": lambda x, y: (np.minimum(abs(x + y), abs(x - y)) <= 0.4) & (np.maximum(abs(x), abs(y)) <= 0.85),
    "star": lambda x, y: np.hypot(x, y) <= 0.6 + 0.38 * np.cos(4 * np.arctan2(y, x)),
    "ring": lambda x, y: (np.maximum(abs(x), abs(y)) <= 0.92) & (np.maximum(abs(x), abs(y)) >= 0.5),
    "bar": lambda x, y: (abs(y) <= 1) & (abs(x) <= 0.34),
    "diamond": lambda x, y: abs(x) + abs(y) / 0.65 <= 1,
}
