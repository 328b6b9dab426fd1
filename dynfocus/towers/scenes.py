"""Symbolic streams: what the visual tokens of a video would say, as weights over words, without a single pixel."""

from dataclasses import dataclass

import numpy as np

from dynfocus.prompts import TEMPLATES, Turn, encode, expand
from dynfocus.world.questions import (
    about_time, caption, described, image_questions, video_questions,
    IMAGE_REQUESTS, VIDEO_REQUESTS,
)
from dynfocus.world.videos import CELLS, WorldVideo, generator, sample_image, sample_video, PLACES, Scene

KEPT = 3
POOLED, PROTOTYPES, RODS = 4, (8, 3), 2


def _overlap():
    out = np.zeros((POOLED, len(CELLS)), np.float32)
    for r in range(6):
        for c in range(6):
            out[(r // 3) * 2 + c // 3, (r // 2) * 3 + c // 2] += 1 / 9
    return out


OVERLAP = _overlap()  # share of each pooled quadrant [4] that each of the cells [9] fills


@dataclass(frozen=True)
class Sample:
    weights: np.ndarray
    ids: np.ndarray
    labels: np.ndarray
    learned: tuple = ()


class Painter:
    def __init__(self, vocabulary: dict[str, int]):
        self.size = len(vocabulary)
        self.words = vocabulary

    def thing(self, thing):
        return [self.words[thing.color], self.words[thing.shape], self.words[thing.cell]]

    def frame(self, video: WorldVideo, t: int, kept: bool, rng) -> np.ndarray:
        scene = video.scene_at(t)
        event = scene.event if scene.event and t in scene.event.frames else None
        glitch = t in video.glitches
        n = (POOLED + sum(PROTOTYPES) if kept else 0) + RODS
        out = np.zeros((n, self.size + 1), np.float32)
        place = self.words[scene.place]
        if glitch:
            out[:, -1] = 1.0
            return out
        out[:, -1] = 0.1
        things = event.things if event else ()
        rods = out[-RODS:]
        rods[:, place] = 1.0
        for thing in things:
            rods[:, self.thing(thing)] += rng.uniform(0.02, 0.15, (RODS, 1))
        if kept:
            cones = out[:-RODS]
            cones[:, place] = rng.uniform(0.3, 1.0)
            pure = np.zeros((len(things) + 1, self.size + 1), np.float32)
            for i, thing in enumerate(things):
                pure[i, self.thing(thing)] = 1.0
                cones[:POOLED, self.thing(thing)] += 1.5 * OVERLAP[:, CELLS.index(thing.cell), None]
            if len(things):
                # eight prototypes: every thing once, the rest background, halves of things and mixtures
                many, few = PROTOTYPES
                which = np.concatenate([np.arange(len(things)), rng.integers(0, len(things) + 1, many - len(things))])
                if rng.random() < 0.15:
                    which[0] = rng.integers(0, len(things) + 1)
                which.sort()
                mix = np.eye(len(things) + 1, dtype=np.float32)[which] * rng.uniform(0.5, 1.1, (many, 1))
                mixed = rng.random(many) < 0.3
                mix += mixed[:, None] * rng.dirichlet(np.ones(len(things) + 1), many) * 0.7
                group = rng.integers(0, few, many)
                coarse = np.stack([mix[group == g].mean(0) if (group == g).any() else mix[g] for g in range(few)])
                cones[POOLED:] += np.concatenate([mix, coarse]) @ pure
        return out

    def stream(self, video: WorldVideo, rng, kept=None) -> np.ndarray:
        if kept is None:
            kept = choose_kept(video, rng)
        return np.concatenate([self.frame(video, t, t in kept, rng) for t in range(video.length)])


def choose_kept(video: WorldVideo, rng) -> set[int]:
    kept = {int(rng.choice(scene.event.frames)) for scene in video.eventful}
    rest = [t for t in range(video.length) if t not in kept]
    if rest and video.length > 1:
        third = rng.choice(video.glitches) if video.glitches and rng.random() < 0.4 else rng.choice(rest)
        kept.add(int(third))
    return kept
