"""Build the annotation rows of the embedded world, in the conversation JSON of the real data sets."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from dynfocus.records.rows import Question
from dynfocus.world.questions import (
    IMAGE_REQUESTS,
    REPEATED_TYPES,
    THING_TYPES,
    VIDEO_REQUESTS,
    ask_about_thing,
    ask_about_things,
    ask_about_time,
    caption,
    describe_scene,
    image_questions,
    video_questions,
)
from dynfocus.world.recipes import EASY, WorldSettings
from dynfocus.world.videos import WorldVideo, generator, sample_image, sample_video

Row = dict[str, Any]
Split = Literal["train", "val", "test", "image", "text"]

SPLITS: tuple[Split, ...] = ("train", "val", "test")
SLOT = "<image>"
IMAGE_SHARE = 0.12
TEXT_SHARE = 0.08
SPLIT_SEEDS: dict[Split, int] = {"train": 1, "val": 2, "test": 3, "image": 4, "text": 5}
_ROWS = {"stage1": 6, "stage2": 7, "val": 8, "test": 9}


def split_seed(seed: int, split: Split) -> int:
    """Return the seed of a split's videos: ``10 * seed`` and 1 (train), 2 (val), 3 (test), 4 (image) or 5 (text)."""
    return 10 * seed + SPLIT_SEEDS[split]


def _generator(seed: int, rows: str) -> np.random.Generator:
    return generator(10 * seed + _ROWS[rows], 0)


def stage1_rows(seed: int, videos: int, images: int, count: int, settings: WorldSettings = EASY) -> list[Row]:
    """Build ``count`` captions in random order, half of images and half of videos, each used equally often."""
    rng = _generator(seed, "stage1")
    rows = [_caption(_image(seed, n, settings), IMAGE_REQUESTS, rng) for n in _passes(images, count // 2, rng)]
    of_videos = _passes(videos, count - count // 2, rng)
    rows += [_caption(_video(seed, "train", n, settings), VIDEO_REQUESTS, rng) for n in of_videos]
    return _number_rows("stage1", rows, rng)


def stage2_rows(seed: int, videos: int, images: int, count: int, settings: WorldSettings = EASY) -> list[Row]:
    """Build ``count`` conversations in random order: 12 % about images, 8 % text only, the others about videos."""
    rng = _generator(seed, "stage2")
    of_images, of_text = round(IMAGE_SHARE * count), round(TEXT_SHARE * count)
    rows = []
    for index in _passes(videos, count - of_images - of_text, rng):
        medium = _video(seed, "train", index, settings)
        questions = video_questions(medium[1], rng, things=int(rng.integers(2, 4)), times=2)
        rows.append(_conversation(medium, questions, before=bool(rng.integers(2))))
    for index in _passes(images, of_images, rng):
        medium = _image(seed, index, settings)
        rows.append(_conversation(medium, image_questions(medium[1], rng), before=bool(rng.integers(2))))
    rows += [_text(seed, index, rng, settings) for index in range(of_text)]
    return _number_rows("stage2", rows, rng)


def split_rows(seed: int, split: Literal["val", "test"], videos: int, settings: WorldSettings = EASY) -> list[Row]:
    """Build rows of one question for each video: one of each type about things, and four about the order of places."""
    rng = _generator(seed, split)
    rows = []
    for index in range(videos):
        medium = _video(seed, split, index, settings)
        video = medium[1]
        if settings.words_repeat:
            questions = ask_about_things(video, rng, list(REPEATED_TYPES))
        else:
            things = [
                (thing, scene) for scene in video.eventful for thing in (scene.event.things if scene.event else ())
            ]
            pairs = [things[i] for i in rng.permutation(len(things))[: len(THING_TYPES)]]
            questions = [ask_about_thing(type, *one) for type, one in zip(THING_TYPES, pairs, strict=True)]
        questions += [ask_about_time(type, video, rng) for type in ("first", "last", "after", "count")]
        for question in questions:
            name = f"{split}_{index:06d}_{question.group}"
            rows.append({"id": name, **_conversation(medium, [question], before=True)})
    return rows


_Medium = tuple[Row, WorldVideo]
# A stage's rows come back to the same videos, and sampling one is most of the time a row takes.
_cached_video = lru_cache(4096)(sample_video)
_cached_image = lru_cache(4096)(sample_image)


def _video(seed: int, split: Split, index: int, settings: WorldSettings) -> _Medium:
    own = split_seed(seed, split)
    where = {"video": f"videos/{split}_{index:06d}.mp4", "seed": own, "index": index}
    return where, _cached_video(own, index, settings)


def _image(seed: int, index: int, settings: WorldSettings) -> _Medium:
    own = split_seed(seed, "image")
    where = {"image": f"images/train_{index:06d}.png", "seed": own, "index": index}
    return where, _cached_image(own, index, settings)


def _passes(length: int, count: int, rng: np.random.Generator) -> Iterator[int]:
    """Yield ``count`` indices under ``length``: pass after pass over all of them, each in another order."""
    for n in range(count):
        if n % length == 0:
            order = rng.permutation(length)
        yield int(order[n % length])


def _caption(medium: _Medium, requests: tuple[str, ...], rng: np.random.Generator) -> Row:
    where, video = medium
    request = _with_slot(str(rng.choice(requests)), bool(rng.integers(2)))
    return {**where, "conversations": _turns([(request, caption(video))])}


def _conversation(medium: _Medium, questions: list[Question], before: bool) -> Row:
    pairs = [(question.text, question.answer) for question in questions]
    pairs[0] = (_with_slot(pairs[0][0], before), pairs[0][1])
    return {**medium[0], "conversations": _turns(pairs), "questions": [asdict(question) for question in questions]}


def _text(seed: int, index: int, rng: np.random.Generator, settings: WorldSettings) -> Row:
    own = split_seed(seed, "text")
    image = sample_image(own, index, settings)
    questions = image_questions(image, rng)
    pairs = [(question.text, question.answer) for question in questions]
    pairs[0] = (describe_scene(image, questions[0]), pairs[0][1])
    return {"seed": own, "index": index, "conversations": _turns(pairs), "questions": [asdict(q) for q in questions]}


def _with_slot(request: str, before: bool) -> str:
    return f"{SLOT}\n{request}" if before else f"{request}\n{SLOT}"


def _turns(pairs: list[tuple[str, str]]) -> list[Mapping[str, str]]:
    return [
        {"from": speaker, "value": value}
        for question, answer in pairs
        for speaker, value in (("human", question), ("gpt", answer))
    ]


def _number_rows(name: str, rows: list[Row], rng: np.random.Generator) -> list[Row]:
    return [{"id": f"{name}_{n:06d}", **rows[i]} for n, i in enumerate(rng.permutation(len(rows)))]
