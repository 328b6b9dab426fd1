"""Make symbolic streams: what the visual tokens of a video mean, as weights over words, without pixels."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dynfocus.world.videos import CELLS, Event, Thing, WorldVideo

Weights = NDArray[np.float32]

# What the connector gives in the embedded world: pooled quarters and the prototypes of two layers for each of three
# kept frames, and two rods for every frame.
KEPT = 3
POOLED = 4
PROTOTYPES = (8, 3)
RODS = 2
QUIET = 0.1


def _overlap() -> Weights:
    """Compute the share of each quarter of a frame that each cell of the 3 x 3 grid covers: ``[4, 9]``."""
    row, column = np.divmod(np.arange(36), 6)
    out = np.zeros((POOLED, len(CELLS)), np.float32)
    np.add.at(out, ((row // 3) * 2 + column // 3, (row // 2) * 3 + column // 2), 1 / 9)
    return out


OVERLAP = _overlap()


class SymbolicEye:
    """Turns a world's videos into tokens of weights over the vocabulary, as if a perfect connector had read them.

    Args:
        vocabulary: the language model's words and their ids.

    A token is a row of weights ``[V + 1]``: over words, and last the strength of its noise. A thing is one token, the
    sum of its three words; pooled tokens and some prototypes mix things and the place, rods say little but the place,
    and glitches are noise.
    """

    def __init__(self, vocabulary: Mapping[str, int]) -> None:
        self.vocabulary = vocabulary

    def film(self, video: WorldVideo, rng: np.random.Generator) -> Weights:
        """Make the stream of a video or image in time order, ``[S, V + 1]``: 85 tokens for 20 frames, 17 for one."""
        kept_frames = _pick_kept_frames(video, rng)
        return np.concatenate([self.frame(video, frame, frame in kept_frames, rng) for frame in range(video.length)])

    def glimpse(self, video: WorldVideo, rng: np.random.Generator) -> Weights:
        """Make the rods alone, of one to three frames of each scene, to learn the order of places from."""
        frames = [t for scene in video.scenes for t in range(scene.start, scene.start + int(rng.integers(1, 4)))]
        return np.concatenate([self.frame(video, frame, False, rng) for frame in frames])

    def frame(self, video: WorldVideo, frame: int, is_kept: bool, rng: np.random.Generator) -> Weights:
        """Make the tokens of one frame: 15 cones if it is kept, and 2 rods."""
        scene = video.scene_at(frame)
        event = scene.event if scene.event and frame in scene.event.frames else None
        cones = POOLED + sum(PROTOTYPES) if is_kept else 0
        out = np.zeros((cones + RODS, len(self.vocabulary) + 1), np.float32)
        if frame in video.glitches:
            out[:, -1] = 1
            return out
        out[:, -1] = QUIET
        out[:cones, self.vocabulary[scene.place]] = rng.uniform(0.3, 1)
        out[cones:, self.vocabulary[scene.place]] = 1
        if event:
            for thing in event.things:
                out[cones:, self._words(thing)] += rng.uniform(0.02, 0.15, (RODS, 1))
            if is_kept:
                self._mix(out[:cones], event, rng)
        return out

    def _words(self, thing: Thing) -> list[int]:
        return [self.vocabulary[word] for word in (thing.color, thing.shape, thing.cell)]

    def _mix(self, cones: Weights, event: Event, rng: np.random.Generator) -> None:
        """Put an event's things into the cones of a kept frame."""
        pure = np.zeros((len(event.things) + 1, cones.shape[1]), np.float32)  # the last row stays background
        for row, thing in zip(pure, event.things, strict=False):
            row[self._words(thing)] = 1
            cones[:POOLED, self._words(thing)] += 1.5 * OVERLAP[:, CELLS.index(thing.cell), None]
        many, few = PROTOTYPES
        which = np.concatenate([np.arange(len(event.things)), rng.integers(0, len(pure), many - len(event.things))])
        if rng.random() < 0.15:
            which[0] = rng.integers(0, len(pure))  # a thing that clustering missed
        which.sort()
        mix = np.eye(len(pure), dtype=np.float32)[which] * rng.uniform(0.5, 1.1, (many, 1))
        mix += (rng.random((many, 1)) < 0.3) * rng.dirichlet(np.ones(len(pure)), many) * 0.7
        groups = rng.integers(0, few, many)
        coarse = [mix[groups == group].mean(0) if (groups == group).any() else mix[group] for group in range(few)]
        cones[POOLED:] += np.concatenate([mix, np.stack(coarse)]) @ pure


def _pick_kept_frames(video: WorldVideo, rng: np.random.Generator) -> set[int]:
    """Pick one frame of each event and another one, often a glitch."""
    frames = {int(rng.choice(scene.event.frames)) for scene in video.eventful if scene.event}
    rest = [frame for frame in range(video.length) if frame not in frames]
    if rest and len(frames) < KEPT:
        frames.add(int(rng.choice(video.glitches if video.glitches and rng.random() < 0.4 else rest)))
    return frames
