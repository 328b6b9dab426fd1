"""Ask a trained model about any video or image: video -> sketch -> focus -> tokens -> answer."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from dynfocus.errors import ConfigError
from dynfocus.nn.folders import trained_config
from dynfocus.nn.model import DynFocusModel
from dynfocus.pretrained import DynFocusProcessor, trained_rule
from dynfocus.processor import Example
from dynfocus.records import Row, Turn
from dynfocus.sketches.cache import SketchCache, Sketched
from dynfocus.sketches.clips import media_stamp
from dynfocus.sketches.digests import Stamp
from dynfocus.sketches.encoders import EncoderFolder
from dynfocus.video import Clip, read_media


@dataclass(frozen=True)
class Answer:
    """What the model says, the frames it kept with their time stamps, and what the video cost.

    Attributes:
        answer: the text.
        frames: T, frames that were read.
        kept: indices of the kept frames, in time order.
        seconds: their time stamps.
        visual_tokens: tokens the video cost.
    """

    answer: str
    frames: int
    kept: tuple[int, ...]
    seconds: tuple[float, ...]
    visual_tokens: int


class Answerer:
    """A trained model and the way it reads videos, from the folder that stage 2 leaves.

    A second question about a video costs no decoding, while the file stays the same, and no run of the vision encoder
    unless the model reads each frame under the question: then frames are kept in place of sketches.

    Args:
        folder: the trained model's.
        cache: folder where sketches are kept for the next time; without one they are kept in memory alone.
        remembered: how many videos' sketches are kept in memory.

    Raises:
        CheckpointError: if there is no trained model.
        ConfigError: if a cache is given to a model that has no use for sketches.
    """

    def __init__(self, folder: Path, cache: Path | None = None, remembered: int = 4) -> None:
        self.processor = DynFocusProcessor.from_pretrained(folder)
        self.cache = None if cache is None else trained_cache(folder, cache)
        self.model = DynFocusModel.from_folder(folder).eval()
        if self.cache is not None:
            self.cache.device, self.cache.tower = self.model.device, self.model.vision
        self.remembered = remembered
        self.known: dict[Stamp, Sketched | Clip] = {}

    @torch.no_grad()
    def ask(self, video: Path, question: str, max_new_tokens: int = 16) -> Answer:
        """Answer one question greedily; raises VideoError if the file cannot be read."""
        seen = self.read(video)
        row = Row(str(video), 0, str(video), (Turn(question, None),))
        shown = Example(row, seen.sketch) if isinstance(seen, Sketched) else Example(row, frames=seen.frames)
        batch = replace(self.processor.collate, new_tokens=max_new_tokens)([shown])
        ids, tokens = self.model.answer(batch, max_new_tokens=max_new_tokens)
        kept = [] if tokens.focus is None else tokens.focus.frames[0].tolist()
        return Answer(
            self.processor.decode(ids[0], skip_special_tokens=True).strip(),
            len(seen.seconds),
            tuple(kept),
            tuple(float(seen.seconds[frame]) for frame in kept),
            int(tokens.mask.sum()),
        )

    def read(self, video: Path) -> Sketched | Clip:
        """A video's or image's sketch, or its frames where these are kept, from memory if it was asked about lately.

        Raises:
            VideoError: if the file cannot be read.
        """
        key = media_stamp(video)
        found = self.known.pop(key, None)
        if found is None and self.cache is not None:
            found = self.cache.read(video)
        elif found is None:
            clip = read_media(video, self.processor.frame_rule)
            sketched = self.model.settings.instruction_mode == "instruction"
            found = Sketched(self.model.sketch(clip.frames), clip.seconds) if sketched else clip
        self.known[key] = found
        for oldest in list(self.known)[: -self.remembered]:
            del self.known[oldest]
        return found


def trained_cache(folder: Path, cache: Path) -> SketchCache:
    """The sketch cache in ``cache`` for a trained model's folder.

    Raises:
        CheckpointError: if there is no trained model in the folder.
        ConfigError: if the model reads each frame under the question, so that no sketch serves a second one.
    """
    settings = trained_config(Path(folder)).settings
    if settings.instruction_mode == "frame":
        raise ConfigError(
            f"a sketch cache for the model in {folder}, whose instruction_mode is frame",
            "a model whose sketches do not hang on the question",
            "Leave the cache out: every question needs the vision encoder.",
        )
    return SketchCache(cache, EncoderFolder(folder), settings, trained_rule(Path(folder)))
