"""Make the rows that the language model learns to read from: conversations, captions and texts on symbolic streams."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from dynfocus.models.prompts import IMAGE, TEMPLATES, encode, expand
from dynfocus.records.rows import Question, Turn
from dynfocus.world.questions import (
    IMAGE_REQUESTS,
    VIDEO_REQUESTS,
    ask_about_things,
    ask_about_time,
    caption,
    describe_scene,
    image_questions,
    video_questions,
)
from dynfocus.world.recipes import EASY, WorldSettings
from dynfocus.world.towers.layouts import draw_layout
from dynfocus.world.towers.scenes import SymbolicEye, Weights
from dynfocus.world.towers.tower_settings import LanguageSettings
from dynfocus.world.videos import WorldVideo, generator, sample_image, sample_video

TALK = "vicuna_v1_short"


@dataclass(frozen=True)
class SymbolicRow:
    """One prompt: token ids with one ``<image>`` id for each visual token, labels, and the visual tokens' weights."""

    ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    weights: NDArray[np.float16]


class RowMaker:
    """Makes the n-th row of each kind from a seed, about the videos of a world with these settings."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, settings: LanguageSettings, world: WorldSettings = EASY
    ) -> None:
        self.tokenizer, self.settings, self.world = tokenizer, settings, world
        self.image_id = tokenizer.get_vocab()[IMAGE]
        self.eye = SymbolicEye(tokenizer.get_vocab())
        self.kinds: dict[str, Callable[[int, int], SymbolicRow]] = {
            "videos": self.video,
            "images": self.image,
            "texts": self.text,
            "captions": self.caption,
            "orders": self.order,
            "repeats": self.repeat,
        }

    def video(self, seed: int, index: int) -> SymbolicRow:
        """Make a conversation about a whole video: its things, and different questions about its places."""
        rng, video = generator(seed, index, 3), sample_video(seed, index, self.world)
        things = self.settings.things
        if self._is_mixed:
            things = int(rng.integers(1, things + 1))  # what fewer questions need is read from fewer kept frames
        questions = video_questions(video, rng, things, min(4, self.settings.times))
        known = {question.text for question in questions}
        if self.world.words_repeat:
            questions += [last for last in ask_about_things(video, rng, ["final"]) if last.text not in known]
        questions += _about_time(video, rng, self.settings.times - 4, known)
        rng.shuffle(questions)
        needed = [segment for question in questions for segment in question.segments]
        return self.talk(_turns(questions), self._film(video, rng, needed), rng)

    @property
    def _is_mixed(self) -> bool:
        return self.settings.layouts == "mixed"

    def _film(self, video: WorldVideo, rng: np.random.Generator, needed: list[tuple[int, ...]]) -> Weights:
        if not self._is_mixed:
            return self.eye.film(video, rng)
        return self.eye.film(video, rng, draw_layout(rng), needed)

    def image(self, seed: int, index: int) -> SymbolicRow:
        """Make a conversation about an image, or its caption."""
        rng, image = generator(seed, index, 2), sample_image(seed, index, self.world)
        weights = self._film(image, rng, [(0,)])
        if rng.random() < 0.2:
            return self._caption(caption(image), IMAGE_REQUESTS, weights, rng)
        return self.talk(_turns(image_questions(image, rng)), weights, rng)

    def caption(self, seed: int, index: int) -> SymbolicRow:
        """Make the caption of a whole video, on request or in the plain template."""
        rng, video = generator(seed, index, 4), sample_video(seed, index, self.world)
        every_event = [scene.event.frames for scene in video.eventful if scene.event]
        return self._caption(caption(video), VIDEO_REQUESTS, self._film(video, rng, every_event), rng)

    def text(self, seed: int, index: int) -> SymbolicRow:
        """Make a conversation about a scene in words."""
        rng, image = generator(seed, index, 5), sample_image(seed, index, self.world)
        first, *others = image_questions(image, rng)
        return self.talk([Turn(describe_scene(image, first), first.answer), *_turns(others)], None, rng)

    def order(self, seed: int, index: int) -> SymbolicRow:
        """Make a row about the order of places: in words or as rods alone, with questions or a caption."""
        rng, video = generator(seed, index, 6), sample_video(seed, index, self.world)
        places = " then ".join(video.places)
        questions = _about_time(video, rng, self.settings.times, set())
        if rng.random() < 0.3:
            first, *others = questions
            return self.talk([Turn(f"{places} . {first.text}", first.answer), *_turns(others)], None, rng)
        weights = self.eye.glimpse(video, rng)
        if rng.random() < 0.25:
            return self._caption(places, VIDEO_REQUESTS, weights, rng)
        return self.talk(_turns(questions), weights, rng)

    def repeat(self, seed: int, index: int) -> SymbolicRow:
        """Make a conversation about a few frames of events alone: which thing is the last of its shape."""
        rng, video = generator(seed, index, 7), sample_video(seed, index, self.world)
        shows = len(video.eventful)
        some = sorted(rng.permutation(shows)[: int(rng.integers(min(2, shows), shows + 1))])
        scenes = [
            replace(scene, start=n, stop=n + 1, event=replace(scene.event, frames=(n,)))
            for n, scene in enumerate(video.eventful[which] for which in some)
            if scene.event
        ]
        short = replace(video, scenes=tuple(scenes), glitches=())
        asked = [ask_about_things(short, rng, types) for types in (["final"], ["final"], ["color", "shape"])]
        questions = list({question.text: question for some in asked for question in some}.values())
        questions = questions or [ask_about_time("first", short, rng)]
        rng.shuffle(questions)
        return self.talk(_turns(questions), self._film(short, rng, [scene.event.frames for scene in scenes]), rng)

    def _caption(self, text: str, requests: Sequence[str], weights: Weights, rng: np.random.Generator) -> SymbolicRow:
        if rng.random() < 0.5:
            return self.row([Turn("", text)], "plain", weights, before=True)
        return self.talk([Turn(str(rng.choice(requests)), text)], weights, rng)

    def talk(self, turns: list[Turn], weights: Weights | None, rng: np.random.Generator) -> SymbolicRow:
        return self.row(turns, TALK, weights, before=bool(rng.random() < 0.6))

    def row(self, turns: list[Turn], template: str, weights: Weights | None, before: bool) -> SymbolicRow:
        """Make a prompt exactly as the stages write it, one place for each visual token."""
        visual = weights is not None
        coded = encode(self.tokenizer, turns, TEMPLATES[template], visual, "before" if before else "after")
        if weights is None:
            weights = np.zeros((0, len(self.eye.vocabulary) + 1), np.float32)
        coded = expand(coded, self.image_id, [len(weights)] if visual else [])
        return SymbolicRow(np.array(coded.input_ids), np.array(coded.labels), weights.astype(np.float16))


def _turns(questions: list[Question]) -> list[Turn]:
    return [Turn(question.text, question.answer) for question in questions]


def _about_time(video: WorldVideo, rng: np.random.Generator, count: int, known_texts: set[str]) -> list[Question]:
    """Ask up to ``count`` different questions about the order of places, none of them in ``known_texts``."""
    by_text: dict[str, Question] = {}
    for _ in range(count):
        question = ask_about_time(str(rng.choice(("first", "last", "after", "after", "count", "count"))), video, rng)
        if question.text not in known_texts:
            by_text[question.text] = question
    return list(by_text.values())
