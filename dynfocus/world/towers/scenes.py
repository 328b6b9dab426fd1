"""Make symbolic streams: what the visual tokens of a video mean, as weights over words, without pixels."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dynfocus.world.towers.layouts import DYNFOCUS, PATCHES, POOLED, Layout
from dynfocus.world.videos import CELLS, Event, Thing, WorldVideo

Weights = NDArray[np.float32]

KEPT = 3  # frames that DynFocus keeps of a video of the world by default
MOST_KEPT = 8
QUIET = 0.1


def _overlap() -> Weights:
    """Compute the share of each quarter of a frame that each cell of the 3 x 3 grid covers: ``[4, 9]``."""
    row, column = np.divmod(np.arange(PATCHES), 6)
    out = np.zeros((POOLED, len(CELLS)), np.float32)
    np.add.at(out, ((row // 3) * 2 + column // 3, (row // 2) * 3 + column // 2), 1 / 9)
    return out


OVERLAP = _overlap()


def _cover() -> Weights:
    """Compute which cell of the 3 x 3 grid each patch lies in: ``[36, 9]``, 0 or 1."""
    row, column = np.divmod(np.arange(PATCHES), 6)
    return np.eye(len(CELLS), dtype=np.float32)[(row // 2) * 3 + column // 2]


COVER = _cover()


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

    def film(
        self,
        video: WorldVideo,
        rng: np.random.Generator,
        layout: Layout = DYNFOCUS,
        needed: Sequence[Sequence[int]] | None = None,
    ) -> Weights:
        """Make the stream of a video or image in time order, ``[S, V + 1]``.

        By default these are 85 tokens for the 20 frames of an easy video, 17 for one frame. One frame of each event is
        kept; with ``needed`` one of each of these segments, and further ones at random.
        """
        kept = _pick_kept_frames(video, rng) if needed is None else _pick_needed_frames(video, needed, rng)
        parts = [self.frame(video, frame, frame in kept, rng, layout) for frame in range(video.length)]
        return np.concatenate(parts)

    def glimpse(self, video: WorldVideo, rng: np.random.Generator) -> Weights:
        """Make the rods alone, of one to three frames of each scene, to learn the order of places from."""
        frames: list[int] = []
        for scene in video.scenes:
            stop = scene.start + int(rng.integers(1, 4))
            frames += range(scene.start, min(stop, scene.stop))
        return np.concatenate([self.frame(video, frame, False, rng) for frame in frames])

    def frame(
        self, video: WorldVideo, frame: int, is_kept: bool, rng: np.random.Generator, layout: Layout = DYNFOCUS
    ) -> Weights:
        """Make the tokens of one frame: by default 15 cones if it is kept, and 2 rods."""
        scene = video.scene_at(frame)
        event = scene.event if scene.event and frame in scene.event.frames else None
        cones, rods = layout.count_cones(is_kept), layout.count_rods(is_kept)
        out = np.zeros((cones + rods, len(self.vocabulary) + 1), np.float32)
        if frame in video.glitches:
            out[:, -1] = 1
            return out
        out[:, -1] = QUIET
        out[:cones, self.vocabulary[scene.place]] = rng.uniform(0.3, 1)
        out[cones:, self.vocabulary[scene.place]] = 1
        if event:
            for thing in event.things:
                out[cones:, self._words(thing)] += rng.uniform(0.02, 0.15, (rods, 1))
            if layout.pooled:
                self._pool(out[:cones], event)
            elif is_kept and layout.cones == "patches":
                self._show_patches(out[:cones], event, rng)
            elif is_kept and layout.cones == "grains":
                self._mix(out[:cones], event, rng, layout.prototypes)
        return out

    def _words(self, thing: Thing) -> list[int]:
        return [self.vocabulary[word] for word in (thing.color, thing.shape, thing.cell)]

    def _pool(self, pooled: Weights, event: Event) -> None:
        """Put an event's things into the pooled quarters of a frame."""
        for thing in event.things:
            pooled[:, self._words(thing)] += 1.5 * OVERLAP[:, CELLS.index(thing.cell), None]

    def _show_patches(self, patches: Weights, event: Event, rng: np.random.Generator) -> None:
        """Put each thing into the patches of its cell."""
        for thing in event.things:
            strength = rng.uniform(0.4, 1.1, (PATCHES, 1))
            patches[:, self._words(thing)] += strength * COVER[:, CELLS.index(thing.cell), None]

    def _mix(self, cones: Weights, event: Event, rng: np.random.Generator, prototypes: tuple[int, int]) -> None:
        """Put an event's things into the cones of a kept frame."""
        self._pool(cones[:POOLED], event)
        pure = np.zeros((len(event.things) + 1, cones.shape[1]), np.float32)  # the last row stays background
        for row, thing in zip(pure, event.things, strict=False):
            row[self._words(thing)] = 1
        many, few = prototypes
        if many > len(event.things):
            which = np.concatenate([np.arange(len(event.things)), rng.integers(0, len(pure), many - len(event.things))])
        else:  # too few prototypes for the things and the background: some share one, which the mixing below shows
            which = rng.permutation(len(pure))[:many]
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


def _pick_needed_frames(video: WorldVideo, needed: Sequence[Sequence[int]], rng: np.random.Generator) -> set[int]:
    """Pick one frame of each segment, and up to `MOST_KEPT` in all: of other events, glitches and any others."""
    frames = {int(rng.choice(segment)) for segment in needed}
    shown = [frame for scene in video.eventful if scene.event for frame in scene.event.frames]
    pool = [shown, list(video.glitches), list(range(video.length))]
    for _ in range(int(rng.integers(0, MOST_KEPT + 1 - min(len(frames), MOST_KEPT)))):
        some = pool[int(rng.choice(3, p=(0.6, 0.1, 0.3)))]
        if some:
            frames.add(int(rng.choice(some)))
    return frames or {int(rng.integers(video.length))}
