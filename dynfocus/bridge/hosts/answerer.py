"""Ask any host about a video: its own tower encodes every frame once, a selector chooses, the host answers."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, get_args

import torch
from transformers import LogitsProcessorList

from dynfocus.bridge.choose import FrameChooser, SketchedVideo
from dynfocus.bridge.hosts.defaults import OwnDefault, count_default
from dynfocus.bridge.hosts.features import HostFeatures, check_rods
from dynfocus.bridge.hosts.folder import load_host
from dynfocus.bridge.hosts.processor_calls import Pair
from dynfocus.bridge.hosts.sketches import HostSketches
from dynfocus.bridge.hosts.store import FeatureStore
from dynfocus.budget import HostBudget, most_kept
from dynfocus.device import choose_device
from dynfocus.errors import ConfigError, PromptError
from dynfocus.inspection.answer import Answer, Timing
from dynfocus.inspection.answerer import stamp
from dynfocus.models.watching import Watch
from dynfocus.records.rows import FrameFiles, Row
from dynfocus.records.selections import Selection
from dynfocus.settings import FrameRule, SelectorChoice
from dynfocus.video.clip import find_media, pick_segment_frames
from dynfocus.video.images import pick_frame_files
from dynfocus.video.media import AnyMedia, Media
from dynfocus.video.numbered import NumberedFiles, NumberedFrames
from dynfocus.video.resizing import resize_frame
from dynfocus.video.thumbnails import Thumbnails


@dataclass(frozen=True)
class HostRule:
    """How frames are shown to a host.

    Attributes:
        keep: K, frames that are given in full; all, where there are fewer.
        rods: averaged tokens of every other frame: 0, 1, 2 or 4.
        budget: visual tokens that a video may cost; None for no limit. As many frames are kept as fit, K at most.
        pair: what shares a patch with a frame, where the tower reads two frames as one: itself, or the ``next`` one.
        fps: frames that are looked at each second; None for every frame of the file.
        frames: frames of a video that are looked at, at most.
    """

    keep: int = 8
    rods: int = 0
    budget: int | None = None
    pair: Pair = "same"
    fps: float | None = 1.0
    frames: int = 128

    def __post_init__(self) -> None:
        for name in ("keep", "frames") + ("budget",) * (self.budget is not None):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name} {getattr(self, name)}", "at least 1", f"Raise --{name}.")
        if self.pair not in get_args(Pair):
            raise ConfigError(f"--pair {self.pair}", f"one of {', '.join(get_args(Pair))}", "Correct --pair.")
        check_rods(self.rods)


@dataclass(frozen=True)
class EncodedVideo:
    """A video of which every frame is encoded, and what the host makes of it by itself."""

    sketched: SketchedVideo
    features: HostFeatures
    seconds: tuple[float, ...]
    budget: HostBudget
    default: OwnDefault


class HostAnswerer:
    """A host, a selector that reads the host's own features, and the videos that were asked about lately.

    Args:
        folder: of the host.
        selector: a name, a dotted path, or either with settings; None for ``uniform``.
        rule: how frames are shown.
        cache: folder where features are kept for the next time; without one they are kept in memory alone.
        remembered: how many videos' features are kept in memory.
        device: ``cpu``, ``cuda``, or ``auto``: a GPU where there is one.
        threads: that decode a video, see `read_clip`.

    Raises:
        ConfigError: if the host is of no known family, or the selector lacks what it reads.
        CheckpointError: if there is no such model in the folder.
    """

    def __init__(
        self,
        folder: Path,
        selector: SelectorChoice | None = None,
        rule: HostRule = HostRule(),
        cache: Path | None = None,
        remembered: int = 4,
        device: str = "cpu",
        threads: int = 1,
    ) -> None:
        self.rule, self.remembered, self.threads = rule, remembered, threads
        self.host = load_host(folder, choose_device(device), rule.pair)
        if rule.pair == "next" and self.host.frames_per_patch == 1:
            kind = self.host.model.config.model_type
            raise ConfigError(f"--pair next with a {kind}", "a host that reads two frames as one", "Leave --pair out.")
        self.chooser = FrameChooser(selector, HostSketches(self.host, folder), rule.fps, rule.frames)
        self.store = None if cache is None else FeatureStore(cache, folder)
        self.folder = folder
        self.recent: dict[object, EncodedVideo] = {}
        self.encoded = 0  # how often something was read, as memory did not hold it

    def open_chooser(self, selector: SelectorChoice, seed: int = 0, truth: bool = False) -> FrameChooser:
        """Another selector on the same features, see `FrameChooser`; raises ConfigError if it lacks what it reads."""
        return FrameChooser(selector, self.chooser.features, self.rule.fps, self.rule.frames, seed, truth)

    @property
    def frame_rule(self) -> FrameRule:
        """Which frames of a video are looked at, and the square that they become."""
        return self.chooser.rule

    @property
    def settings(self) -> dict[str, object]:
        """Every setting that an answer hangs on, by its name."""
        rule = {f"frame_rule.{name}": value for name, value in asdict(self.frame_rule).items()}
        own = {"host": self.host.model.config.model_type, "selector": self.chooser.label}
        shown = {name: getattr(self.rule, name) for name in ("keep", "rods", "budget", "pair")}
        return own | shown | rule | {"device": str(self.host.device)}

    def read(self, media: AnyMedia) -> EncodedVideo:
        """A video, an image, a segment or several images with every frame encoded; from memory if it was asked lately.

        Raises:
            VideoError: if the file cannot be read.
            ConfigError: if no frame fits the budget.
        """
        key = stamp(media)
        self.encoded += key not in self.recent
        encoded = self.recent.pop(key, None) or self._read(media)
        self.recent[key] = encoded
        for oldest in list(self.recent)[: -self.remembered]:
            del self.recent[oldest]
        return encoded

    @torch.no_grad()
    def ask(
        self,
        video: Media,
        question: str,
        max_new_tokens: int = 16,
        chooser: FrameChooser | None = None,
        watch: Watch | None = None,
        drawn: LogitsProcessorList | None = None,
        needed: Collection[int] | None = None,
    ) -> Answer:
        """Answer one question.

        Args:
            video: what it is about; None asks without a video.
            question: the text.
            max_new_tokens: most tokens of the answer.
            chooser: keeps the frames, instead of the selector that was named first.
            watch: called with the answer so far after each token; where it returns true, the answer ends.
            drawn: see `Host.generate`.
            needed: numbers of the frames that the question needs, where they are known.

        Raises:
            VideoError: if the file cannot be read.
            SelectorError: if the selector fails.
            PromptError: if the question holds what stands for a video.
        """
        begin = perf_counter()
        known = None if video is None else self.read(video)
        read = perf_counter()
        if known is None:
            inputs, selection = self.host.text_inputs(question), Selection((), (), 0, 0, kept_rods=0)
        else:
            inputs, selection = self._show(known, question, chooser or self.chooser, needed)
        ids = self.host.generate(inputs, max_new_tokens, watch, drawn).tolist()
        text = self.host.processor.tokenizer.decode(ids, skip_special_tokens=True).strip()
        return Answer(
            question,
            text,
            len(ids) == max_new_tokens and not self.host.ends(ids[-1]),
            selection,
            inputs["input_ids"].shape[1],
            Timing(read - begin, perf_counter() - read),
            default=None if known is None else (known.default.frames, known.default.tokens),
            visual_tokens=selection.visual_tokens,
            new_tokens=len(ids),
        )

    def _show(
        self, known: EncodedVideo, question: str, chooser: FrameChooser, needed: Collection[int] | None
    ) -> tuple[dict[str, Any], Selection]:
        """What the host reads of a video for a question, and which frames that shows."""
        picked = chooser.choose(known.sketched, question, known.budget.kept, needed)
        places = {number: place for place, number in enumerate(known.sketched.candidates)}
        kept = tuple(places[number] for number in picked.frames)
        parts = self.host.show(known.features, known.seconds, kept, self.rule.rods)
        spent = self._count(len(known.seconds), len(kept))
        cost = spent.cones + spent.closing, spent.rods
        selection = Selection(known.seconds, kept, *cost, kept_rods=0, own_scores=picked.scores or ())
        return self.host.feature_inputs(parts, picked.duration, question), selection

    def answer(self, row: Row, media: Media, max_new_tokens: int = 16, watch: Watch | None = None) -> Answer:
        """Answer a conversation of one question about a video, or about images, which count as frames one a second.

        Raises as `ask` does, and PromptError if the conversation has another form.
        """
        if media is None or len(row.turns) > 1 or row.system is not None:
            raise PromptError(
                "a conversation of several questions, with a system's message, or about nothing that is shown",
                "one question about one video, or about images, which is what a host is asked here",
                "Leave out the rest.",
            )
        return self.ask(media, row.turns[0].question, max_new_tokens, watch=watch)

    def answer_batch(self, asked: Sequence[tuple[Row, Media]], max_new_tokens: int = 16) -> list[Answer]:
        """Answer several conversations one after the other; raises as `answer` does."""
        return [self.answer(row, media, max_new_tokens) for row, media in asked]

    def thumbnails(self, video: Path, answer: Answer) -> Thumbnails:
        """The frames that an answer about this video rests on, for a person to look at."""
        return Thumbnails(video, answer.selection.seconds, self.frame_rule)

    def _count(self, frames: int, keep: int) -> HostBudget:
        side = self.frame_rule.size
        return self.host.budget(frames, keep, self.rule.rods, side, side)

    def _read(self, media: AnyMedia) -> EncodedVideo:
        rule = self.frame_rule
        video, candidates = open_frames(media, rule, self.threads)
        count = len(candidates)
        most = min(self.rule.keep, count)
        if self.rule.budget is not None:
            most = min(most, most_kept(count, lambda keep: self._count(count, keep), self.rule.budget))

        def encode() -> HostFeatures:
            frames = torch.stack(video.read(candidates, lambda pixels: resize_frame(pixels, rule, video.shown_pixel)))
            beside = torch.cat([frames[1:], frames[-1:]]) if self.rule.pair == "next" else frames
            return self.host.encode(frames, most, beside)

        features = encode() if self.store is None else self.store.read(self._key(media, most), encode)
        sketches: Any = self.chooser.features
        seconds = tuple(float(video.times[number]) for number in candidates)
        sketched = SketchedVideo(video, tuple(candidates), sketches.average(features))
        default = count_default(self.host, video)
        return EncodedVideo(sketched, features, seconds, self._count(count, most), default)

    def _key(self, media: AnyMedia, together: int) -> str:
        shared = together if self.host.family.shared else None  # how large frames are hangs on how many are kept
        shown = media if isinstance(media, FrameFiles) else find_media(media)
        further: dict[str, Any] = {"pair": self.rule.pair, "together": shared, "start": shown.start, "end": shown.end}
        if not isinstance(shown, FrameFiles):
            return self.store.key((shown.path,), self.frame_rule, **further)  # type: ignore[union-attr]
        further |= {"seconds": shown.seconds, "is_album": shown.is_album}
        return self.store.key(shown.paths, self.frame_rule, **further)  # type: ignore[union-attr]


def open_frames(media: AnyMedia, rule: FrameRule, threads: int = 1) -> tuple[NumberedFrames, list[int]]:
    """All frames of what is shown, and the numbers of those that are looked at; raises VideoError."""
    if isinstance(media, FrameFiles):
        return NumberedFiles(media, rule), pick_frame_files(media, rule)
    segment = find_media(media)
    video = NumberedFrames(segment.path, rule, threads)
    return video, pick_segment_frames(video.times, rule, segment)
