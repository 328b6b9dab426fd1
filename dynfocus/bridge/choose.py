"""Choose frames of a video with any selector, for any program: no language model is needed."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Any
from zlib import crc32

import torch
from torch import nn

from dynfocus.bridge.features import Features, open_features, with_selector
from dynfocus.bridge.picked import Picked, pick
from dynfocus.bridge.requirements import check_features, check_keep, check_question, find_needs
from dynfocus.errors import SelectorError
from dynfocus.method.selection import score_frames
from dynfocus.method.selectors import build_selector, check_selector, choose
from dynfocus.settings import FrameRule, SelectorChoice, selector_label
from dynfocus.types import Focus, FrameSketch, SelectorInputs
from dynfocus.video import pick_frames
from dynfocus.video.numbered import NumberedFrames
from dynfocus.video.resizing import resize_frame

KEEP = 8
FRAME_TOKENS = 256  # what a frame costs a model that reads all patches of EVA ViT-G; each model has its own number


@dataclass(frozen=True)
class SketchedVideo:
    """The candidate frames of a video, sketched once for any number of questions.

    Attributes:
        video: the file.
        candidates: numbers of the frames that may be kept, ascending.
        sketch: of these frames.
        decoding, encoding: the seconds that reading and resizing the frames took, and sketching them.
    """

    video: NumberedFrames
    candidates: tuple[int, ...]
    sketch: FrameSketch
    decoding: float = 0.0
    encoding: float = 0.0


@dataclass(frozen=True)
class Ranking:
    """A score for each frame that may be kept, of which the K best are kept, whatever K is.

    Attributes:
        frames: their numbers in the file, ascending.
        scores: of each; the higher, the better, and equal scores rank by time.
    """

    frames: tuple[int, ...]
    scores: tuple[float, ...]

    def cut(self, keep: int) -> tuple[int, ...]:
        """The numbers of the ``keep`` best frames, ascending; all, where there are fewer."""
        order = sorted(range(len(self.frames)), key=lambda place: (-self.scores[place], place))
        return tuple(sorted(self.frames[place] for place in order[:keep]))


class FrameChooser:
    """One selector on one kind of features: sketches videos, and chooses frames of them.

    Args:
        selector: a name, a dotted path, or either with settings, as ``connector.selector`` takes them; None for the
            trained model's own where there is one, else ``uniform``.
        features: what the selector reads.
        fps: candidate frames a second; None for the trained model's own rate, or 2.
        frames: candidate frames of a video, at most; None for as many as the model was trained on, or 512.
        seed: of what the selector draws by chance.
        truth: whether `choose` will be told which frames a question needs, which controls such as ``oracle`` read.
        threads: that decode a video, see `read_clip`.

    Raises:
        ConfigError: if there is no such selector, or the features lack what it reads.
    """

    def __init__(
        self,
        selector: SelectorChoice | None,
        features: Features,
        fps: float | None = None,
        frames: int | None = None,
        seed: int = 0,
        truth: bool = False,
        threads: int = 1,
    ) -> None:
        self.threads = threads
        choice = selector or features.default_selector()
        self.features, self.label, self.seed = features, selector_label(choice), seed
        given: dict[str, Any] = {name: value for name, value in (("fps", fps), ("frames", frames)) if value is not None}
        self.rule: FrameRule = replace(features.rule, **given)
        self.settings = with_selector(features.settings, choice)
        check_selector(choice, "--selector (selector= in Python)")
        self.selector = build_selector(self.settings, features.width, features.text_width)
        self.reads = find_needs(self.selector)
        check_features(replace(self.reads, truth=self.reads.truth and not truth), self.label, features)
        if self.reads.network:
            features.load_weights(self.selector)
        self.selector.eval().requires_grad_(False)

    @property
    def description(self) -> str:
        """What the selector reads of a video: the features, and the rule of its candidate frames."""
        rate = "all frames" if self.rule.fps is None else f"candidates at {self.rule.fps:g} fps"
        most = "" if self.rule.frames is None else f", at most {self.rule.frames}"
        return f"{self.features.name}; {rate}{most}"

    def sketch(self, path: Path | str, skip: int = 0) -> SketchedVideo:
        """Decode the candidate frames of a video or image once, and sketch them.

        Args:
            path: the file.
            skip: how many frames at the start of the file are left out, as if it began with the next one.

        Raises:
            VideoError: if the file cannot be read.
            FeatureError: if its features are not finite.
        """
        begin = perf_counter()
        video = NumberedFrames(path, self.rule, self.threads)
        times = video.times[skip:]
        candidates = [skip + place for place in pick_frames(times - times[0], self.rule)]
        frames = video.read(candidates, lambda pixels: resize_frame(pixels, self.rule, video.shown_pixel))
        decoded = perf_counter()
        sketch = self.features.sketch(torch.stack(frames))
        return SketchedVideo(video, tuple(candidates), sketch, decoded - begin, perf_counter() - decoded)

    def choose(
        self, sketched: SketchedVideo, question: str | None, keep: int, needed: Collection[int] | None = None
    ) -> Picked:
        """Keep ``keep`` of the candidates; all of them, where there are fewer.

        ``needed`` are the numbers of the frames that the question needs, where they are known.

        Raises:
            ConfigError: if the selector reads the question and there is none, or cannot keep so many.
            SelectorError: if the selector fails.
        """
        focus = self._focus(sketched, question, keep, needed)
        return pick(sketched.video, _kept(focus, sketched), _scores(focus, sketched), sketched.candidates)

    def rank(self, sketched: SketchedVideo, question: str | None, keep: int) -> Ranking:
        """Score the frames that may be kept, so that any number of them can be cut off later.

        Raises:
            SelectorError: if the K best by its scores are not the frames that the selector keeps, for this K and for
                another: it chooses a set of frames, or its scores depend on K.
        """
        most = self._most(sketched)
        rankings: list[Ranking] = []
        for count in dict.fromkeys((keep, max(1, min(most, 2 * keep)), max(1, keep // 2))):
            focus = self._focus(sketched, question, count)
            ranking = _ranking(focus, sketched)
            kept = tuple(_kept(focus, sketched))
            if ranking is None or ranking.cut(count) != kept or (rankings and ranking.scores != rankings[0].scores):
                raise SelectorError(
                    f"selector {self.label}, whose choice of {count} frames does not follow from one score a frame",
                    "a selector that ranks single frames, alike for every number of frames that are kept",
                    "Leave the scores out and call it once for each number of frames, or name another selector.",
                )
            rankings.append(ranking)
        return rankings[0]

    def _focus(
        self, sketched: SketchedVideo, question: str | None, keep: int, needed: Collection[int] | None = None
    ) -> Focus:
        check_question(self.reads, self.label, question)
        check_keep(keep)
        count = len(sketched.candidates)
        keep = min(keep, self._most(sketched))
        read = self.features.read_question(question, sketched.sketch)
        rows = torch.zeros(1, dtype=torch.long)
        relevant = None if needed is None else torch.tensor([[frame in needed for frame in sketched.candidates]])
        inputs = SelectorInputs((count,), (keep,), rows, 0, read.tokens, read.mask, relevant, read.relevance)
        return choose_repeatably(self.selector, sketched.sketch, inputs, sketched.video.path.name, question, self.seed)

    def _most(self, sketched: SketchedVideo) -> int:
        """How many frames the selector can keep: of a selector of events, one of each."""
        count = len(sketched.candidates)
        return min(count, self.settings.events) if self.reads.events else count


def select(
    video: Path | str,
    question: str | None = None,
    keep: int = KEEP,
    selector: SelectorChoice | None = None,
    *,
    model: Path | None = None,
    encoder: Path | None = None,
    host: Path | None = None,
    fps: float | None = None,
    frames: int | None = None,
    device: str = "cpu",
) -> Picked:
    """Choose ``keep`` frames of a video for a question, or for none, with any selector.

    What was opened last is kept for the next call with the same selector and folders.

    Args:
        video: any video or image file.
        question: what the frames are chosen for; selectors that read no question ignore it.
        keep: K', frames that are kept; where there are fewer candidates, all are.
        selector: see `FrameChooser`.
        model: folder of a trained DynFocus model, whose sketches the selector reads.
        encoder: folder of CLIP or SigLIP.
        host: folder of a video language model, whose own tower encodes the frames. Of these three one may be named;
            without any the selector reads small averaged pixels.
        fps: candidate frames a second; None for the model's own rate, and 2 without a model.
        frames: candidate frames, at most, evenly over the video; None for the model's own number, and 512 without one.
        device: ``cpu``, ``cuda`` or ``auto``.

    Raises:
        ConfigError: if the selector is unknown, lacks what it reads, or ``keep`` is below 1.
        VideoError: if the file cannot be read.
    """
    check_keep(keep)
    chooser = _open_chooser(_Hashable(selector), model, encoder, host, fps, frames, device)
    return chooser.choose(chooser.sketch(video), question, keep)


def choose_repeatably(
    selector: nn.Module, sketch: FrameSketch, inputs: SelectorInputs, name: str, question: str | None, seed: int = 0
) -> Focus:
    """Choose so that what a selector draws follows from the seed, the video's file name and the question alone."""
    row = torch.tensor([crc32(f"{name}\n{question}".encode("utf-8", "replace"))])
    with torch.no_grad(), torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(seed)  # that of the CPU alone, where sketches lie: of all it takes longer
        return choose(selector, sketch, replace(inputs, rows=row))


