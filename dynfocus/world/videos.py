"""Sample what happens in a video of the embedded world: scenes, brief events, glitches, all from (seed, index)."""

from dataclasses import dataclass, replace

import numpy as np

from dynfocus.world.recipes import EASY, WorldSettings
from dynfocus.world.things import COLORS as COLORS
from dynfocus.world.things import SHAPES as SHAPES
from dynfocus.world.things import Pair, sample_different, sample_shows

CELLS = ("northwest", "north", "northeast", "west", "center", "east", "southwest", "south", "southeast")
PLACES = ("forest", "beach", "desert", "city", "snow", "night", "field", "cave")


@dataclass(frozen=True)
class Thing:
    """An object of one color and shape in one of the 3 x 3 cells."""

    color: str
    shape: str
    cell: str


@dataclass(frozen=True)
class Event:
    """A few frames that show things; of a decoy nothing is asked."""

    frames: tuple[int, ...]
    things: tuple[Thing, ...]
    is_decoy: bool = False


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
    settings: WorldSettings = EASY

    @property
    def length(self) -> int:
        return self.scenes[-1].stop

    @property
    def places(self) -> tuple[str, ...]:
        return tuple(scene.place for scene in self.scenes)

    @property
    def eventful(self) -> tuple[Scene, ...]:
        """The scenes with an event or a decoy, in time order."""
        return tuple(scene for scene in self.scenes if scene.event)

    def scene_at(self, frame: int) -> Scene:
        return next(scene for scene in self.scenes if frame < scene.stop)


def generator(*key: int) -> np.random.Generator:
    """Make a random generator of its own for every key, the same on every machine."""
    return np.random.default_rng(key)


def sample_video(seed: int, index: int, settings: WorldSettings = EASY) -> WorldVideo:
    """Sample the ``index``-th video of the world with this seed and these settings."""
    rng = generator(seed, index, 0)
    count = settings.scenes
    spare_frames = rng.multinomial(settings.frames - count * settings.shortest_scene, [1 / count] * count)
    lengths = spare_frames + settings.shortest_scene
    scenes = [
        Scene(place, int(stop - length), int(stop))
        for place, stop, length in zip(sample_places(rng, settings), np.cumsum(lengths), lengths, strict=True)
    ]
    things = sample_shows(rng, settings)
    chosen = rng.choice(count, len(things), replace=False)
    order = [*sorted(chosen[: settings.events]), *sorted(chosen[settings.events :])]
    for n, which in enumerate(order):
        scene = scenes[which]
        length = int(rng.integers(1, settings.longest_event + 1))
        first = int(rng.integers(scene.start, scene.stop - length + 1))
        frames = tuple(range(first, first + length))
        event = Event(frames, _place_things(rng, things[n]), is_decoy=n >= settings.events)
        scenes[which] = replace(scene, event=event)
    event_frames = {frame for scene in scenes if scene.event for frame in scene.event.frames}
    free = [frame for frame in range(settings.frames) if frame not in event_frames]
    glitches = sorted(int(frame) for frame in rng.choice(free, settings.glitches, replace=False))
    return WorldVideo(seed, index, tuple(scenes), tuple(glitches), settings)


def sample_image(seed: int, index: int, settings: WorldSettings = EASY) -> WorldVideo:
    """Sample the ``index``-th still image: one place with the things of one event, whose words do not repeat."""
    rng = generator(seed, index, 1)
    event = Event((0,), _place_things(rng, sample_different(rng, settings.things)))
    return WorldVideo(seed, index, (Scene(str(rng.choice(PLACES)), 0, 1, event),), settings=settings)


def sample_places(rng: np.random.Generator, settings: WorldSettings) -> list[str]:
    """Sample the places of the scenes, neighbours different; in most videos of at most 8 scenes one of them returns.

    Of more than 8 scenes one place is never shown, two are shown once and one twice, so that there is something to ask
    about them; the other four fill the rest equally often.
    """
    count = settings.scenes
    if count <= len(PLACES):
        places = [str(place) for place in rng.choice(PLACES, count, replace=False)]
        pairs = [(again, first) for again in range(2, count) for first in range(again - 1)]
        if rng.random() < settings.returns and pairs:
            again, first = pairs[rng.integers(len(pairs))]
            places[again] = places[first]
        return places
    order = [str(place) for place in rng.permutation(PLACES)]
    often = [order[4 + n % 4] for n in range(count - 4)]
    while True:
        left, places = [*order[1:3], order[3], order[3], *often], [""]
        while choices := [place for place in left if place != places[-1]]:
            place = str(rng.choice(choices))
            left.remove(place)
            places.append(place)
        if not left:  # else the last places are all alike: begin again
            return places[1:]


def _place_things(rng: np.random.Generator, pairs: list[Pair]) -> tuple[Thing, ...]:
    """Place things in cells of their own, in reading order of the cells."""
    cells = sorted(rng.choice(len(CELLS), len(pairs), replace=False))
    return tuple(Thing(color, shape, CELLS[cell]) for (color, shape), cell in zip(pairs, cells, strict=True))
