"""Sample what happens in a video of the embedded world: scenes, brief events, glitches, all from (seed, index)."""

from dataclasses import dataclass, replace

import numpy as np

COLORS = ("red", "green", "blue", "yellow", "purple", "orange", "cyan", "white")
SHAPES = ("circle", "square", "triangle", "cross", "star", "ring", "bar", "diamond")
CELLS = ("northwest", "north", "northeast", "west", "center", "east", "southwest", "south", "southeast")
PLACES = ("forest", "beach", "desert", "city", "snow", "night", "field", "cave")

FRAMES = 20
SCENES = 4
SHORTEST_SCENE = 4
EVENTS = 2
THINGS = 4
GLITCHES = 2
RETURNS = 0.6  # share of videos in which a place returns


@dataclass(frozen=True)
class Thing:
    """An object of one color and shape in one of the 3 x 3 cells."""

    color: str
    shape: str
    cell: str


@dataclass(frozen=True)
class Event:
    """One or two frames that show things nobody sees elsewhere in the video."""

    frames: tuple[int, ...]
    things: tuple[Thing, ...]


@dataclass(frozen=True)
class Scene:
    """A run of near-identical frames ``start <= t < stop`` of one place, with an event or without."""

    place: str
    start: int
    stop: int
    event: Event | None = None


@dataclass(frozen=True)
class WorldVideo:
    """A whole video: scenes in time order, and the glitch frames that show coloured noise.

    An image is a WorldVideo of one frame. One frame lasts one second.
    """

    seed: int
    index: int
    scenes: tuple[Scene, ...]
    glitches: tuple[int, ...] = ()

    @property
    def length(self) -> int:
        return self.scenes[-1].stop

    @property
    def places(self) -> tuple[str, ...]:
        return tuple(scene.place for scene in self.scenes)

    @property
    def eventful(self) -> tuple[Scene, ...]:
        """The scenes with an event, in time order."""
        return tuple(scene for scene in self.scenes if scene.event)

    def scene_at(self, frame: int) -> Scene:
        return next(scene for scene in self.scenes if frame < scene.stop)


def generator(*key: int) -> np.random.Generator:
    """Make a random generator of its own for every key, the same on every machine."""
    return np.random.default_rng(key)


def sample_video(seed: int, index: int) -> WorldVideo:
    """Sample the ``index``-th video of the world with this seed: 20 frames, 4 scenes, 2 events, 2 glitches."""
    rng = generator(seed, index, 0)
    spare_frames = rng.multinomial(FRAMES - SCENES * SHORTEST_SCENE, [1 / SCENES] * SCENES)
    stops = np.cumsum(spare_frames + SHORTEST_SCENE)
    scenes = [
        Scene(place, int(stop - length), int(stop))
        for place, stop, length in zip(_places(rng), stops, spare_frames + SHORTEST_SCENE, strict=True)
    ]
    things = _things(rng, EVENTS * THINGS)
    for n, which in enumerate(sorted(rng.choice(SCENES, EVENTS, replace=False))):
        scene = scenes[which]
        length = int(rng.integers(1, 3))
        first = int(rng.integers(scene.start, scene.stop - length + 1))
        event = Event(tuple(range(first, first + length)), _place_things(rng, things[n * THINGS : (n + 1) * THINGS]))
        scenes[which] = replace(scene, event=event)
    event_frames = {frame for scene in scenes if scene.event for frame in scene.event.frames}
    free = [frame for frame in range(FRAMES) if frame not in event_frames]
    glitches = sorted(int(frame) for frame in rng.choice(free, GLITCHES, replace=False))
    return WorldVideo(seed, index, tuple(scenes), tuple(glitches))


def sample_image(seed: int, index: int) -> WorldVideo:
    """Sample the ``index``-th still image: one place with four things."""
    rng = generator(seed, index, 1)
    event = Event((0,), _place_things(rng, _things(rng, THINGS)))
    return WorldVideo(seed, index, (Scene(str(rng.choice(PLACES)), 0, 1, event),))


def _places(rng: np.random.Generator) -> list[str]:
    """Sample four places, neighbours different; in most videos one of them returns."""
    places = [str(place) for place in rng.choice(PLACES, SCENES, replace=False)]
    if rng.random() < RETURNS:
        again, first = [(2, 0), (3, 0), (3, 1)][rng.integers(3)]
        places[again] = places[first]
    return places


def _things(rng: np.random.Generator, count: int) -> list[tuple[str, str]]:
    """Sample pairs of color and shape; neither repeats, so that one word identifies a thing."""
    return list(zip(map(str, rng.permutation(COLORS)[:count]), map(str, rng.permutation(SHAPES)[:count]), strict=True))


def _place_things(rng: np.random.Generator, pairs: list[tuple[str, str]]) -> tuple[Thing, ...]:
    """Place things in cells of their own, in reading order of the cells."""
    cells = sorted(rng.choice(len(CELLS), len(pairs), replace=False))
    return tuple(Thing(color, shape, CELLS[cell]) for (color, shape), cell in zip(pairs, cells, strict=True))