class _Hashable:
    """A choice of a selector as a key: choices with settings are dicts."""

    def __init__(self, choice: SelectorChoice | None) -> None:
        self.choice = choice

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hashable) and self.choice == other.choice

    def __hash__(self) -> int:
        return hash(repr(self.choice))


@lru_cache(maxsize=1)
def _open_chooser(
    choice: _Hashable,
    model: Path | None,
    encoder: Path | None,
    host: Path | None,
    fps: float | None,
    frames: int | None,
    device: str,
) -> FrameChooser:
    return FrameChooser(choice.choice, open_features(model, encoder, device, host), fps, frames)


def _kept(focus: Focus, sketched: SketchedVideo) -> list[int]:
    places = focus.frames[0][focus.mask[0]].tolist()
    return [sketched.candidates[place] for place in places]


def _scores(focus: Focus, sketched: SketchedVideo) -> tuple[float, ...] | None:
    scores = score_frames(focus)
    return None if scores is None else tuple(scores[0, : len(sketched.candidates)].tolist())


def _ranking(focus: Focus, sketched: SketchedVideo) -> Ranking | None:
    """Scores of the frames that may be kept: of a selector of events their representatives, else all candidates."""
    if focus.events is not None and focus.scores is not None:
        real = focus.events.mask[0]
        places, scores = focus.events.frames[0][real].tolist(), focus.scores[0][real].tolist()
    elif (by_frame := _scores(focus, sketched)) is not None:
        places, scores = list(range(len(by_frame))), list(by_frame)
    else:
        return None
    return Ranking(tuple(sketched.candidates[place] for place in places), tuple(scores))
