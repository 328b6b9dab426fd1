"""Ask and answer questions about a video of the embedded world, and caption it."""

import numpy as np

from dynfocus.records.rows import Question
from dynfocus.world.videos import PLACES, Scene, Thing, WorldVideo

NUMBERS = ("zero", "one", "two")
IMAGE_REQUESTS = ("describe the image", "what does the image show")
VIDEO_REQUESTS = ("describe the video", "what does the video show")


def _question(type: str, text: str, key: str, word: str, segments: tuple[tuple[int, ...], ...] = ()) -> Question:
    # Answers repeat the key word: a tiny language model learns to copy it and then look it up within a minute,
    # and does not learn bare answers at all.
    return Question(text, f"{key} {word}", group=type, segments=segments, meta={"key": key, "word": word})


def ask_about_thing(type: str, thing: Thing, scene: Scene) -> Question:
    """Ask a question of this type (color, shape, position or place) about one thing of a scene's event."""
    assert scene.event is not None
    segments = (scene.event.frames,)
    if type == "color":
        return _question(type, f"what color is the {thing.shape}", thing.shape, thing.color, segments)
    if type == "shape":
        return _question(type, f"what shape is {thing.color}", thing.color, thing.shape, segments)
    if type == "position":
        return _question(type, f"where is the {thing.shape}", thing.shape, thing.cell, segments)
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
    times = int(rng.choice(sorted({places.count(place) for place in PLACES})))
    place = str(rng.choice([place for place in PLACES if places.count(place) == times]))
    return _question("count", f"how many times is the {place} shown", place, NUMBERS[times])


def video_questions(video: WorldVideo, rng: np.random.Generator, things: int, times: int) -> list[Question]:
    """Ask ``things`` questions about different things and ``times`` about the order of places, shuffled."""
    pairs = [(thing, scene) for scene in video.eventful for thing in scene.event.things]  # type: ignore[union-attr]
    pairs = [pairs[i] for i in rng.permutation(len(pairs))[:things]]
    types = [str(type) for type in rng.permutation(("color", "shape", "position", "place"))]
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
