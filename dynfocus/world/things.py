"""Sample which colors and shapes the events of a video show: all different, or with words that repeat."""

import numpy as np

from dynfocus.world.recipes import REPEATED_SHAPES, UNIQUE_COLORS, UNIQUE_SHAPES, WorldSettings

COLORS = ("red", "green", "blue", "yellow", "purple", "orange", "cyan", "white")
SHAPES = ("circle", "square", "triangle", "cross", "star", "ring", "bar", "diamond")

Pair = tuple[str, str]  # a color and a shape


def sample_different(rng: np.random.Generator, count: int) -> list[Pair]:
    """Sample pairs of color and shape; neither repeats, so that one word identifies a thing."""
    return list(zip(map(str, rng.permutation(COLORS)[:count]), map(str, rng.permutation(SHAPES)[:count]), strict=True))


def sample_shows(rng: np.random.Generator, settings: WorldSettings) -> list[list[Pair]]:
    """Sample the things of every event in time order, and then those of every decoy."""
    if not settings.words_repeat:
        pairs = sample_different(rng, settings.events * settings.things)
        return [pairs[n : n + settings.things] for n in range(0, len(pairs), settings.things)]
    shapes, colors = [str(word) for word in rng.permutation(SHAPES)], [str(word) for word in rng.permutation(COLORS)]
    unique, repeated, others = np.split(np.array(shapes), [UNIQUE_SHAPES, UNIQUE_SHAPES + REPEATED_SHAPES])
    events = _share_out_shapes(rng, settings, unique.tolist(), repeated.tolist(), others.tolist())
    decoys = [[str(shape) for shape in rng.permutation(others)[: settings.things]] for _ in range(settings.decoys)]
    rare = _place_unique_colors(rng, events, colors[:UNIQUE_COLORS], set(unique.tolist()), set(others.tolist()))
    return _paint(rng, events + decoys, colors[UNIQUE_COLORS:], rare)


def _share_out_shapes(
    rng: np.random.Generator, settings: WorldSettings, unique: list[str], repeated: list[str], others: list[str]
) -> list[list[str]]:
    """Give each event different shapes: each unique shape to one event, each repeated one to two events or more."""
    events: list[list[str]] = [[] for _ in range(settings.events)]
    order = rng.permutation(settings.events)
    for n, shape in enumerate(unique):
        events[order[n % len(order)]].append(shape)
    for shape in repeated:
        times = int(rng.integers(2, settings.events + 1))
        for n in rng.permutation(settings.events)[:times]:
            events[n].append(shape)
    for event in events:
        rest = [str(shape) for shape in rng.permutation(repeated + others) if shape not in event]
        # The settings' checks leave room for the repeated shape and one more beside an event's unique ones.
        event += rest[: settings.things - len(event)]
    return [[str(shape) for shape in rng.permutation(event)] for event in events]


def _place_unique_colors(
    rng: np.random.Generator, events: list[list[str]], colors: list[str], unique: set[str], others: set[str]
) -> dict[tuple[int, int], str]:
    """Give each unique color to one thing, by event and place in it; to a shape that nothing else asks by if it can."""
    places = [(n, slot) for n, event in enumerate(events) for slot, shape in enumerate(event) if shape not in unique]
    places = [places[i] for i in rng.permutation(len(places))]
    places.sort(key=lambda place: events[place[0]][place[1]] not in others)  # stable: random among equals
    chosen: dict[tuple[int, int], str] = {}
    for color in colors:
        used = {n for n, _ in chosen}
        free = [place for place in places if place[0] not in used] or [place for place in places if place not in chosen]
        chosen[free[0]] = color
    return chosen


def _paint(
    rng: np.random.Generator, shows: list[list[str]], colors: list[str], rare: dict[tuple[int, int], str]
) -> list[list[Pair]]:
    """Give every thing a color: different ones within an event, and another one each time a shape comes back."""
    seen: dict[str, set[str]] = {}
    painted = []
    for n, shapes in enumerate(shows):
        pairs: list[Pair] = []
        for slot, shape in enumerate(shapes):
            free = [color for color in colors if color not in [pair[0] for pair in pairs]]
            new = [color for color in free if color not in seen.get(shape, ())] or free
            color = rare.get((n, slot)) or str(rng.choice(new))
            seen.setdefault(shape, set()).add(color)
            pairs.append((color, shape))
        painted.append(pairs)
    return painted
