"""Ask and answer questions about a video of the embedded world, and caption it."""

from collections import Counter

import numpy as np

from dynfocus.records.rows import Question
from dynfocus.world.videos import PLACES, Scene, Thing, WorldVideo

NUMBERS = ("zero", "one", "two")
# The types of questions about things: any of them where words do not repeat, and all of them where words do.
THING_TYPES = ("color", "shape", "position", "place")
REPEATED_TYPES = (*THING_TYPES, "final")
IMAGE_REQUESTS = ("describe the image", "what does the image show")
VIDEO_REQUESTS = ("describe the video", "what does the video show")


def _question(type: str, text: str, key: str, word: str, segments: tuple[tuple[int, ...], ...] = ()) -> Question:
    # Answers repeat the key word: a tiny language model learns to copy it and then look it up within a minute,
    # and does not learn bare answers at all.
    return Question(text, f"{key} {word}", group=type, segments=segments, meta={"key": key, "word": word})


def ask_about_thing(type: str, thing: Thing, scene: Scene) -> Question:
    """Ask a question of this type (color, shape, position, place or final) about one thing of an event.

    ``final`` asks for the color of the last thing of a shape that several events show.
    """
    assert scene.event is not None
    segments = (scene.event.frames,)
    if type == "color":
        return _question(type, f"what color is the {thing.shape}", thing.shape, thing.color, segments)
    if type == "shape":
        return _question(type, f"what shape is {thing.color}", thing.color, thing.shape, segments)
    if type == "position":
        return _question(type, f"where is the {thing.shape}", thing.shape, thing.cell, segments)
    if type == "final":
        return _question(type, f"what color is the last {thing.shape}", f"last {thing.shape}", thing.color, segments)
    return _question("place", f"which place has the {thing.shape}", thing.shape, scene.place, segments)


def ask_about_time(type: str, video: WorldVideo, rng: np.random.Generator) -> Question:
    """Ask a question of this type (first, last, after or count) about the order of a video's places."""
    places = video.places
    if type == "first":
        return _question(type, "which place is first", "first", places[0])
    if type == "last":
        return _question(type, "which place is last", "last", places[-1])
    if type == "after":
        before = int(rng.choice([i for i in range(len(places) - 1) if places.count(places[i]) == 1]))
        return _question(type, f"what comes after the {places[before]}", places[before], places[before + 1])
    counts = {places.count(place) for place in PLACES} & set(range(len(NUMBERS)))
    times = int(rng.choice(sorted(counts)))
    place = str(rng.choice([place for place in PLACES if places.count(place) == times]))
    return _question("count", f"how many times is the {place} shown", place, NUMBERS[times])


_Shown = tuple[Thing, Scene]


def _list_shown(video: WorldVideo) -> list[_Shown]:
    """List every thing with its scene, in time order, those of decoys too."""
    return [(thing, scene) for scene in video.eventful for thing in scene.event.things]  # type: ignore[union-attr]


def list_askable(video: WorldVideo) -> dict[str, list[_Shown]]:
    """List the things that each type of question can ask about, from what the video shows.

    A color or a shape that asks for a thing is shown once in the whole video, decoys included. ``final`` asks by a
    shape that is shown more than once, the last time by an event.
    """
    shown = _list_shown(video)
    shapes, colors = Counter(thing.shape for thing, _ in shown), Counter(thing.color for thing, _ in shown)
    last = {thing.shape: (thing, scene) for thing, scene in shown}
    in_events = [one for one in shown if not one[1].event.is_decoy]  # type: ignore[union-attr]
    by_shape = [one for one in in_events if shapes[one[0].shape] == 1]
    return {
        **dict.fromkeys(("color", "position", "place"), by_shape),
        "shape": [one for one in in_events if colors[one[0].color] == 1],
        "final": [one for one in in_events if shapes[one[0].shape] > 1 and last[one[0].shape] == one],
    }


def ask_about_things(video: WorldVideo, rng: np.random.Generator, types: list[str]) -> list[Question]:
    """Ask a question of each type, about different things; the video's settings see to it that there are enough."""
    askable = {type: _shuffle(candidates, rng) for type, candidates in list_askable(video).items()}
    asked: dict[_Shown, str] = {}
    for type in types:
        _assign(type, askable, asked, set())
    return [ask_about_thing(type, *one) for one, type in asked.items()]


def _shuffle(candidates: list[_Shown], rng: np.random.Generator) -> list[_Shown]:
    return [candidates[i] for i in rng.permutation(len(candidates))]


def _assign(type: str, askable: dict[str, list[_Shown]], asked: dict[_Shown, str], tried: set[_Shown]) -> bool:
    """Assign a thing to a type, if need be one that another type gives up for another: Kuhn's matching."""
    for one in askable[type]:
        if one not in tried:
            tried.add(one)
            if one not in asked or _assign(asked[one], askable, asked, tried):
                asked[one] = type
                return True
    return False


def video_questions(video: WorldVideo, rng: np.random.Generator, things: int, times: int) -> list[Question]:
    """Ask ``things`` questions about different things and ``times`` about the order of places, shuffled."""
    if video.settings.words_repeat and video.length > 1:
        types = [str(type) for type in rng.permutation(REPEATED_TYPES)][:things]
        questions = ask_about_things(video, rng, types)
    else:
        pairs = _list_shown(video)
        pairs = [pairs[i] for i in rng.permutation(len(pairs))[:things]]
        types = [str(type) for type in rng.permutation(THING_TYPES)]
        questions = [ask_about_thing(types[i % 4], thing, scene) for i, (thing, scene) in enumerate(pairs)]
    questions += [
        ask_about_time(str(type), video, rng) for type in rng.permutation(("first", "last", "after", "count"))[:times]
    ]
    return [questions[i] for i in rng.permutation(len(questions))]


def image_questions(image: WorldVideo, rng: np.random.Generator) -> list[Question]:
    """Ask one question about each of an image's things, of different types."""
    return video_questions(image, rng, things=4, times=0)


def caption(video: WorldVideo) -> str:
    """Describe all there is to see, in time order: ``beach with red star north , blue ring center then cave``."""
    return " then ".join(_scene_text(scene) for scene in video.scenes)


def _scene_text(scene: Scene) -> str:
    if scene.event is None:
        return scene.place
    return f"{scene.place} with " + " , ".join(
        f"{thing.color} {thing.shape} {thing.cell}" for thing in scene.event.things
    )


def describe_scene(image: WorldVideo, question: Question) -> str:
    """Write a text-only question: the scene in words, then the question."""
    return f"{caption(image)} . {question.text}"
